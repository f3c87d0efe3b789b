// The store, through its public interface alone.

import BenchmarkSupport
import Foundation
import KVStore

final class Kvsync: Engine, @unchecked Sendable {
  // Sound to send: replaced in `settle` alone, which is called between loading and measuring, when no other thread has the
  // engine. A lock would be part of every time that is measured.
  private(set) var store: Store
  private let options: Store.Options

  init(path: String, durability: Durability) throws {
    var options = Store.Options()
    options.durability = durability == .relaxed ? .relaxed : .durable
    self.options = options
    store = try Store.openBlocking(at: path, options: options)
  }

  func commit(_ indices: Range<Int>, of workload: Workload, with change: inout Change) throws {
    if indices.count == 1 {
      workload.fill(&change, indices.lowerBound)
      try store.putBlocking(change.value, for: change.key)
    } else {
      try store.writeBlocking { transaction in
        var change = Change()
        for index in indices {
          workload.fill(&change, index)
          try transaction.put(change.value, for: change.key)
        }
      }
    }
  }

  /// Commits of one change come from many tasks, or ten million of them would take half an hour.
  func load(_ count: Int, perCommit: Int, of workload: Workload) throws {
    try blocking { [store] in
      try await withThrowingTaskGroup(of: Void.self) { group in
        let tasks = perCommit == 1 ? 512 : 1
        for task in 0..<tasks {
          group.addTask {
            for start in stride(from: task * perCommit, to: count, by: tasks * perCommit) {
              try await store.write { transaction in
                var change = Change()
                for index in start..<min(start + perCommit, count) {
                  workload.fill(&change, index)
                  try transaction.put(change.value, for: change.key)
                }
              }
            }
          }
        }
        try await group.waitForAll()
      }
    }
  }

  /// Closing folds everything; the time for opening again is part of the figure.
  func settle() throws {
    try store.closeBlocking()
    store = try Store.openBlocking(at: store.path, options: options)
  }

  func get(_ key: [UInt8]) throws -> UInt64? {
    try store.withValue(for: key) { $0.sum }
  }

  func scan() throws -> Tally {
    var tally = Tally()
    try store.read { snapshot in
      try snapshot.forEach { key, value in
        tally.add(key: key, value: value)
        return true
      }
    }
    return tally
  }

  /// Every checksum and digest verified, nothing copied.
  func readLog() throws -> Tally {
    var tally = Tally()
    try store.forEachChange(after: 0) { change in
      guard let value = change.value else { return true }
      tally.add(key: change.key, value: value)
      return true
    }
    return tally
  }

  /// As a program follows it: an asynchronous sequence, each change copied. It would wait for the change after `count`.
  func readChanges(_ count: Int) throws -> Tally {
    try blocking { [store] in
      var tally = Tally()
      for try await change in store.changes(after: 0) {
        let value = change.value ?? []
        unsafe tally.add(key: change.key.span.bytes, value: value.span.bytes)
        if tally.count == count { break }
      }
      return tally
    }
  }

  func close() throws { try store.closeBlocking() }
}
