// Two processes with the same file: the other one is the child that runs an exit test's body.

import Foundation
import LMDB
import Testing

/// Ends the process with readers that nothing released.
func leaveReaders(_ count: Int, in environment: LMDBEnvironment) throws {
  for _ in 0..<count { _ = unsafe Unmanaged.passRetained(try environment.reader()) }
  _exit(7)
}

@Suite struct ProcessTests {
  let scratch: ScratchFile

  init() throws { scratch = try ScratchFile() }

  @Test func `the reader slots of a process that died are freed`() async throws {
    let (environment, rows) = try scratch.opened()
    try environment.write { try $0.put(rows, [1], [1]) }
    await #expect(processExitsWith: .exitCode(7)) { [path = scratch.path as String] in
      let other = try LMDBEnvironment(path: path, options: .init(mapSizeBytes: 16 << 20))
      try leaveReaders(2, in: other)
    }
    #expect(try environment.checkReaders() == 2)
    #expect(try environment.checkReaders() == 0)
  }

  @Test func `slots of dead processes make room when all are taken`() async throws {
    let (environment, _) = try scratch.opened { $0.maximumReaders = 4 }
    await #expect(processExitsWith: .exitCode(7)) { [path = scratch.path as String] in
      let other = try LMDBEnvironment(path: path, options: .init(mapSizeBytes: 16 << 20))
      try leaveReaders(4, in: other)
    }
    let readers = try (0..<4).map { _ in try environment.reader() }
    #expect(code { _ = try environment.reader() } == .readersFull)
    #expect(readers.count == 4)
  }

  @Test func `a commit that its process wrote and died before it told the readers keeps nobody from opening`()
    async throws
  {
    let (environment, rows) = try scratch.opened()
    for number in 0..<777 { try environment.write { try $0.put(rows, [1], key(number)) } }
    let number = try {
      let reader = try environment.reader()
      defer { withExtendedLifetime(reader) {} }
      return try #require(try environment.openReaders().first).transaction
    }()
    // What such a process leaves in the lock file: the number of the commit before. The file stays open: closing any
    // descriptor of it would drop the locks that this process holds.
    let descriptor = unsafe open(scratch.path + "-lock", O_RDWR)
    var head = [UInt8](repeating: 0, count: 256)
    #expect(unsafe pread(descriptor, &head, head.count, 0) == head.count)
    let place = stride(from: 0, to: 248, by: 8).first { place in
      (0..<8).reduce(0) { $0 | Int(head[place + $1]) << ($1 * 8) } == number
    }
    var before = UInt64(number - 1).littleEndian
    #expect(unsafe pwrite(descriptor, &before, 8, off_t(try #require(place))) == 8)
    await #expect(processExitsWith: .success) { [path = scratch.path as String] in
      var options = LMDBEnvironment.Options(mapSizeBytes: 16 << 20)
      options.verifiedBytes = 8 << 20
      let other = try LMDBEnvironment(path: path, options: options)
      let rows = try other.openTables(["rows"], create: false)[0]
      #expect(try other.reader().value(rows, [1]) == key(775))
    }
    close(descriptor)
  }

  @Test func `a writer that died with its process holds nobody up, and its changes are gone`() async throws {
    let (environment, rows) = try scratch.opened()
    try environment.write { try $0.put(rows, [1], [1]) }
    await #expect(processExitsWith: .exitCode(7)) { [path = scratch.path as String] in
      let other = try LMDBEnvironment(path: path, options: .init(mapSizeBytes: 16 << 20))
      let rows = try other.openTables(["rows"], create: false)[0]
      var writer = try other.beginWrite()
      for number in 0..<1_000 { try writer.put(rows, key(number), [2]) }
      _exit(7)
    }
    try environment.write { try $0.put(rows, [2], [2]) }
    #expect(try environment.reader().entryCount(rows) == 2)
    #expect(try environment.verify().entries == 2)
  }

  @Test func `what another process commits is seen, and beyond the own map is an error`() async throws {
    do {
      let (environment, rows) = try scratch.opened(mapSizeBytes: 256 << 10)
      #expect(try environment.reader().entryCount(rows) == 0)
      for (count, bytes) in [(1, 10), (2, 1 << 20)] {
        await #expect(processExitsWith: .success) {
          [path = scratch.path as String, count = count as Int, bytes = bytes as Int] in
          let other = try LMDBEnvironment(path: path, options: .init(mapSizeBytes: 16 << 20))
          let rows = try other.openTables(["rows"], create: false)[0]
          try other.write { try $0.put(rows, [UInt8(count)], [UInt8](repeating: 1, count: bytes)) }
        }
        if count == 1 {
          #expect(try environment.reader().entryCount(rows) == 1)
        } else {
          for _ in 0..<3 { #expect(code { _ = try environment.reader() } == .mapResized) }
          #expect(code { _ = try environment.beginWrite() } == .mapResized)
        }
      }
    }
    let (environment, rows) = try scratch.opened()
    #expect(try environment.reader().entryCount(rows) == 2)
  }
}
