// Decides whether a replica and a space fit together. A function of what both sides say, and of nothing else.
//
// Both remember where they stood with each other, with a digest each. The cases:
//
//     the space is not there, and the replica only compares            unknownSpace
//     the space is not there, and the replica knows it                 differentEpoch, unless it adopts
//     the cursor's epoch was never this space's                        differentEpoch; or, if the replica adopts, a
//                                                                      welcome that says so and opens nothing
//     the cursor is not in this history                                the hub was restored: welcome, from the newest
//     the hub has decided less than the replica was told               position that is; with a new epoch
//     the hub has decided more than the replica's log holds            replicaRestored
//     the replica has not heard of it, and its log lacks what
//     something was left out for                                       replicaRestored
//     both agree on the version and not on the digest                  replicaRestored, and a new epoch: the hub decided
//                                                                      something else there once
//     the common position is older than the retained log               lapsed: welcome, and nothing is fed; the replica begins
//                                                                      again with a snapshot
//     none of these                                                    resume
//
// A replica that hears replicaRestored goes on as a new incarnation. So does one that finds, by the welcome's digest, that a
// hub which has decided more than it was told has decided other commits than its own, or that it had once confirmed an
// exception of which it has not heard.

import KVLog
import KVProtocol

enum Handshake {
  /// What is wrong with the hello by itself.
  static func check(_ hello: Hello) -> Refusal? {
    guard SpaceName.isValid(hello.space) else {
      return Refusal(.invalidSpaceName, "\"\(hello.space)\" cannot be a space: \(SpaceName.rule)")
    }
    guard !hello.mode.subtracting(.adopt).isEmpty, SessionMode.known.isSuperset(of: hello.mode) else {
      return Refusal(.violation, "this hub does not know the session mode \(hello.mode.rawValue); upgrade the hub")
    }
    guard hello.replica != .zero, hello.shipped.version <= hello.lastVersion else {
      return Refusal(.violation, "the hello contradicts itself; upgrade the replica")
    }
    return nil
  }

  /// Whether the session may make a space that is not there yet. One that only compares has nothing to put into it; for
  /// one that has synchronised before, another space of the same name is not the one it knows.
  static func mayCreateSpace(_ hello: Hello) -> Bool {
    hello.mode.isSynchronising
      && (hello.mode.contains(.adopt) || hello.cursor == nil && hello.shipped.version == 0)
  }

  /// What a replica is told whose space is not there and is not made, perhaps because its credential does not go so far.
  static func refuseAbsentSpace(_ hello: Hello, mayCreate: Bool) -> Refusal {
    guard let epoch = hello.cursor?.identity else {
      let remedy =
        hello.mode.contains(.compare)
        ? "check its name; the first replica that synchronises with it makes it"
        : mayCreate
          ? "check its name; it makes no new ones"
          : "check its name; to make it takes a token that names the space, or an administrator's"
      return Refusal(.unknownSpace, "there is no space \"\(hello.space)\" on this hub; \(remedy)")
    }
    return Refusal(
      .differentEpoch,
      "there is no space \"\(hello.space)\" on this hub, and this replica has synchronised with a space before (its "
        + "epoch is \(epoch)); check the address and the name. If the hub lost its data, restore its backup, or have the "
        + "replica adopt this space")
  }

  /// What is wrong between the replica and the space, beyond what a welcome can mend.
  static func decide(_ hello: Hello, _ state: SpaceState) -> Refusal? {
    guard state.common != nil else {
      if hello.mode.contains(.adopt) { return nil }
      let epoch = hello.cursor?.identity ?? .zero
      return Refusal(
        .differentEpoch,
        "space \"\(hello.space)\" here is not the one this replica synchronised with before (its epoch is "
          + "\(state.head.identity), the replica knows \(epoch)); use the former address, or have the replica adopt "
          + "this space")
    }
    guard hello.mode.isSynchronising else { return nil }
    return decideProgress(hello, state)
  }

  /// Whether the hub has lost something that it had given to the replica, or taken from it: it was restored, and a new epoch is to
  /// begin. Replicas that name an epoch before the present one are behind that already.
  static func findsHubRestored(_ hello: Hello, _ state: SpaceState) -> Bool {
    guard let cursor = hello.cursor, let common = state.common,
      !state.formerEpochs.contains(cursor.identity), hello.mode.isSynchronising
    else { return false }
    // It decided something else there once.
    if hello.shipped.version > 0, differs(hello, state) { return true }
    guard decideProgress(hello, state) == nil else { return false }
    return cursor.identity != state.head.identity || common.version < cursor.version
      || state.progress?.lastApplied ?? 0 < hello.shipped.version
  }

  private static func decideProgress(_ hello: Hello, _ state: SpaceState) -> Refusal? {
    guard let progress = state.progress else { return nil }
    guard progress.lastApplied <= hello.lastVersion else {
      return replicaRestored(
        progress, "its log ends at version \(hello.lastVersion), and the hub has version \(progress.lastApplied)")
    }
    // What it has heard of, it heard of with the log that the pushes were made of.
    guard progress.lastApplied <= hello.shipped.version || progress.horizon.version <= hello.lastVersion else {
      return replicaRestored(
        progress,
        "its log ends at version \(hello.lastVersion), and what the hub got lacks what was overwritten by version "
          + "\(progress.horizon.version)")
    }
    guard !differs(hello, state) else {
      return replicaRestored(
        progress, "its log and what the hub got from it differ at version \(hello.shipped.version)")
    }
    return nil
  }

  /// Whether both agree on a version, and not on what is there.
  private static func differs(_ hello: Hello, _ state: SpaceState) -> Bool {
    guard let progress = state.progress, progress.lastApplied == hello.shipped.version else { return false }
    return progress.digest != hello.shipped.digest && progress.digestKind != .commit
  }

  private static func replicaRestored(_ progress: ReplicaProgress, _ reason: String) -> Refusal {
    Refusal(
      .replicaRestored, version: progress.lastApplied,
      "this replica was restored or cloned: \(reason). It goes on as a new incarnation")
  }
}
