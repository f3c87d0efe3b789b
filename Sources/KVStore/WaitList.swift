// Those who wait for a version to be reached, so that however many they are a step of it costs only those whom it concerns.
//
// Invariants
// - Sorted by version; those who wait for the same one, by when they came.
// - What has been taken lies before `first`, and goes when it is more than half of the array.

import KVLog

struct WaitList<Waiter> {
  private struct Entry {
    var version: Version
    var number: UInt64
    var waiter: Waiter?
  }

  private var entries: [Entry] = []
  private var first = 0

  var isEmpty: Bool { first == entries.count }

  /// `number` is larger than that of anybody who came before.
  mutating func add(_ waiter: Waiter, for version: Version, number: UInt64) {
    let entry = Entry(version: version, number: number, waiter: waiter)
    // Most wait for what was written last.
    let isLast = entries.last.map { ($0.version, $0.number) < (version, number) } ?? true
    if isLast { entries.append(entry) } else { entries.insert(entry, at: place(of: version, number)) }
  }

  /// Takes one out before its time; nil when it has been taken already.
  mutating func remove(_ number: UInt64, for version: Version) -> Waiter? {
    let place = place(of: version, number)
    guard place < entries.count, entries[place].version == version, entries[place].number == number else { return nil }
    return entries.remove(at: place).waiter
  }

  /// Takes everybody out who waits for a version up to `version`.
  mutating func take(through version: Version) -> [Waiter] {
    var taken: [Waiter] = []
    while first < entries.count, entries[first].version <= version {
      if let waiter = entries[first].waiter.take() { taken.append(waiter) }
      first += 1
    }
    if first > entries.count / 2 {
      entries.removeFirst(first)
      first = 0
    }
    return taken
  }

  /// The first entry that does not come before the place of (version, number).
  private func place(of version: Version, _ number: UInt64) -> Int {
    var (low, high) = (first, entries.count)
    while low < high {
      let middle = (low + high) / 2
      if (entries[middle].version, entries[middle].number) < (version, number) {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }
}
