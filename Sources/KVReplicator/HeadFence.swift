// The session's half that finds out what the hub has at a moment, and when that is here.
//
// Invariants
// - One question is under way at a time; whoever asks meanwhile waits for the next one, as the answer to the first may have
//   been given before he asked. So any number of callers costs one message for each round trip.
// - A question counts as answered when the cursor has reached what the hub said.

import KVLog
import KVProtocol
import KVStore

struct HeadFence: Sendable {
  /// Callers are numbered; so many have asked.
  var wanted: UInt64 = 0
  /// For so many of them the hub has been asked…
  var asked: UInt64 = 0
  /// …and this is what it answered; nil: it has not yet.
  var head: Version?
  /// So many have been served.
  var reached: UInt64 = 0

  var isAwaitingHub: Bool { asked > reached && head == nil }
}

extension ReplicaSession {
  /// Callers up to this number want to know.
  mutating func want(_ number: UInt64) {
    fence.wanted = max(fence.wanted, number)
    proceed()
  }

  mutating func receiveHead(_ number: UInt64, _ version: Version) {
    guard fence.isAwaitingHub, number == fence.asked else {
      return violation("it answers a question that was not asked")
    }
    fence.head = version
    head = max(head, version)
    proceed()
  }

  mutating func pumpFence() {
    guard configuration.mode.contains(.pull), !budget.isPausing else { return }
    if let target = fence.head, pull.cursor >= target, state.missing.isEmpty {
      fence.reached = fence.asked
      fence.head = nil
    }
    guard fence.asked == fence.reached, fence.wanted > fence.asked else { return }
    fence.asked = fence.wanted
    actions.append(.send(.headRequest(fence.asked)))
  }
}
