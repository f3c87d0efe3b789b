// How fast work goes, over a sliding window, so that a stall shows and what was long ago does not.
//
// Invariants
// - Times are of a monotonic clock, handed in by the caller.
// - It keeps a bounded number of samples, whatever it is told how often.

struct ProgressMeter: Sendable {
  /// Long enough to smooth over a segment on a slow link, short enough to follow a change of the network.
  static let window = Duration.seconds(5)
  private static let sampleCount = 20

  private var samples: [(time: Duration, done: Int)] = []

  /// So much has been done, ever.
  mutating func note(_ done: Int, at time: Duration) {
    guard let last = samples.last else { return samples.append((time, done)) }
    guard time - last.time >= Self.window / Self.sampleCount else { return }
    samples.append((time, done))
    // The one before the window is kept: the rate is measured from there.
    while samples.count > 2, time - samples[1].time >= Self.window { samples.removeFirst() }
  }

  /// Units a second over the window that ends now; 0 before there is anything to go by.
  func rate(done: Int, at time: Duration) -> Double {
    guard let first = samples.last(where: { time - $0.time >= Self.window }) ?? samples.first else { return 0 }
    let elapsed = time - first.time
    guard elapsed >= .milliseconds(100) else { return 0 }
    return max(0, Double(done - first.done) / elapsed.seconds)
  }
}

extension Duration {
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
