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
  /// What synchronising has to mend first, or why it cannot make them equal. `nil`: nothing.
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
      let (_, obstacle) = try await greet(&messages)
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

  /// Gives the hub's welcome, and what would end a session that synchronises.
  @concurrent
  func greet(
    _ messages: inout InboundMessages.AsyncIterator
  ) async throws -> (Welcome, obstacle: ReplicatorError?) {
    let state = store.replicaState()
    var configuration = ReplicaSession.Configuration(space: space, mode: [.push, .pull], isLive: false)
    configuration.token = token
    let session = ReplicaSession(configuration, state: state)
    var hello = session.hello
    hello.mode = .compare
    try await connection.send(.hello(hello))
    guard case .welcome(let welcome) = try await next(&messages) else { throw unexpected }
    connection.establish(outboundFrameBytes: welcome.maximumFrameBytes)
    switch session.standing(welcome) {
    case .resume: return (welcome, nil)
    case .impossible(let error): return (welcome, error)
    case .hubRestored:
      let obstacle = ReplicatorError(
        .hubRestored,
        "the hub was restored to an older state: it has version \(welcome.common.version) of what this store has pulled, and "
          + "version \(welcome.lastApplied) of what it wrote. Synchronise: what the hub lacks is brought back to it.")
      return (welcome, obstacle)
    case .replicaRestored: return (welcome, replicaRestored)
    case .ahead:
      // If the log no longer has that version, nothing can be said.
      guard let found = try? store.foundDigest(.init(welcome, shipped: store.replicaState().shipped)) else {
        return (welcome, nil)
      }
      return (welcome, found.isAsClaimed ? nil : replicaRestored)
    }
  }

  /// The hub's newest version.
  @concurrent
  func head() async throws -> Version {
    do {
      var messages = connection.messages.makeAsyncIterator()
      return try await greet(&messages).0.head.version
    } catch let error as TransportError {
      throw ReplicatorError(error)
    }
  }

  private var replicaRestored: ReplicatorError {
    ReplicatorError(
      .replicaRestored,
      "this store was copied, or restored to an older state: the hub has other commits of it. Synchronise: it goes on as a "
        + "new incarnation, and nothing is lost.")
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
    let covered = store.replicaState().covered
    var remaining = page.rows.filter { row in
      let key = row.key
      return covered.contains(key.bytes)
    }[...]
    var difference: Comparison.Difference?
    var keys = 0
    let range = KeyRange(from: after.map { $0 + [0] }, upTo: through.map { $0 + [0] })
    let isCurrent = try store.read { snapshot in
      guard try snapshot.version == version else { return false }
      try snapshot.forEach(in: range) { key, value in
        guard covered.contains(key) else { return true }
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
  func next(_ messages: inout InboundMessages.AsyncIterator) async throws -> Message {
    while let message = try await messages.next() {
      switch message {
      case .ping(let number): try await connection.send(.pong(number))
      case .refuse(let refusal): throw ReplicatorError(refusal)
      default: return message
      }
    }
    throw ReplicatorError(.unreachable, "the hub closed the connection")
  }

  var unexpected: ReplicatorError {
    ReplicatorError(.protocolViolation, "the hub answered with something else. Upgrade the older side.")
  }
}
