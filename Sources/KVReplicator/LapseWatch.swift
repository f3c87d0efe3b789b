// Warns of a replica's lapse while there is time to do something about it, with or without a hub to ask.
//
// Invariants
// - A warning is told when the last quarter begins, again each time that half of what was left has passed, and once when
//   nothing is left. A replicator that starts later than that begins with where it is.
// - When store and hub have the same again, all begins anew.

import KVLog
import KVProtocol
import KVStore

struct LapseWatch: Sendable {
  /// Halvings of the last quarter that are told.
  private static let halvings = 6

  private var retention: HubRetention?
  /// How often it was told, or would have been, had somebody looked; nil: not once.
  private var told: Int?

  /// What there is to be told now.
  mutating func look(_ current: HubRetention?, at now: HybridTime) -> SessionNotice? {
    if current != retention {
      retention = current
      told = nil
    }
    guard let current, current.isRunningOut(at: now) else { return nil }
    let stage: Int
    var left: Duration?
    switch current.remaining(at: now) {
    case .forever: return nil
    case .unknown: stage = -1
    case .time(let time):
      left = time
      var step = 0
      var bound = (current.keeps ?? .zero) / 8
      while step < Self.halvings, time < bound {
        bound = bound / 2
        step += 1
      }
      stage = time == .zero ? Self.halvings + 1 : step
    }
    guard told.map({ stage > $0 }) ?? true else { return nil }
    told = stage
    return .lapseWarning(within: left)
  }
}

/// Looks while a replicator is at work.
struct LapseWatcher: Sendable {
  let store: Store
  let clock: @Sendable () -> UInt64
  /// Whether store and hub have the same at present: what the store has noted of that is a little behind.
  let isLevel: @Sendable () -> Bool
  /// Told each warning; must not block.
  let tell: @Sendable (SessionNotice) -> Void

  /// Until cancelled. What is due at once is told before anything else.
  func run() async {
    var watch = LapseWatch()
    while !Task.isCancelled {
      let retention = HubRetention(store.replicaState().contact)
      if !isLevel(), let notice = watch.look(retention, at: HybridTime(milliseconds: clock())) { tell(notice) }
      // A hub that keeps what is new for a day is looked after once a minute.
      let pause = (retention?.keeps ?? .seconds(86_400)) / 1_024
      do { try await Task.sleep(for: pause.clamped(to: .milliseconds(50)...Duration.seconds(60))) } catch { return }
    }
  }
}
