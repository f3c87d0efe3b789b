// State that several threads share and wait on: a mutex with a condition, which the standard library's Mutex lacks.

import Foundation

/// Guards `State`; `wait` sleeps until another thread changed it.
final class Monitor<State>: @unchecked Sendable {
  // Sound to send: `state` is only touched between lock and unlock.
  private let condition = NSCondition()
  private var state: State

  init(_ state: State) {
    self.state = state
  }

  func withLock<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
    condition.lock()
    defer { condition.unlock() }
    return try body(&state)
  }

  /// Changes the state and wakes all that wait.
  func update<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
    condition.lock()
    defer {
      condition.broadcast()
      condition.unlock()
    }
    return try body(&state)
  }

  /// Waits until `body` returns a result; called again after each update, or when `deadline` has passed.
  func wait<Result>(until deadline: Date? = nil, _ body: (inout State, _ timedOut: Bool) throws -> Result?) rethrows
    -> Result
  {
    condition.lock()
    defer { condition.unlock() }
    var timedOut = false
    while true {
      if let result = try body(&state, timedOut) { return result }
      if let deadline { timedOut = !condition.wait(until: deadline) } else { condition.wait() }
    }
  }
}
