// Opening: what is refused, what is made, and which blocks the file has.

import Foundation
import LMDB
import Testing

@Suite struct FileTests {
  let scratch: ScratchFile

  init() throws { scratch = try ScratchFile() }

  func bytes() throws -> Data { try Data(contentsOf: URL(fileURLWithPath: scratch.path)) }

  func write(_ data: Data) throws { try data.write(to: URL(fileURLWithPath: scratch.path)) }

  func blocks() throws -> Int {
    var status = stat()
    try #require(unsafe stat(scratch.path, &status) == 0)
    return Int(status.st_blocks) * 512
  }

  @Test func `what was committed is there after closing and opening`() throws {
    try {
      let (environment, rows) = try scratch.opened()
      try environment.write { try $0.put(rows, [1], [2]) }
      try environment.synchronize()
    }()
    let (environment, rows) = try scratch.opened { $0.readOnly = false }
    #expect(try environment.reader().value(rows, [1]) == [2])
  }

  @Test func `the same file is open once, also by another name, and again after it was closed`() throws {
    let link = scratch.folder + "/link"
    do {
      let (environment, rows) = try scratch.opened()
      #expect(code { _ = try scratch.environment() } == .alreadyOpen)
      try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: scratch.path)
      let options = LMDBEnvironment.Options(mapSizeBytes: 1 << 20)
      #expect(code { _ = try LMDBEnvironment(path: link, options: options) } == .alreadyOpen)
      try FileManager.default.removeItem(atPath: link)
      try FileManager.default.linkItem(atPath: scratch.path, toPath: link)
      #expect(code { _ = try LMDBEnvironment(path: link, options: options) } == .alreadyOpen)
      // The refusals left the one that is open alone.
      try environment.write { try $0.put(rows, [1], [1]) }
    }
    let (environment, rows) = try scratch.opened()
    #expect(try environment.reader().value(rows, [1]) == [1])
  }

  @Test func `a file that is made while another is removed is not taken for that one, whatever its inode`() throws {
    try { _ = try scratch.opened() }()
    let isUnused = LMDBEnvironment.whileUnused(scratch.path) {
      #expect(unsafe unlink(scratch.path) == 0)
      // Many file systems give the number of the file that went last to the one that comes next.
      for number in 0..<4 {
        let options = LMDBEnvironment.Options(mapSizeBytes: 1 << 20)
        #expect(code { _ = try LMDBEnvironment(path: "\(scratch.folder)/\(number)", options: options) } == nil)
      }
    }
    #expect(isUnused)
  }

  @Test func `an environment stays open until its last reader is released`() throws {
    var reader: LMDBReader? = try {
      let (environment, rows) = try scratch.opened()
      try environment.write { try $0.put(rows, [1], [1]) }
      return try environment.reader()
    }()
    #expect(code { _ = try scratch.environment() } == .alreadyOpen)
    #expect(try #require(reader).transactionID > 0)
    reader = nil
    _ = try scratch.environment()
  }

  @Test func `a file that failed to open can be opened once it is repaired`() throws {
    try write(Data(repeating: 1, count: 100_000))
    #expect(code { _ = try scratch.environment() } == .invalid)
    try FileManager.default.removeItem(atPath: scratch.path)
    _ = try scratch.opened()
  }

  @Test func `reading only, a missing file is ENOENT and nothing is made`() throws {
    #expect(code { _ = try scratch.environment { $0.readOnly = true } } == .system(ENOENT))
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.folder) == [])
    #expect(
      code { _ = try LMDBEnvironment(path: scratch.folder + "/no/data", options: .init(mapSizeBytes: 1 << 20)) }
        == .system(ENOENT))
  }

  @Test func `reading only, values are read and writing is refused`() throws {
    try {
      let (environment, rows) = try scratch.opened()
      try environment.write { try $0.put(rows, [1], [2]) }
    }()
    let environment = try scratch.environment { $0.readOnly = true }
    let rows = try environment.openTables(["rows"], create: false)[0]
    #expect(try environment.reader().value(rows, [1]) == [2])
    #expect(code { _ = try environment.beginWrite() } == .system(EACCES))
  }

  @Test func `a missing table is not found, and more tables than allowed are too many`() throws {
    let environment = try scratch.environment { $0.maximumTables = 2 }
    #expect(code { _ = try environment.openTables(["none"], create: false) } == .notFound)
    #expect(code { _ = try environment.openTables(["a", "b", "c"], create: true) } == .tablesFull)
    let tables = try environment.openTables(["a", "b"], create: true)
    #expect(tables[0] != tables[1])
  }

  @Test func `folders, text, zeros and nothing at all are refused`() throws {
    #expect(
      code { _ = try LMDBEnvironment(path: scratch.folder, options: .init(mapSizeBytes: 1 << 20)) }
        == .system(EISDIR))
    try write(Data("this is not an environment".utf8))
    #expect(code { _ = try scratch.environment() } == .invalid)
    try write(Data(String(repeating: "not an environment either. ", count: 1_000).utf8))
    #expect(code { _ = try scratch.environment() } == .invalid)
    try write(Data(count: 64 << 10))
    #expect(code { _ = try scratch.environment() } == .invalid)
    try write(Data())
    #expect(code { _ = try scratch.environment { $0.readOnly = true } } == .invalid)
    #expect(code { _ = try scratch.environment { $0.fileMode = 0o600 } } == nil, "an empty file becomes one")
  }

  @Test func `a preallocated file has all its blocks, with and without the write map`() throws {
    for writeMap in [false, true] {
      try? FileManager.default.removeItem(atPath: scratch.path)
      let (environment, rows) = try scratch.opened(mapSizeBytes: 8 << 20) {
        $0.preallocate = true
        $0.writeMap = writeMap
      }
      #expect(try blocks() >= 8 << 20)
      try environment.write { try $0.put(rows, [1], [1]) }
      #expect(try blocks() < 9 << 20)
    }
  }

  @Test func `an existing file gets its missing blocks when it is opened preallocated`() throws {
    try {
      let (environment, rows) = try scratch.opened { $0.writeMap = true }
      try environment.write { try $0.put(rows, [1], [1]) }
    }()
    #expect(try blocks() < 1 << 20)
    let (environment, rows) = try scratch.opened {
      $0.writeMap = true; $0.preallocate = true
    }
    #expect(try blocks() >= 16 << 20)
    #expect(try environment.reader().value(rows, [1]) == [1])
  }

  @Test func `more than the disk holds is ENOSPC at open, and nothing stays behind`() throws {
    // More than any disk this runs on has.
    let error = #expect(throws: LMDBError.self) {
      _ = try scratch.environment(mapSizeBytes: 8 << 40) {
        $0.preallocate = true; $0.writeMap = true
      }
    }
    #expect(error?.isFull == true, "\(error.debugDescription)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.folder) == [])
  }

  @Test func `without a lock, a writer and readers exclude each other`() throws {
    let (environment, rows) = try scratch.opened { $0.withoutLock = true }
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.folder) == ["data"])
    var reader: LMDBReader? = try environment.reader()
    _ = reader
    #expect(code { _ = try environment.beginWrite() } == .busy)
    reader = nil
    var writer = try environment.beginWrite()
    #expect(code { _ = try environment.reader() } == .busy)
    try writer.put(rows, [1], [1])
    try writer.commit()
    #expect(try environment.reader().value(rows, [1]) == [1])
  }
}
