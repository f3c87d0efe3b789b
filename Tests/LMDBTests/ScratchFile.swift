// A data file that goes away with the test, and array shorthands over the span calls.

import LMDB
import TestSupport

final class ScratchFile: Sendable {
  let folder: String
  let path: String
  private let scratch: Scratch?

  init() throws {
    let scratch = try Scratch()
    self.scratch = scratch
    folder = scratch.path
    path = scratch.path("data")
  }

  /// In the folder of another process, which removes it.
  init(of folder: String, file: String = "data") {
    scratch = nil
    self.folder = folder
    path = folder + "/" + file
  }

  func environment(
    mapSizeBytes: Int = 16 << 20, _ change: (inout LMDBEnvironment.Options) -> Void = { _ in }
  ) throws -> LMDBEnvironment {
    var options = LMDBEnvironment.Options(mapSizeBytes: mapSizeBytes)
    // What these tests look at does not depend on the disk.
    options.withoutSync = true
    change(&options)
    return try LMDBEnvironment(path: path, options: options)
  }

  /// An environment with one table, or the one table of a file that is there.
  func opened(
    mapSizeBytes: Int = 16 << 20, _ change: (inout LMDBEnvironment.Options) -> Void = { _ in }
  ) throws -> (LMDBEnvironment, Table) {
    let environment = try environment(mapSizeBytes: mapSizeBytes, change)
    return (environment, try environment.openTables(["rows"], create: true)[0])
  }
}

/// Big-endian, so that numbers and keys are in the same order.
func key(_ number: Int) -> [UInt8] {
  (0..<8).reversed().map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
}

func owned(_ bytes: RawSpan) -> [UInt8] { unsafe bytes.withUnsafeBytes { unsafe Array($0) } }

struct Entry: Equatable {
  var key: [UInt8]
  var value: [UInt8]
}

extension LMDBReader {
  func value(_ table: Table, _ key: [UInt8]) throws -> [UInt8]? {
    unsafe try get(table, key: key.span.bytes) { owned($0) }
  }
}

extension LMDBWriter {
  borrowing func value(_ table: Table, _ key: [UInt8]) throws -> [UInt8]? {
    unsafe try get(table, key: key.span.bytes) { owned($0) }
  }

  mutating func put(_ table: Table, _ key: [UInt8], _ value: [UInt8], append: Bool = false) throws(LMDBError) {
    unsafe try put(table, key: key.span.bytes, value: value.span.bytes, append: append)
  }

  mutating func delete(_ table: Table, _ key: [UInt8]) throws(LMDBError) -> Bool {
    unsafe try delete(table, key: key.span.bytes)
  }
}

extension LMDBCursor {
  func seek(_ key: [UInt8]) throws(LMDBError) -> Bool { unsafe try seek(atOrAfter: key.span.bytes) }

  func entry() throws -> Entry { try withEntry { Entry(key: owned($0), value: owned($1)) } }

  /// What cannot be read has no key.
  func key() -> [UInt8] { (try? withKey { owned($0) }) ?? [] }

  func walked(backwards: Bool) throws -> [Entry] {
    var entries: [Entry] = []
    try walk(backwards: backwards) { key, value in
      entries.append(Entry(key: owned(key), value: owned(value)))
      return true
    }
    return entries
  }
}

extension LMDBWriterCursor {
  func seek(_ key: [UInt8]) throws(LMDBError) -> Bool { unsafe try seek(atOrAfter: key.span.bytes) }

  func entry() throws -> Entry { try withEntry { Entry(key: owned($0), value: owned($1)) } }

  func key() -> [UInt8] { withKey { owned($0) } }
}

extension LMDBEnvironment {
  func write(_ body: (inout LMDBWriter) throws -> Void) throws {
    var writer = try beginWrite()
    try body(&writer)
    try writer.commit()
  }
}

/// What the body throws, if that is an error of LMDB.
func code(_ body: () throws -> Void) -> LMDBError.Code? {
  do {
    try body()
    return nil
  } catch {
    return (error as? LMDBError)?.code
  }
}
