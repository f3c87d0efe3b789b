// Whether a replica and its hub hold the same data.
//
// Invariants
// - No snapshot is held while waiting for the network: each page of the hub is compared with a fresh look at the store,
//   and when either side's version has moved on meanwhile, the comparison begins again.

import KVLog
import KVProtocol
import KVStore
import KVTransport

/// The outcome of ``Replicator/compare()``: the rows of both sides, each as of one version.
public struct Comparison: Sendable, Hashable {
  /// A key that the two sides do not agree on.
  public struct Difference: Sendable, Hashable {
    /// In which way they differ.
    public enum Kind: String, Sendable {
      /// The key has a value here and none on the hub.
      case missingOnHub
      /// The key has a value on the hub and none here.
      case missingHere
      /// Both have a value, and they differ.
      case value
    }

    /// The key, 1 to 511 bytes.
    public var key: [UInt8]
    /// In which way its rows differ.
    public var kind: Kind
  }

  /// The first key in order that differs; nil when all rows are equal.
  public var firstDifference: Difference?
  /// Keys found equal.
  public var keys: Int
  /// The hub's version as of the comparison.
  public var hubVersion: UInt64
  /// The hub's version that the store has pulled through; 0: it has never pulled.
  public var serverVersion: UInt64
  /// Local changes that the hub had not decided.
  public var pendingChanges: Int
  /// Why synchronising cannot make them equal: store or hub was restored or copied. `nil`: nothing speaks against it.
  public var obstacle: ReplicatorError?

  /// The same data at the same version, and nothing pending.
  public var isEqual: Bool {
    firstDifference == nil && hubVersion == serverVersion && pendingChanges == 0
  }
}

struct Comparer {
  let store: Store
  let space: String
  let token: [UInt8]
  let connection: Connection

  /// A store or hub that is written all the time cannot be compared; tried this often.
  private static let attempts = 5

  @concurrent
  func run() async throws -> Comparison {
    do {
      var messages = connection.messages.makeAsyncIterator()
      let obstacle = try await greet(&messages)
      for _ in 0..<Comparer.attempts {
        guard var comparison = try await attempt(&messages) else { continue }
        comparison.obstacle = obstacle
        return comparison
      }
    } catch let error as TransportError {
      throw ReplicatorError(error)
    }
    throw ReplicatorError(.unavailable, "the data changes while it is compared. Try again when it is quiet.")
  }

  /// The hub's newest version.
  @concurrent
  func head() async throws -> Version {
    do {
      var messages = connection.messages.makeAsyncIterator()
      return try await welcome(&messages, store.replicaState()).head.version
    } catch let error as TransportError {
      throw ReplicatorError(error)
    }
  }

  @concurrent
  private func welcome(
    _ messages: inout InboundMessages.AsyncIterator, _ state: ReplicaState
  ) async throws -> Welcome {
    let hello = Hello(
      mode: .compare, replica: state.identity, incarnation: state.incarnation, space: space, cursor: state.cursor,
      firstRetained: state.firstLogVersion, lastVersion: state.local.version,
      shipped: Position(identity: state.identity, version: state.shipped, digest: state.shippedDigest), token: token)
    try await connection.send(.hello(hello))
    guard case .welcome(let welcome) = try await next(&messages) else { throw unexpected }
    connection.establish(outboundFrameBytes: welcome.maximumFrameBytes)
    return welcome
  }

  /// Gives what would end a session that synchronises.
  @concurrent
  private func greet(_ messages: inout InboundMessages.AsyncIterator) async throws -> ReplicatorError? {
    let state = store.replicaState()
    let welcome = try await welcome(&messages, state)
    let session = ReplicaSession(.init(space: space, mode: [.push, .pull], isLive: false), state: state)
    if let mismatch = session.mismatch(welcome) { return mismatch }
    // The hub has decided more than this store knows. If its log no longer has that version, nothing can be said.
    guard welcome.lastApplied > state.shipped, let digest = try? store.digest(at: welcome.lastApplied) else {
      return nil
    }
    return digest == welcome.appliedDigest ? nil : session.restored(at: welcome.lastApplied)
  }

  /// nil when either side moved on.
  @concurrent
  private func attempt(_ messages: inout InboundMessages.AsyncIterator) async throws -> Comparison? {
    let state = store.replicaState()
    var comparison: Comparison?
    var after: [UInt8]?
    while true {
      try await connection.send(.rowsRequest(RowsRequest(after: after)))
      guard case .rows(let page) = try await next(&messages) else { throw unexpected }
      var current =
        comparison
        ?? Comparison(
          firstDifference: nil, keys: 0, hubVersion: page.version, serverVersion: state.cursor?.version ?? 0,
          pendingChanges: state.pendingChanges)
      let end = page.isLast ? nil : page.rows.last?.key
      if !page.isLast, end == nil { throw unexpected }
      guard page.version == current.hubVersion,
        let found = try compare(page, after: after, through: end, at: state.local.version)
      else { return nil }
      current.firstDifference = found.difference
      current.keys += found.keys
      if current.firstDifference != nil || page.isLast { return current }
      comparison = current
      after = end
    }
  }

  /// Compares the rows after `after`, up to `through` (nil: to the end), with those of the page: how many are equal, and
  /// the first that is not. nil when the store is no longer at `version`.
  private func compare(
    _ page: Rows, after: [UInt8]?, through: [UInt8]?, at version: Version
  ) throws -> (difference: Comparison.Difference?, keys: Int)? {
    var remaining = page.rows[...]
    var difference: Comparison.Difference?
    var keys = 0
    let range = KeyRange(from: after.map { $0 + [0] }, upTo: through.map { $0 + [0] })
    let isCurrent = try store.read { snapshot in
      guard try snapshot.version == version else { return false }
      try snapshot.forEach(in: range) { key, value in
        guard let theirs = remaining.first else {
          difference = Comparison.Difference(key: key.copied(), kind: .missingOnHub)
          return false
        }
        let order = key.compare(theirs.key.bytes)
        if order < 0 {
          difference = Comparison.Difference(key: key.copied(), kind: .missingOnHub)
        } else if order > 0 {
          difference = Comparison.Difference(key: theirs.key, kind: .missingHere)
        } else if checksum128(value) != theirs.hash {
          difference = Comparison.Difference(key: theirs.key, kind: .value)
        }
        guard difference == nil else { return false }
        remaining.removeFirst()
        keys += 1
        return true
      }
      return true
    }
    guard isCurrent else { return nil }
    if difference == nil, let theirs = remaining.first {
      difference = Comparison.Difference(key: theirs.key, kind: .missingHere)
    }
    return (difference, keys)
  }

  @concurrent
  private func next(_ messages: inout InboundMessages.AsyncIterator) async throws -> Message {
    while let message = try await messages.next() {
      switch message {
      case .ping(let number): try await connection.send(.pong(number))
      case .refuse(let refusal): throw ReplicatorError(refusal)
      default: return message
      }
    }
    throw ReplicatorError(.unreachable, "the hub closed the connection")
  }

  private var unexpected: ReplicatorError {
    ReplicatorError(.protocolViolation, "the hub answered with something else. Upgrade the older side.")
  }
}
