// How often somebody may fail to show a credential: a bucket of tries for each network address. A value: the time comes
// from outside.
//
// Invariants:
// - An address has `burst` tries, and gets one back every `interval`. What succeeds costs nothing.
// - At most `capacity` addresses are remembered. When there are more, those go first that have failed least: an attacker
//   with many addresses makes room for himself by forgetting his own.

struct FailureLimiter: Sendable {
  private struct Bucket {
    /// When it is full again.
    var full: Duration
  }

  private let burst: Int
  private let interval: Duration
  private let capacity: Int
  private var buckets: [String: Bucket] = [:]

  init(burst: Int, interval: Duration, capacity: Int) {
    self.burst = burst
    self.interval = interval
    self.capacity = capacity
  }

  var count: Int { buckets.count }

  /// Whether the address has a try left.
  func admits(_ address: String, now: Duration) -> Bool {
    guard let bucket = buckets[address] else { return true }
    return bucket.full - now <= interval * (burst - 1)
  }

  mutating func failed(_ address: String, now: Duration) {
    let full = max(buckets[address]?.full ?? now, now) + interval
    // Connections that failed at the same time do not lock the address out for longer than an empty bucket does.
    buckets[address] = Bucket(full: min(full, now + interval * burst))
    guard buckets.count > capacity else { return }
    buckets = buckets.filter { $0.value.full > now }
    while buckets.count > capacity, let least = buckets.min(by: { $0.value.full < $1.value.full }) {
      buckets[least.key] = nil
    }
  }
}
