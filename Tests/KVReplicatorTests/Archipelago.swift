// Replicas and a hub whose directories can be copied around: real stores, a real hub with its directory, sockets between them.

import Foundation
import KVHub
import KVLog
import TestSupport
import Testing

@testable import KVReplicator
@testable import KVStore

/// Some replicas and a hub, whose directories can be saved and put back.
final class Archipelago {
  let bench: Workbench
  private(set) var hub: Hub?
  private(set) var stores: [String: Store] = [:]
  var options = Store.Options()
  var hubOptions = Hub.Options()

  init() throws { bench = try Workbench() }

  func startHub() async throws { hub = try await bench.hub(.embedded, hubOptions) }

  /// The first replica writes a row, and the hub has it.
  func begin() async throws {
    try await store("a").put("0", for: "base")
    try await sync("a")
  }

  func stopHub() async {
    await hub?.shutdown()
    hub = nil
  }

  func store(_ name: String) async throws -> Store {
    if let store = stores[name] { return store }
    let store = try await Store.open(at: "\(bench.path)/\(name)", options: options)
    stores[name] = store
    return store
  }

  func closeAll() async throws {
    for store in stores.values { try await store.close() }
    stores = [:]
    await stopHub()
  }

  /// Copies a directory that nobody has open; what was at the target is gone.
  func copy(_ source: String, to target: String) async throws {
    for name in [source, target] {
      if name == "hub" { await stopHub() }
      try await stores.removeValue(forKey: name)?.close()
    }
    try? FileManager.default.removeItem(atPath: "\(bench.path)/\(target)")
    try FileManager.default.copyItem(atPath: "\(bench.path)/\(source)", toPath: "\(bench.path)/\(target)")
  }

  @discardableResult
  func sync(
    _ name: String, _ direction: Replicator.Direction = .both, _ policy: ConflictPolicy = .lastWriterWins,
    history: ShippedHistory = .latest, bytes: Int? = nil
  ) async throws -> SyncReport {
    if hub == nil { try await startHub() }
    var configuration = Replicator.Configuration()
    configuration.policy = policy
    configuration.history = history
    configuration.token = { Array(name.utf8) }
    return try await Replicator(try await store(name), hub: try hub!.address(), configuration: configuration)
      .syncOnce(direction, budget: Replicator.Budget(bytes: bytes))
  }

  /// Synchronises until nobody has anything left for anybody.
  func heal(_ names: [String]) async throws { try await untilAtRest(names) { try await sync($0) } }

  /// Writes and synchronises until nothing that is in the store's log now is in it any more.
  func expire(_ name: String) async throws {
    let version = try await store(name).counters().localVersion
    for round in 0..<60 {
      let store = try await store(name)
      if try store.information().firstLogVersion > version { return }
      for key in 0..<4 {
        try await store.put([UInt8](repeating: UInt8(round), count: 8_000), for: "filler/\(round)/\(key)")
      }
      try await sync(name)
      // Closing folds, and gives back the log that nobody needs.
      try await stores.removeValue(forKey: name)?.close()
    }
    Issue.record("the log of \(name) never gave version \(version) back")
  }

  func contents(_ name: String) async throws -> [String: String] {
    var rows: [String: String] = [:]
    for (key, value) in try KVReplicatorTests.contents(try await store(name)) {
      rows[String(decoding: key, as: UTF8.self)] = String(decoding: value, as: UTF8.self)
    }
    return rows
  }

  /// Who wrote the changes in the hub's log, in their order.
  func authors() async throws -> [Identity] {
    await stopHub()
    var authors: [Identity] = []
    var options = Store.Options()
    options.readOnly = true
    let space = try await Store.open(at: "\(bench.path)/hub/spaces/space", options: options)
    _ = try space.forEachChange(after: 0) { change in
      authors.append(change.origin)
      return true
    }
    try await space.close()
    return authors
  }

  /// The hub has been told each change once; everything is closed.
  func endWithEachOnce(sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let history = try await history()
    #expect(history.values.allSatisfy { $0 == 1 }, "\(history)", sourceLocation: sourceLocation)
    try await closeAll()
  }

  /// How often each change stands in the hub's log: `key=value`, or `key-`.
  func history() async throws -> [String: Int] {
    await stopHub()
    var counts: [String: Int] = [:]
    var options = Store.Options()
    options.readOnly = true
    let space = try await Store.open(at: "\(bench.path)/hub/spaces/space", options: options)
    _ = try space.forEachChange(after: 0) { change in
      let key = String(decoding: change.key.copied(), as: UTF8.self)
      var entry = key + "-"
      if let value = change.value { entry = "\(key)=\(String(decoding: value.copied(), as: UTF8.self))" }
      counts[entry, default: 0] += 1
      return true
    }
    try await space.close()
    return counts
  }
}
