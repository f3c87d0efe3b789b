// Keeps in the store what the hub promises, and since when that counts: so that a replica that cannot reach its hub knows how
// long it may stay away.
//
// Invariants
// - A session that ends has it noted, and one that goes on so often that what is noted is young beside what is promised.
// - Nobody waits for it, and that it cannot be noted, on a full disk for example, is nobody's trouble: the time before counts.

import KVLog
import KVProtocol
import KVStore

/// What a hub says of itself, in a welcome and with each acknowledgement.
struct HubPromise: Sendable, Equatable {
  /// Seconds for which it keeps what a store needs to go on; 0: for ever.
  var retentionSeconds: UInt64
  /// Its version that a backup of it covers; 0: none is announced.
  var backedUp: Version

  /// A thousand years: more is taken for that.
  private static let longestRetention: UInt64 = 1_000 * 365 * 86_400

  init(_ welcome: Welcome) {
    retentionSeconds = min(welcome.retentionSeconds, Self.longestRetention)
    backedUp = min(welcome.backedUp, welcome.head.version)
  }

  mutating func note(_ acknowledgement: Acknowledgement) {
    backedUp = max(backedUp, min(acknowledgement.backedUp, acknowledgement.head))
  }
}

struct ContactKeeper: Sendable {
  private static let interval = Duration.seconds(1)
  /// An idle replica writes a few bytes so often, at most.
  private static let longestAge: UInt64 = 3_600_000

  let store: Store
  /// How it is now; nil: the hub has said nothing.
  let contact: @Sendable () -> (HubContact, epoch: Identity)?

  /// Until cancelled.
  func run() async {
    while !Task.isCancelled {
      do { try await Task.sleep(for: Self.interval) } catch { return }
      guard let (contact, _) = contact() else { continue }
      let noted = store.replicaState().contact
      if Self.isDue(contact, after: noted) { await note() }
    }
  }

  /// A time that was noted may lie ahead of the clock, which was set back since.
  static func isDue(_ contact: HubContact, after noted: HubContact) -> Bool {
    var same = noted
    same.levelTime = contact.levelTime
    guard same == contact, contact.levelTime >= noted.levelTime else { return true }
    let age = contact.retentionSeconds == 0 ? longestAge : min(longestAge, contact.retentionSeconds * 1_000 / 64)
    return contact.levelTime - noted.levelTime > age
  }

  func note() async {
    guard let (contact, epoch) = contact() else { return }
    try? await store.note(contact, epoch: epoch)
  }
}
