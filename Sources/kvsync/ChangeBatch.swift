// The changes of one commit on their way from a file into a store: one buffer for all their bytes, no object a change.

import KVLog
import KVStore

/// Why a line of input is not a change. Where it stands is added by the reader.
struct LineError: Error {
  var reason: String
  init(_ reason: String) { self.reason = reason }
}

struct ChangeBatch: Sendable {
  struct Entry {
    var key: Range<Int>
    /// nil: a deletion.
    var value: Range<Int>?
  }

  /// A commit is also closed at this size, whatever its number of changes: memory stays bounded with large values.
  static let maximumBytes = 8 << 20

  var bytes: [UInt8] = []
  private(set) var entries: [Entry] = []

  var count: Int { entries.count }
  var isEmpty: Bool { entries.isEmpty }

  /// Takes the change whose bytes a parser has put into `bytes`, after checking the limits of a store.
  mutating func add(key: Range<Int>, value: Range<Int>?) throws(LineError) {
    if key.isEmpty { throw LineError("the key is empty; a key has 1 to \(LogLimits.maximumKeyBytes) bytes") }
    if key.count > LogLimits.maximumKeyBytes {
      throw LineError("the key has \(key.count) bytes; the limit is \(LogLimits.maximumKeyBytes)")
    }
    if let value, value.count > LogLimits.maximumValueBytes {
      throw LineError("the value has \(value.count) bytes; the limit is \(LogLimits.maximumValueBytes)")
    }
    entries.append(Entry(key: key, value: value))
  }

  func apply(to transaction: inout Transaction) throws {
    for entry in entries {
      if let value = entry.value {
        try transaction.put(bytes[value], for: bytes[entry.key])
      } else {
        try transaction.delete(bytes[entry.key])
      }
    }
  }

  /// Makes room for the next commit.
  mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    entries.removeAll(keepingCapacity: true)
  }
}
