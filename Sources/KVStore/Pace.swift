// How far writers may be ahead of a fold: many groups wait some hundredths of a second, in proportion to how slow the fold
// is, and none until it is done.
//
// Invariants
// - A fold gives its generations back all at once, at its end. Of the room beside them, or what the next fold takes if that
//   is less, writers may use a lead, and of the rest as large a share as the fold has done of its work.
// - So who keeps pace never meets the limit of what may wait; it is there for those who do not wait.

struct Pace {
  /// How much of what may wait for the folder is being folded, up to 1.
  var folding: Double
  /// How much of the fold is done, up to 1.
  var done: Double

  /// How much of what may wait one fold takes, at most: as much can come meanwhile.
  static let largestFold = 0.5

  /// Whether too much waits, what is being folded included.
  func isExceeded(by waiting: Double) -> Bool {
    let lead = StoreLimits.leadOfWriters
    return waiting > folding + min(1 - folding, Pace.largestFold) * (lead + (1 - lead) * done)
  }
}
