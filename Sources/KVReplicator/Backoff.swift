// When to try again: exponential backoff with full jitter, reset by progress.
//
// Full jitter after M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015): of the variants compared
// there it makes the least load when many clients come back at once.

struct Backoff: Sendable {
  /// The ceiling of the first wait.
  var shortest: Duration
  /// The ceiling of all waits.
  var longest: Duration
  private var attempts = 0

  init(shortest: Duration, longest: Duration) {
    self.shortest = shortest
    self.longest = longest
  }

  /// Something was pushed or pulled; merely connecting is not progress.
  mutating func progressed() { attempts = 0 }

  /// The next wait: a random part of a ceiling that doubles. `random` is in 0..<1.
  mutating func next(random: Double) -> Duration {
    let ceiling = min(longest, shortest * (1 << min(attempts, 20)))
    attempts += 1
    return ceiling * random
  }
}
