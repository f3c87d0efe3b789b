// What a listener has yet to hear: at most one event of each kind.

struct PendingEvents: Sendable {
  private var waiting: [ReplicatorEvent] = []

  mutating func add(_ event: ReplicatorEvent) {
    guard let place = waiting.firstIndex(where: { $0.kind == event.kind }) else { return waiting.append(event) }
    let merged = waiting[place].merged(with: event)
    if event.isState {
      waiting.remove(at: place)
      waiting.append(merged)
    } else {
      waiting[place] = merged
    }
  }

  /// The one that has waited longest.
  mutating func take() -> ReplicatorEvent? { waiting.isEmpty ? nil : waiting.removeFirst() }

  var count: Int { waiting.count }
}
