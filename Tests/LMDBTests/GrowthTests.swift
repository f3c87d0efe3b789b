// A map that grows: under readers that stay, beside readers that come and go, and behind another process's back.

import Foundation
import LMDB
import Synchronization
import TestSupport
import Testing

@Suite struct GrowthTests {
  let scratch: ScratchFile

  init() throws { scratch = try ScratchFile() }

  /// As many values of 100 KiB as asked for, each in a transaction; one that finds the map full is tried again.
  private func fill(_ environment: LMDBEnvironment, _ rows: Table, _ numbers: Range<Int>) throws {
    for number in numbers {
      let value = [UInt8](repeating: UInt8(number % 251), count: 100 << 10)
      while true {
        do {
          try environment.write { try $0.put(rows, key(number), value) }
          break
        } catch let error as LMDBError where error.code == .mapFull {}
      }
    }
  }

  @Test func `a map grows far beyond its first size, and readers of before go on`() throws {
    let (environment, rows) = try scratch.opened {
      $0.mapSizeBytes = 256 << 10
      $0.mapGrows = true
    }
    try environment.write { try $0.put(rows, [1], [1, 2, 3]) }
    let old = try environment.reader()
    let cursor = try old.cursor(rows)
    #expect(try cursor.first())
    let isDone = Atomic(false)
    let reads = Atomic(0)
    let group = DispatchGroup()
    for _ in 0..<2 {
      group.enter()
      Thread.detachNewThread {
        while !isDone.load(ordering: .relaxed) {
          #expect(throws: Never.self) { try environment.reader().value(rows, [1]) }
          _ = environment.statistics
          reads.add(1, ordering: .relaxed)
        }
        group.leave()
      }
    }
    defer {
      isDone.store(true, ordering: .relaxed)
      group.wait()
      #expect(reads.load(ordering: .relaxed) > 10)
    }
    let first: [UInt8] = [1]
    let isLent: Bool? = try unsafe old.get(rows, key: first.span.bytes) { lent in
      try fill(environment, rows, 0..<150)
      return owned(lent) == [1, 2, 3]
    }
    #expect(isLent == true)
    #expect(environment.statistics.usedBytes > 15 << 20)
    #expect(try old.entryCount(rows) == 1)
    #expect(try old.value(rows, key(7)) == nil)
    #expect(try cursor.next() == false)
    let new = try environment.reader()
    for number in 0..<150 { #expect(try new.value(rows, key(number))?.last == UInt8(number % 251)) }
    #expect(try environment.verify().entries == 151)
    #expect(try environment.pagesFreed(after: 1) > 0)
  }

  @Test func `one transaction larger than the map fails, and finds a larger one when tried again`() throws {
    let (environment, rows) = try scratch.opened {
      $0.mapSizeBytes = 256 << 10
      $0.mapGrows = true
    }
    var failures = 0
    while true {
      do {
        try environment.write { writer in
          for number in 0..<40 { try writer.put(rows, key(number), [UInt8](repeating: 1, count: 100 << 10)) }
        }
        break
      } catch let error as LMDBError {
        #expect(error.code == .mapFull)
        failures += 1
      }
    }
    #expect((1...4).contains(failures))
    #expect(try environment.reader().entryCount(rows) == 40)
  }

  @Test func `what another process adds beyond the map is read and written on`() async throws {
    let (environment, rows) = try scratch.opened {
      $0.mapSizeBytes = 256 << 10
      $0.mapGrows = true
    }
    try environment.write { try $0.put(rows, [1], [1]) }
    let old = try environment.reader()
    for round in 0..<3 {
      await #expect(processExitsWith: .success) { [path = scratch.path as String, round = round as Int] in
        var options = LMDBEnvironment.Options(mapSizeBytes: 256 << 10)
        options.mapGrows = true
        let other = try LMDBEnvironment(path: path, options: options)
        let rows = try other.openTables(["rows"], create: false)[0]
        for number in 0..<10 {
          let value = [UInt8](repeating: 1, count: 200 << 10)
          do {
            try other.write { try $0.put(rows, key(round * 100 + number), value) }
          } catch let error as LMDBError where error.code == .mapFull {
            try other.write { try $0.put(rows, key(round * 100 + number), value) }
          }
        }
      }
      if round % 2 == 0 {
        #expect(try environment.reader().entryCount(rows) == 1 + 11 * round + 10)
        try environment.write { try $0.put(rows, key(round * 100 + 50), [2]) }
      } else {
        try environment.write { try $0.put(rows, key(round * 100 + 50), [2]) }
        #expect(try environment.reader().entryCount(rows) == 1 + 11 * round + 11)
      }
    }
    #expect(try old.entryCount(rows) == 1)
    #expect(try old.value(rows, [1]) == [1])
  }
}
