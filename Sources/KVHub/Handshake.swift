// Decides whether a replica and a space fit together. A function of what both sides say, and of nothing else.
//
// Both remember where they stood with each other, with a digest each. The cases:
//
//     the space is not there, and the replica only compares            unknownSpace
//     the space is not there, and the replica knows it                 differentEpoch
//     the cursor names another epoch                                   another history: differentEpoch
//     the cursor is beyond the head, or the digest there differs       the hub lost commits: hubRestored
//     the hub has decided less than the replica was told               the hub lost commits: hubRestored
//     the hub has decided more than the replica's log holds            the replica lost commits: replicaRestored
//     both agree on the version and not on the digest                  replicaRestored
//     the hub knows another incarnation                                a copy: replicaRestored
//     the cursor is older than the retained log                        belowRetentionFloor
//     none of these                                                    resume
//
// The one case that only the replica can decide is a hub that has decided more than the replica was told: it compares
// the welcome's digest with its own log.

import KVLog
import KVProtocol

enum Handshake {
  /// What is wrong with the hello by itself.
  static func check(_ hello: Hello) -> Refusal? {
    guard SpaceName.isValid(hello.space) else {
      return Refusal(.invalidSpaceName, "\"\(hello.space)\" cannot be a space: \(SpaceName.rule)")
    }
    guard !hello.mode.isEmpty, SessionMode.known.isSuperset(of: hello.mode) else {
      return Refusal(.violation, "this hub does not know the session mode \(hello.mode.rawValue); upgrade the hub")
    }
    guard hello.scopes.isEmpty else {
      return Refusal(.scopesUnsupported, "this hub does not serve parts of a space; synchronise without scopes")
    }
    guard hello.replica != .zero, hello.incarnation != .zero, hello.shipped.version <= hello.lastVersion else {
      return Refusal(.violation, "the hello contradicts itself; upgrade the replica")
    }
    return nil
  }

  /// Whether the session may make a space that is not there yet. One that only compares has nothing to put into it; for
  /// one that has synchronised before, another space of the same name is not the one it knows.
  static func mayCreateSpace(_ hello: Hello) -> Bool {
    !hello.mode.isDisjoint(with: [.push, .pull]) && hello.cursor == nil && hello.shipped.version == 0
  }

  /// What a replica is told whose space is not there and is not made.
  static func refuseAbsentSpace(_ hello: Hello) -> Refusal {
    guard let epoch = hello.cursor?.identity else {
      let remedy =
        hello.mode.contains(.compare)
        ? "check its name; the first replica that synchronises with it makes it"
        : "check its name; it makes no new ones"
      return Refusal(.unknownSpace, "there is no space \"\(hello.space)\" on this hub; \(remedy)")
    }
    return Refusal(
      .differentEpoch,
      "there is no space \"\(hello.space)\" on this hub, and this replica has synchronised with a space before (its "
        + "epoch is \(epoch)); check the address and the name. If the hub lost its data, restore its backup, or make a "
        + "new replica and load into it what this one has")
  }

  /// What is wrong between the replica and the space.
  static func decide(_ hello: Hello, _ state: SpaceState) -> Refusal? {
    if let cursor = hello.cursor, cursor.identity != state.head.identity {
      return Refusal(
        .differentEpoch,
        "space \"\(hello.space)\" here is not the one this replica synchronised with before (its epoch is "
          + "\(state.head.identity), the replica knows \(cursor.identity)); use the former hub or space, or make a new "
          + "replica")
    }
    guard hello.mode.isSynchronising else { return nil }
    return decideProgress(hello, state) ?? decideCursor(hello, state)
  }

  private static func decideProgress(_ hello: Hello, _ state: SpaceState) -> Refusal? {
    let shipped = hello.shipped
    guard let progress = state.progress else {
      guard shipped.version > 0 else { return nil }
      return hubRestored(state, "it has nothing of this replica, which had version \(shipped.version) acknowledged")
    }
    guard progress.incarnation == hello.incarnation else {
      return replicaRestored(progress, "the hub knows it as another incarnation: its files were copied or restored")
    }
    guard progress.lastApplied <= hello.lastVersion else {
      return replicaRestored(
        progress, "its log ends at version \(hello.lastVersion), and the hub has version \(progress.lastApplied)")
    }
    guard progress.lastApplied >= shipped.version else {
      return hubRestored(
        state, "it has version \(progress.lastApplied) of this replica, which had \(shipped.version) acknowledged")
    }
    guard progress.lastApplied > shipped.version || progress.digest == shipped.digest else {
      return replicaRestored(progress, "its log and what the hub got from it differ at version \(shipped.version)")
    }
    return nil
  }

  private static func decideCursor(_ hello: Hello, _ state: SpaceState) -> Refusal? {
    let cursor = hello.cursor?.version ?? 0
    guard cursor <= state.head.version else {
      return hubRestored(state, "it ends at version \(state.head.version), and this replica has pulled \(cursor)")
    }
    if hello.mode.contains(.pull), cursor < state.retentionFloor {
      return Refusal(
        .belowRetentionFloor, version: state.retentionFloor,
        "this replica has pulled through version \(cursor), and the hub keeps what follows \(state.retentionFloor) "
          + "only; make a new replica")
    }
    if let digest = hello.cursor?.digest, let ours = state.digestAtCursor, digest != ours {
      return hubRestored(state, "its history differs from what this replica pulled, at or before version \(cursor)")
    }
    return nil
  }

  private static func hubRestored(_ state: SpaceState, _ reason: String) -> Refusal {
    Refusal(
      .hubRestored, version: state.head.version,
      "the hub was restored to an older state: \(reason). Restore a newer backup of the hub, or serve the space under "
        + "a new name; the replica's data is complete")
  }

  private static func replicaRestored(_ progress: ReplicaProgress, _ reason: String) -> Refusal {
    Refusal(
      .replicaRestored, version: progress.lastApplied,
      "this replica was restored or cloned: \(reason). Make a new replica and load into it what this one alone has")
  }
}
