// Virtual time: what is to happen, in the order of its time. Nothing waits for a clock.
//
// Invariants
// - Of two things at the same time the one that was planned first happens first, so a seed gives one history.

struct Timeline<Event> {
  private struct Entry {
    var time: Int
    var number: Int
    var event: Event

    func precedes(_ other: Entry) -> Bool { (time, number) < (other.time, other.number) }
  }

  /// Microseconds since the simulation began.
  private(set) var now = 0
  private var heap: [Entry] = []
  private var count = 0

  mutating func plan(_ event: Event, after delay: Int) { plan(event, at: now + delay) }

  mutating func plan(_ event: Event, at time: Int) {
    count += 1
    heap.append(Entry(time: max(now, time), number: count, event: event))
    var index = heap.count - 1
    while index > 0 {
      let parent = (index - 1) / 2
      guard heap[index].precedes(heap[parent]) else { return }
      heap.swapAt(index, parent)
      index = parent
    }
  }

  /// The next event; time goes on to it. nil: nothing is planned.
  mutating func next() -> Event? {
    guard let first = heap.first else { return nil }
    now = first.time
    let last = heap.removeLast()
    guard !heap.isEmpty else { return first.event }
    heap[0] = last
    var index = 0
    while true {
      var least = index
      for child in [2 * index + 1, 2 * index + 2] where child < heap.count && heap[child].precedes(heap[least]) {
        least = child
      }
      guard least != index else { return first.event }
      heap.swapAt(index, least)
      index = least
    }
  }
}
