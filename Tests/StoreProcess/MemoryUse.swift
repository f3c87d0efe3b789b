// What the store's operations need of anonymous memory, measured in a process that does nothing else.

import Foundation
import KVStore
import Synchronization

/// The most that this process has had of anonymous memory since `begin`, looked at every millisecond by a thread.
final class PeakMemory: Sendable {
  private let peak = Mutex(0)

  init() {
    Thread.detachNewThread { [self] in
      while true {
        look()
        usleep(1_000)
      }
    }
  }

  func begin() { peak.withLock { $0 = 0 } }

  /// In bytes.
  func end() -> Int {
    look()
    return peak.withLock { $0 }
  }

  private func look() {
    let now = PeakMemory.anonymousBytes()
    peak.withLock { $0 = max($0, now) }
  }

  /// Resident pages, less those of files and of shared memory.
  private static func anonymousBytes() -> Int {
    let file = unsafe open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return 0 }
    defer { close(file) }
    let text = unsafe String(unsafeUninitializedCapacity: 128) { unsafe max(0, read(file, $0.baseAddress, $0.count)) }
    let pages = text.split(separator: " ").prefix(3).compactMap { Int($0) }
    return pages.count == 3 ? (pages[1] - pages[2]) * Int(getpagesize()) : 0
  }
}

extension StoreProcess {
  /// For each of the numbers of rows: writes so many, has each operation go through all of them, and deletes them. Says for
  /// each its name, the number of rows, how many of them it has come across, and the peak of anonymous memory in bytes.
  static func memory(_ store: Store, rows counts: [Int]) async throws {
    let memory = PeakMemory()
    for rows in counts {
      func measure(_ name: String, _ body: () async throws -> Int) async throws {
        memory.begin()
        let seen = try await body()
        say("\(name) \(rows) \(seen) \(memory.end())")
      }
      let before = store.counters().localVersion
      try await measure("write") {
        let value = [UInt8](repeating: 0x61, count: 600)
        for first in stride(from: 0, to: rows, by: 1_000) {
          try store.writeBlocking { transaction in
            for number in first..<min(first + 1_000, rows) {
              // In no order, as keys mostly are.
              try transaction.put(value, for: "row/\(UInt64(number) &* 0x9E37_79B9_7F4A_7C15)")
            }
          }
        }
        return rows
      }
      try await measure("scan") { try store.read { try $0.scan(prefix: "row/").reduce(0) { count, _ in count + 1 } } }
      try await measure("keys") { try store.read { try $0.keys(prefix: "row/").reduce(0) { count, _ in count + 1 } } }
      try await measure("count") { try store.count(prefix: "row/") }
      try await measure("changes") {
        var seen = 0
        for try await batch in store.changes(after: before).batches {
          seen += batch.count
          if batch.version == store.counters().localVersion { break }
        }
        return seen
      }
      try await measure("query") {
        var seen = 0
        for try await element in store.liveQuery(prefix: "row/") {
          if case .current = element { break }
          seen += 1
        }
        return seen
      }
      try await measure("backup") { try store.backupBlocking(to: "\(store.path).copy").keys }
      _ = try Store.destroy(at: "\(store.path).copy")
      try await measure("delete") { try await store.deleteRange(prefix: "row/") }
    }
  }
}
