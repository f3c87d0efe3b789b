// What a replicator tells while it works, one value per kind, and how two of a kind become one.
//
// Invariant: merging loses no version and no count: a listener that is late hears of all of them, in fewer words.

public import KVLog

/// Something that has happened, as ``Replicator/events`` tells it. More kinds may come: switch with a `default`.
public enum ReplicatorEvent: Sendable, Hashable {
  /// Written here, by whatever process: so many changes in commits of these local versions. Commits that carry on what
  /// was stale or in conflict count as well; between them there may be commits that were pulled.
  case added(versions: ClosedRange<Version>, changes: Int)
  /// Sent to the hub, and again after a link broke: local changes of these versions.
  case sent(versions: ClosedRange<Version>, changes: Int)
  /// Decided by the hub, and recorded here: local changes of these versions. One may have been found stale, and is then
  /// offered again under a later version.
  case acknowledged(versions: ClosedRange<Version>, changes: Int)
  /// Not accepted by the hub: the commits wait here, out of the way of all others.
  case parked(ParkedCommits)
  /// So many conflicts were found and recorded in the journal.
  case conflicts(Int)
  /// It will be tried again after this long, for this reason; when the network comes back, at once.
  case retrying(ReplicatorError, after: Duration)
  /// Hub and store had nothing left for each other: what the session had done by then.
  case caughtUp(SyncReport)
  /// ``ReplicatorStatus/state`` is another one.
  case stateChanged(ReplicatorStatus.State)
  /// The hub was restored to an older state; what it lost is offered to it again.
  case hubRestored(HubRestoration)
  /// This store was restored to an older state, or is a copy: it goes on under this incarnation, and nothing is lost.
  case becameNewIncarnation(Identity)
  /// The store left the space that it was bound to and adopted another one, as ``Replicator/Configuration/adoptsForeignHub``
  /// says: what it holds is offered there.
  case adoptedSpace(SpaceAdoption)
  /// This replica was away for longer than the hub keeps its history: everything is loaded anew, and what is pending here
  /// stays.
  case lapsed
  /// So many keys of everything have been loaded.
  case loadingSnapshot(keys: Int)
  /// Unless it synchronises within this time, the hub may no longer have what this replica lacks: less than a quarter of
  /// ``HubRetention/keeps`` is left. 0: it may have happened already; nil: not known, as this machine's clock was set
  /// back. Told without the hub too, again each time that half of what was left has passed, and anew by each ``Replicator``.
  case lapseWarning(within: Duration?)
}

/// Commits that the hub did not accept.
public struct ParkedCommits: Sendable, Hashable {
  /// From the first to the last of them; commits between them may have been accepted.
  public var versions: ClosedRange<Version>
  /// How many.
  public var count: Int
  /// Why the last one was not accepted.
  public var reason: String

  /// So many commits within these versions.
  public init(versions: ClosedRange<Version>, count: Int, reason: String) {
    self.versions = versions
    self.count = count
    self.reason = reason
  }
}

/// A space that a store has adopted.
public struct SpaceAdoption: Sendable, Hashable {
  /// The space, by the name that it keeps whatever becomes of its hub.
  public var space: Identity
  /// Rows that are offered to it beside what was pending: values and deletions.
  public var rows: Int

  /// So many rows for this space.
  public init(space: Identity, rows: Int) {
    self.space = space
    self.rows = rows
  }
}

/// What a hub lost that was restored to an older state. It is offered again.
public struct HubRestoration: Sendable, Hashable {
  /// Commits of this store that the hub had acknowledged; nil: none.
  public var local: ClosedRange<Version>?
  /// The hub's own versions that this replica had pulled; nil: none.
  public var server: ClosedRange<Version>?

  /// These versions.
  public init(local: ClosedRange<Version>?, server: ClosedRange<Version>?) {
    self.local = local
    self.server = server
  }
}

extension ReplicatorEvent {
  /// Events of one kind are merged.
  var kind: Int {
    switch self {
    case .added: 0
    case .sent: 1
    case .acknowledged: 2
    case .parked: 3
    case .conflicts: 4
    case .retrying: 5
    case .caughtUp: 6
    case .stateChanged: 7
    case .hubRestored: 8
    case .becameNewIncarnation: 9
    case .lapsed: 10
    case .loadingSnapshot: 11
    case .lapseWarning: 12
    case .adoptedSpace: 13
    }
  }

  static let kindCount = 14

  /// This event and a later one of the same kind, as one.
  func merged(with later: ReplicatorEvent) -> ReplicatorEvent {
    switch (self, later) {
    case (.added(let first, let firstChanges), .added(let second, let secondChanges)):
      .added(versions: first.joined(with: second), changes: firstChanges + secondChanges)
    case (.sent(let first, let firstChanges), .sent(let second, let secondChanges)):
      .sent(versions: first.joined(with: second), changes: firstChanges + secondChanges)
    case (.acknowledged(let first, let firstChanges), .acknowledged(let second, let secondChanges)):
      .acknowledged(versions: first.joined(with: second), changes: firstChanges + secondChanges)
    case (.parked(let first), .parked(let second)):
      .parked(
        ParkedCommits(
          versions: first.versions.joined(with: second.versions), count: first.count + second.count,
          reason: second.reason))
    case (.conflicts(let first), .conflicts(let second)): .conflicts(first + second)
    case (.hubRestored(let first), .hubRestored(let second)):
      .hubRestored(
        HubRestoration(local: first.local.joined(with: second.local), server: first.server.joined(with: second.server)))
    case (.adoptedSpace(let first), .adoptedSpace(let second)):
      .adoptedSpace(SpaceAdoption(space: second.space, rows: first.rows + second.rows))
    default: later
    }
  }

  /// Of these a later one takes the place of an earlier one, and what happened in between comes first.
  var isState: Bool {
    switch self {
    case .retrying, .caughtUp, .stateChanged, .loadingSnapshot, .lapseWarning: true
    default: false
    }
  }
}

extension ClosedRange {
  fileprivate func joined(with other: ClosedRange) -> ClosedRange {
    Swift.min(lowerBound, other.lowerBound)...Swift.max(upperBound, other.upperBound)
  }
}

extension Optional {
  fileprivate func joined<Bound>(with other: ClosedRange<Bound>?) -> ClosedRange<Bound>?
  where Wrapped == ClosedRange<Bound> {
    guard let range = self, let other else { return self ?? other }
    return range.joined(with: other)
  }
}
