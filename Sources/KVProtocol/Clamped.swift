// Bringing what a program configured into the range that is allowed.

extension Comparable {
  /// The value itself, or the bound that it lies beyond.
  package func clamped(to range: ClosedRange<Self>) -> Self {
    min(max(self, range.lowerBound), range.upperBound)
  }
}
