// What a replicator knows of how it stands, put together from what its sessions and its attempts say.
//
// Invariants
// - Durations are of the monotonic clock. The age of a change alone is held against the clock that wrote it.
// - A change of state is told once; numbers within a state are no change.

import KVLog
import KVStore
import Synchronization

final class StatusBoard: Sendable {
  /// How a session stands.
  struct Session: Sendable {
    /// The handshake is over.
    var isOpen = false
    /// Hub and store have nothing left for each other.
    var isCaughtUp = false
    /// Steps: local changes decided, and the hub's versions that came, in this session.
    var done = 0
    var remaining = 0
    var hubVersion: Version = 0
  }

  private enum Activity {
    case idle, waiting
    case connecting
    case session(Session)
    case ended(ReplicatorStatus.State)
  }

  private struct Contents {
    var activity = Activity.idle
    var isPaused = false
    var hubVersion: Version?
    var lastError: ReplicatorError?
    var nextTry: ContinuousClock.Instant?
    /// When the store last had all that the hub had.
    var lastLevel: ContinuousClock.Instant?
    var meter = ProgressMeter()
    /// Steps done when the present catching up began.
    var doneBefore = 0
    /// Since when a session that was live has had work left.
    var behindSince: ContinuousClock.Instant?
    var hasBeenLive = false
    var told = ReplicatorStatus.State.offline.name
    var repairs: [Repair] = []
    /// The first pending change's time, by the version it comes after.
    var oldest: (acknowledged: Version, time: UInt64)?
  }

  /// A session that was live stays so for as long as a change takes to be decided on most links.
  private static let patience = Duration.seconds(1)

  private let store: Store
  let listeners = Listeners()
  private let began = ContinuousClock.now
  private let contents = Mutex(Contents())

  init(_ store: Store) { self.store = store }

  // MARK: What happens

  func paused(_ isPaused: Bool) { change { contents, _ in contents.isPaused = isPaused } }

  func connecting() {
    change { contents, _ in
      contents.activity = .connecting
      contents.nextTry = nil
    }
  }

  /// A session says how it stands, whenever that has changed and now and then.
  func note(_ session: Session) {
    change { contents, now in
      let wasOpen = if case .session(let former) = contents.activity { former.isOpen } else { false }
      contents.activity = .session(session)
      guard session.isOpen else { return }
      contents.hubVersion = session.hubVersion
      if !wasOpen {
        contents.lastError = nil
        contents.meter = ProgressMeter()
        contents.doneBefore = session.done
        contents.hasBeenLive = false
        contents.behindSince = nil
      }
      contents.meter.note(session.done, at: now - began)
      if session.isCaughtUp {
        contents.lastLevel = now
        contents.hasBeenLive = true
        contents.behindSince = nil
        contents.doneBefore = session.done
      } else if contents.behindSince == nil {
        contents.behindSince = now
      }
    }
  }

  /// Nothing is under way. When it was all done by the end, it still is.
  func ended(_ error: ReplicatorError?) {
    change { contents, now in
      if case .session(let session) = contents.activity, session.isCaughtUp { contents.lastLevel = now }
      contents.nextTry = nil
      contents.lastError = error ?? contents.lastError
      guard let error, !error.isTransient else { return contents.activity = .idle }
      contents.activity = .ended(error.code == .notAuthorized ? .needsAuthorization : .failed)
    }
  }

  /// What a session found out: if it is a repair, the status has it as well, with those that replicators before this one
  /// left in the store; returns it then.
  func tell(_ notice: SessionNotice) -> Repair? {
    let repair = Repair(notice)
    if let repair { contents.withLock { $0.repairs.note(repair) } }
    listeners.tell(notice.event)
    return repair
  }

  func recall(_ repairs: [Repair]) {
    contents.withLock { contents in
      for repair in repairs.reversed() where !contents.repairs.contains(where: { $0.cause.name == repair.cause.name }) {
        contents.repairs.insert(repair, at: 0)
      }
    }
  }

  func retrying(_ error: ReplicatorError, after wait: Duration) {
    change { contents, now in
      if case .session(let session) = contents.activity, session.isCaughtUp { contents.lastLevel = now }
      contents.activity = error.code == .notAuthorized ? .ended(.needsAuthorization) : .waiting
      contents.lastError = error
      contents.nextTry = now + wait
    }
    listeners.tell(.retrying(error, after: wait))
  }

  private func change(_ body: (inout Contents, ContinuousClock.Instant) -> Void) {
    let now = ContinuousClock.now
    let changed = contents.withLock { contents -> ReplicatorStatus.State? in
      body(&contents, now)
      let state = state(contents, now)
      guard contents.told != state.name else { return nil }
      contents.told = state.name
      return state
    }
    if let changed { listeners.tell(.stateChanged(changed)) } else { listeners.knock() }
  }

  // MARK: How it stands

  private func state(_ contents: Contents, _ now: ContinuousClock.Instant) -> ReplicatorStatus.State {
    if contents.isPaused { return .paused }
    switch contents.activity {
    case .idle, .waiting: return .offline
    case .connecting: return .connecting
    case .ended(let state): return state
    case .session(let session):
      guard session.isOpen else { return .connecting }
      let isPatient = contents.hasBeenLive && contents.behindSince.map { now - $0 < Self.patience } ?? true
      if session.isCaughtUp || isPatient { return .live }
      let done = max(0, session.done - contents.doneBefore)
      return .catchingUp(
        progress: Double(done) / Double(max(1, done + session.remaining)),
        rate: contents.meter.rate(done: session.done, at: now - began), remaining: session.remaining)
    }
  }

  /// Whether a session is under way that has nothing left.
  var isLevel: Bool {
    contents.withLock { contents in
      if case .session(let session) = contents.activity { session.isCaughtUp } else { false }
    }
  }

  var status: ReplicatorStatus {
    let now = ContinuousClock.now
    let local = store.replicaState()
    let age = oldestPendingAge(local)
    let unresolved = store.counters().unresolvedConflicts
    let isLevel = isLevel
    return contents.withLock { contents in
      let cursor = local.cursor?.version ?? 0
      return ReplicatorStatus(
        state: state(contents, now), localVersion: local.local.version,
        acknowledgedVersion: local.acknowledgedVersion, serverVersion: cursor, hubVersion: contents.hubVersion,
        pendingChanges: local.pendingChanges, pendingBytes: local.pendingBytes, oldestPendingAge: age,
        lagVersions: contents.hubVersion.map { $0 > cursor ? $0 - cursor : 0 },
        lag: isLevel ? .zero : contents.lastLevel.map { now - $0 },
        nextTry: contents.nextTry.map { max(.zero, $0 - now) }, lastError: contents.lastError,
        unresolvedConflicts: unresolved, hubRetention: HubRetention(local.contact), repairs: contents.repairs)
    }
  }

  private func oldestPendingAge(_ local: ReplicaState) -> Duration? {
    guard local.pendingChanges > 0 else { return nil }
    let known = contents.withLock { $0.oldest }
    let time: UInt64
    if let known, known.acknowledged == local.acknowledgedVersion {
      time = known.time
    } else {
      // A closed store, or one whose log is damaged, says so where it is asked for data.
      guard let found = try? store.timeOfLocalCommit(after: local.acknowledgedVersion) else { return nil }
      time = found
      contents.withLock { $0.oldest = (local.acknowledgedVersion, found) }
    }
    let clock = Store.clockMilliseconds
    return .milliseconds(clock > time ? Int64(clock - time) : 0)
  }
}
