// One line on the terminal that shows how far a command is. Without a terminal it shows nothing: logs stay clean.
//
// Invariants
// - Writes only to a standard error that is a terminal, at most ten times a second.
// - After `finish` the line is gone.

struct ProgressBar {
  private static let width = 24
  private static let interval = Duration.milliseconds(100)

  private let isShown: Bool
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant
  private var lastDrawn: ContinuousClock.Instant

  init(isSilent: Bool = false) {
    isShown = !isSilent && SystemCall.isTerminal(SystemCall.standardError)
    start = clock.now
    lastDrawn = start
  }

  var elapsed: Duration { clock.now - start }

  /// Shows `done` of `total` (nil when the end is not known), and the number of `items` done with their rate.
  mutating func update(done: Int, total: Int?, items: Int, noun: String) {
    guard isShown else { return }
    let now = clock.now
    guard now - lastDrawn >= Self.interval else { return }
    lastDrawn = now
    var line = "\r\u{1B}[K"
    let elapsed = now - start
    if let total, total > 0 {
      let share = min(1, Double(done) / Double(total))
      let filled = Int(share * Double(Self.width))
      line += "[" + String(repeating: "#", count: filled) + String(repeating: "-", count: Self.width - filled) + "] "
      line += "\(Int(share * 100)) %  "
      line += "\(Amount.count(items)) \(noun)  \(Amount.rate(items, in: elapsed))"
      if share > 0.01 {
        let left = Amount.seconds(elapsed) / share * (1 - share)
        line += "  \(Amount.count(Int(left.rounded(.up)))) s left"
      }
    } else {
      line += "\(Amount.count(items)) \(noun)  \(Amount.rate(items, in: elapsed))"
    }
    Messages.write(line)
  }

  func finish() {
    if isShown { Messages.write("\r\u{1B}[K") }
  }
}
