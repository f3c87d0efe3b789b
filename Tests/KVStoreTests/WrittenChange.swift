// What was written to a store, for comparing it with what its log tells.

import KVLog
import KVStore
import TestSupport

struct WrittenChange: Hashable {
  var version: Version
  var key: [UInt8]
  var value: [UInt8]?

  init(version: Version, key: [UInt8], value: [UInt8]?) {
    self.version = version
    self.key = key
    self.value = value
  }

  init(_ change: StoreChange) { self.init(version: change.version, key: change.key, value: change.value) }

  init(_ change: borrowing BorrowedChange) {
    version = change.version
    key = change.key.copied()
    if let value = change.value { self.value = value.copied() }
  }

  func isIn(_ range: KeyRange) -> Bool {
    !key.lexicographicallyPrecedes(range.lower ?? []) && (range.upper.map { key.lexicographicallyPrecedes($0) } ?? true)
  }
}

/// Commits of one to four changes, some of which share a block; gives them in the order of the log.
@discardableResult
func write(
  _ commits: Int, to store: Store, _ random: inout SeededGenerator,
  key: (inout SeededGenerator) -> [UInt8] = { $0.bytes(1...12) }
) async throws -> [WrittenChange] {
  var all: [WrittenChange] = []
  var left = commits
  while left > 0 {
    var batch: [[(key: [UInt8], value: [UInt8]?)]] = []
    for _ in 0..<min(left, 1 + random.below(8)) {
      var changes: [(key: [UInt8], value: [UInt8]?)] = []
      for _ in 0..<1 + random.below(4) {
        changes.append((key(&random), random.chance(20) ? nil : random.bytes(0...60)))
      }
      batch.append(changes)
    }
    left -= batch.count
    // Submitted at once, they share a block; the order in which they are taken is the store's.
    try await withThrowingTaskGroup(of: [WrittenChange].self) { group in
      for changes in batch {
        group.addTask {
          let receipt = try await store.write { transaction in
            for change in changes {
              if let value = change.value {
                try transaction.put(value, for: change.key)
              } else {
                try transaction.delete(change.key)
              }
            }
          }
          return changes.map { WrittenChange(version: receipt.version, key: $0.key, value: $0.value) }
        }
      }
      for try await written in group { all += written }
    }
  }
  // The changes of one commit are neighbours, in their order, already.
  return all.enumerated().sorted { ($0.element.version, $0.offset) < ($1.element.version, $1.offset) }.map(\.element)
}

/// A range of keys with random bounds; often all keys.
func randomRange(_ random: inout SeededGenerator) -> KeyRange {
  if random.chance(40) { return KeyRange() }
  if random.chance(30) { return KeyRange(prefix: random.bytes(1...1)) }
  let bounds = [random.bytes(1...2), random.bytes(1...2)].sorted { $0.lexicographicallyPrecedes($1) }
  return KeyRange(from: bounds[0], upTo: bounds[1])
}
