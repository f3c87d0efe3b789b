// Readers come from a pool: slots are reused, idle ones pin nothing, threads do not disturb each other.

import Foundation
import LMDB
import Synchronization
import Testing

@Suite struct ReaderPoolTests {
  let scratch: ScratchFile
  let environment: LMDBEnvironment
  let rows: Table

  init() throws {
    scratch = try ScratchFile()
    (environment, rows) = try scratch.opened { $0.maximumReaders = 16 }
    try environment.write { for number in 0..<1_000 { try $0.put(rows, key(number), key(number)) } }
  }

  @Test func `ten thousand reads one after another use one slot`() throws {
    for number in 0..<10_000 { #expect(try environment.reader().value(rows, key(number % 1_000)) != nil) }
    #expect(environment.statistics.readers == 1)
  }

  @Test func `as many slots are used as there were readers at once`() throws {
    for _ in 0..<100 {
      let readers = try (0..<5).map { _ in try environment.reader() }
      #expect(readers.count == 5)
    }
    #expect(environment.statistics.readers == 5)
  }

  @Test func `one reader too many is an error, and room again once one is released`() throws {
    var readers = try (0..<16).map { _ in try environment.reader() }
    #expect(code { _ = try environment.reader() } == .readersFull)
    readers.removeLast()
    #expect(try environment.reader().value(rows, key(1)) == key(1))
  }

  @Test func `a reader from the pool sees the newest state`() throws {
    for round in 1...50 {
      try environment.write { try $0.put(rows, [1], [UInt8(round)]) }
      #expect(try environment.reader().value(rows, [1]) == [UInt8(round)])
    }
  }

  @Test func `an idle reader pins nothing: the file does not grow`() throws {
    _ = try environment.reader().value(rows, key(1))
    func overwrite(times: Int) throws {
      for round in 0..<times {
        try environment.write { for number in 0..<1_000 { try $0.put(rows, key(number), [UInt8(round)]) } }
      }
    }
    try overwrite(times: 20)
    let settled = environment.statistics.usedBytes
    try overwrite(times: 200)
    #expect(environment.statistics.usedBytes <= settled)
  }

  @Test func `threads read whole states while another writes them`() throws {
    // From the first state to the last, all hundred keys have the same value.
    try environment.write { for number in 0..<100 { try $0.put(rows, key(number), [0, 0]) } }
    let finished = Atomic<Bool>(false)
    let reads = Atomic<Int>(0)
    let wrong = Atomic<Int>(0)
    let threads = DispatchGroup()
    let queue = DispatchQueue(label: "readers", attributes: .concurrent)
    for _ in 0..<4 {
      queue.async(group: threads) { [environment, rows] in
        while !finished.load(ordering: .relaxed) || reads.load(ordering: .relaxed) < 100 {
          do {
            let reader = try environment.reader()
            let first = try reader.value(rows, key(0))
            for number in 1..<100 where try reader.value(rows, key(number)) != first {
              wrong.add(1, ordering: .relaxed)
            }
          } catch {
            wrong.add(1, ordering: .relaxed)
          }
          reads.add(1, ordering: .relaxed)
        }
      }
    }
    for round in 0..<300 {
      try environment.write { writer in
        for number in 0..<100 { try writer.put(rows, key(number), [UInt8(round / 256), UInt8(round % 256)]) }
      }
    }
    finished.store(true, ordering: .relaxed)
    threads.wait()
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(reads.load(ordering: .relaxed) >= 100)
    #expect(environment.statistics.readers <= 4)
  }

  @Test func `writers on several threads wait for each other and lose nothing`() throws {
    let threads = DispatchGroup()
    let queue = DispatchQueue(label: "writers", attributes: .concurrent)
    let failures = Atomic<Int>(0)
    for _ in 0..<4 {
      queue.async(group: threads) { [environment, rows] in
        for _ in 0..<100 {
          do {
            try environment.write { writer in
              let count = try writer.value(rows, [1]).map { Int($0[0]) << 8 | Int($0[1]) } ?? 0
              try writer.put(rows, [1], [UInt8((count + 1) >> 8), UInt8((count + 1) & 255)])
            }
          } catch {
            failures.add(1, ordering: .relaxed)
          }
        }
      }
    }
    threads.wait()
    #expect(failures.load(ordering: .relaxed) == 0)
    #expect(try environment.reader().value(rows, [1]) == [UInt8(400 >> 8), UInt8(400 & 255)])
  }
}
