// The replica's half of the handshake: it says where it stands, and checks that the hub's answer fits.
//
// Of the four cases, `resume` goes on. The others end the session with an error that says what happened: the hub was
// restored, the replica was restored or cloned, the hub no longer has what the replica needs.

import KVLog
import KVProtocol
import KVStore

extension ReplicaSession {
  mutating func greet() {
    phase = .awaitingWelcome
    var hello = Hello(
      mode: configuration.mode, replica: state.identity, incarnation: state.incarnation, space: configuration.space,
      cursor: cursor, firstRetained: state.firstLogVersion, lastVersion: state.local.version,
      shipped: Position(identity: state.identity, version: state.shipped, digest: state.shippedDigest),
      token: configuration.token)
    hello.credit = pull.credit
    actions.append(.send(.hello(hello)))
  }

  /// A store that has pushed and never pulled knows the hub's epoch, and its history through nothing.
  private var cursor: Position? {
    guard let cursor = state.cursor, cursor.version == 0 else { return state.cursor }
    return .start(of: cursor.identity)
  }

  mutating func check(_ welcome: Welcome) {
    if let error = mismatch(welcome) { return end(error) }
    guard welcome.credit > 0, welcome.credit <= ProtocolLimits.maximumCredit else {
      return violation("it grants a credit of \(welcome.credit) bytes to begin with")
    }
    guard areAcceptable(welcome.acknowledgement, after: state.shipped) else { return }
    epoch = welcome.head.identity
    head = welcome.head.version
    fedHead = head
    push.credit = welcome.credit
    actions.append(.establish(outboundFrameBytes: welcome.maximumFrameBytes))
    if welcome.lastApplied > state.shipped {
      // An acknowledgement was lost. Before it is believed, the hub's copy of our history must be ours.
      phase = .checkingDigest(welcome)
      actions.append(.readDigest(at: welcome.lastApplied))
    } else {
      open()
    }
  }

  func mismatch(_ welcome: Welcome) -> ReplicatorError? {
    guard ProtocolLimits.versions.contains(welcome.protocolVersion), welcome.codec == 0 else {
      return ReplicatorError(
        .unsupported, "the hub chose a protocol or codec that was not offered. Upgrade the older side.")
    }
    if let cursor = state.cursor, cursor.identity != welcome.head.identity {
      return ReplicatorError(
        .differentHub,
        "this store synchronises with the space of epoch \(cursor.identity), and \"\(configuration.space)\" here has "
          + "epoch \(welcome.head.identity). Use the former hub and space."
      )
    }
    guard welcome.head.version >= pull.cursor else {
      return hubRestored("it ends at version \(welcome.head.version), and this store has pulled \(pull.cursor)")
    }
    guard welcome.lastApplied >= state.shipped else {
      return hubRestored(
        "it has version \(welcome.lastApplied) of this store, which had \(state.shipped) acknowledged")
    }
    guard welcome.incarnation == .zero || welcome.incarnation == state.incarnation else {
      return ReplicatorError(
        .replicaRestored, "the hub knows this store as another incarnation: its files were copied. Make a new replica.")
    }
    guard welcome.lastApplied <= state.local.version,
      welcome.lastApplied > state.shipped || welcome.appliedDigest == state.shippedDigest
    else { return restored(at: welcome.lastApplied) }
    if configuration.mode.contains(.pull), pull.cursor < welcome.retentionFloor {
      return ReplicatorError(
        .belowRetentionFloor,
        "this store has pulled through version \(pull.cursor), and the hub keeps only what follows "
          + "\(welcome.retentionFloor). Make a new replica."
      )
    }
    return nil
  }

  private func hubRestored(_ reason: String) -> ReplicatorError {
    ReplicatorError(
      .hubRestored,
      "the hub was restored to an older state: \(reason). The store's data is complete: restore a newer backup of the "
        + "hub, or serve the space under a new name to new replicas."
    )
  }

  func restored(at version: Version) -> ReplicatorError {
    ReplicatorError(
      .replicaRestored,
      "this store was restored to an older state or copied: what the hub got from it through version \(version) is not "
        + "what its log holds. Make a new replica and load into it what this one alone has."
    )
  }

  mutating func compare(_ digest: Digest?, _ localChanges: Int, _ localBytes: Int) {
    guard case .checkingDigest(let welcome) = phase else { return }
    guard digest == welcome.appliedDigest else { return end(restored(at: welcome.lastApplied)) }
    push.sentThrough = welcome.lastApplied
    push.decidedThrough = welcome.lastApplied
    push.note(
      welcome.acknowledgement, digest: welcome.appliedDigest, localChanges: localChanges, localBytes: localBytes)
    open()
  }

  private mutating func open() {
    phase = .open
    proceed()
  }
}
