// Codable values under a prefix: a thin layer over keys and values, with nothing of its own on disk.
//
// key = name | "/" | id        value = JSON with its members sorted, so that equal values have equal bytes everywhere

import Foundation
public import KVLog

extension Store {
  /// The values of type `Value` whose keys begin with `name` and a slash.
  ///
  /// `name` is not to be another collection's name with a slash and more behind it: its values would be that one's too.
  public func collection<Value: Codable & Sendable>(_ name: String, of type: Value.Type) -> StoreCollection<Value> {
    StoreCollection(name: name, store: self)
  }
}

/// Codable values under a prefix, each with an identifier.
///
/// ```swift
/// let notes = store.collection("notes", of: Note.self)
/// try await notes.put(Note(text: "rain"), for: "monday")
/// for try await change in notes.changes() { print(change.id, try change.value?.text ?? "deleted") }
/// ```
///
/// A value is stored as JSON under `name/id`, its members sorted, so that equal values are equal bytes and no conflict. An
/// identifier is any text that leaves the key within 511 bytes. What ``Store`` says of its methods holds for these, which
/// throw what those throw; encoding throws `EncodingError`, decoding `DecodingError`.
public struct StoreCollection<Value: Codable & Sendable>: Sendable {
  /// The name, which keys begin with.
  public let name: String
  /// Where the values are.
  public let store: Store

  /// A value, or what became of one.
  public struct Entry: Sendable, Identifiable {
    /// Which value it is, in its collection.
    public let id: String
    /// The version of the commit that wrote it.
    public let version: Version
    /// What the hub had made of that when the entry was read.
    public let state: StoreChange.State
    /// How it came about; nil for a row of a live query, which does not know.
    public let kind: StoreChange.Kind?
    /// The JSON; nil: it was deleted.
    public let bytes: [UInt8]?

    /// The value, decoded now; nil: it was deleted. Throws `DecodingError`, so that a value that does not fit the type
    /// spoils nothing but itself.
    public var value: Value? {
      get throws { try bytes.map { try StoreCollection.decode($0) } }
    }
  }

  /// What a live query of a collection tells; see ``LiveQuery/Element``.
  public enum LiveElement: Sendable {
    /// Everything so far is void: the values come again.
    case reset
    /// A value as it is.
    case row(Entry)
    /// A change of a value.
    case change(Entry)
    /// All elements so far add up to the store at this version.
    case current(Version)
  }
}

// MARK: - Values

extension StoreCollection {
  /// The key of a value, for everything that ``Store`` and ``Snapshot`` offer.
  public func key(for id: String) -> String { "\(name)/\(id)" }

  /// Sets a value, in a commit of its own.
  @discardableResult
  public func put(_ value: Value, for id: String) async throws -> Receipt {
    try await store.put(try Self.encode(value), for: key(for: id))
  }

  /// Removes a value, in a commit of its own.
  @discardableResult
  public func delete(_ id: String) async throws -> Receipt { try await store.delete(key(for: id)) }

  /// The value, or nil.
  public func value(for id: String) throws -> Value? {
    try store.value(for: key(for: id)).map { try Self.decode($0) }
  }

  /// All values, in the order of the bytes of their identifiers, as of one version and all in memory.
  public func all() throws -> [(id: String, value: Value)] {
    try store.read { snapshot in
      try snapshot.scan(range).map { (id(of: $0.key), try Self.decode($0.value)) }
    }
  }

  /// Sets a value as part of a transaction.
  public func put(_ value: Value, for id: String, in transaction: inout Transaction) throws {
    try transaction.put(try Self.encode(value), for: key(for: id))
  }

  /// Removes a value as part of a transaction.
  public func delete(_ id: String, in transaction: inout Transaction) throws {
    try transaction.delete(key(for: id))
  }

  /// The value with the transaction's own changes, or nil.
  public func value(for id: String, in transaction: borrowing Transaction) throws -> Value? {
    try transaction.value(for: key(for: id)).map { try Self.decode($0) }
  }
}

// MARK: - Conflicts

extension StoreCollection {
  /// What the keys of the collection begin with, for ``ConflictPolicy/prefixes(_:otherwise:)``.
  public var prefix: String { name + "/" }

  /// The sides of a conflict about a value.
  public struct Merge: Sendable {
    /// Which value it is.
    public let id: String
    /// What was written here; nil: it was deleted.
    public let local: Value?
    /// When that was written.
    public let localTime: HybridTime
    /// What came from the hub; nil: it was deleted.
    public let remote: Value?
    /// When that was written, by the clock of the replica that wrote it.
    public let remoteTime: HybridTime
    /// What both started from; nil: there was nothing, or ``isBaseKnown`` is false.
    public let base: Value?
    /// Whether `base` says anything.
    public let isBaseKnown: Bool
  }

  /// A policy that merges values of this collection, for keys that begin with ``prefix``. The rules of
  /// ``ConflictPolicy/mergeWithBase(_:)`` hold. Where a side does not decode, or `merge` throws, the last writer wins.
  ///
  /// ```swift
  /// let notes = store.collection("notes", of: Note.self)
  /// configuration.policy = .prefixes([notes.prefix: notes.merging { Note(merging: $0.local, $0.remote, from: $0.base) }])
  /// ```
  public func merging(_ merge: @escaping @Sendable (Merge) throws -> Value?) -> ConflictPolicy {
    let collection = self
    return .mergeWithBase { input in
      let decode = { (bytes: [UInt8]?) in try bytes.map { try Self.decode($0) } }
      let merged = try merge(
        Merge(
          id: collection.id(of: input.key), local: decode(input.local), localTime: input.localTime,
          remote: decode(input.remote), remoteTime: input.remoteTime, base: decode(input.base),
          isBaseKnown: input.isBaseKnown))
      return try merged.map { Array(try Self.encode($0)) }
    }
  }
}

// MARK: - Changes

extension StoreCollection {
  /// What is written from now on, or after `version`: here, by others, and by resolving conflicts. A reader that is behind
  /// gets only the newest change of each value (``ChangeDelivery/latest``).
  public func changes(after version: Version? = nil) -> some AsyncSequence<Entry, any Error> & Sendable {
    store.changes(after: version ?? store.counters().localVersion, in: range, delivery: .latest).map { entry($0) }
  }

  /// The values as they are, then what becomes of them; see ``LiveQuery``.
  public func live() -> some AsyncSequence<LiveElement, any Error> & Sendable {
    store.liveQuery(in: range).map { element -> LiveElement in
      switch element {
      case .reset: .reset
      case .row(let row):
        .row(Entry(id: id(of: row.key), version: row.version, state: row.state, kind: nil, bytes: row.value))
      case .change(let change): .change(entry(change))
      case .current(let version): .current(version)
      }
    }
  }

  private func entry(_ change: StoreChange) -> Entry {
    Entry(
      id: id(of: change.key), version: change.version, state: change.state, kind: change.kind, bytes: change.value)
  }

  private var range: KeyRange { KeyRange(prefix: name + "/") }

  private func id(of key: [UInt8]) -> String {
    String(decoding: key.dropFirst(name.utf8.count + 1), as: UTF8.self)
  }

  private static func encode(_ value: Value) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(value)
  }

  private static func decode(_ bytes: [UInt8]) throws -> Value {
    try JSONDecoder().decode(Value.self, from: Data(bytes))
  }
}
