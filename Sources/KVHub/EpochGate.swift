// How often a space may begin a new epoch because a replica says that it knows more than the hub: a hub that was restored
// hears that from a few, one that is lied to from somebody again and again. Each epoch is remembered for good.

import Synchronization

final class EpochGate: Sendable {
  private let began = ContinuousClock.now
  private let limiter = Mutex(
    FailureLimiter(
      burst: HubLimits.epochsAtOnce, interval: HubLimits.epochInterval, capacity: HubLimits.rememberedAddresses))

  /// Whether there may be one more, which is then counted.
  func mayBegin(in space: String) -> Bool {
    let now = ContinuousClock.now - began
    return limiter.withLock { limiter in
      guard limiter.admits(space, now: now) else { return false }
      limiter.failed(space, now: now)
      return true
    }
  }
}
