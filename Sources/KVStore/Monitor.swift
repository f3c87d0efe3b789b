// State that several threads share and wait on: a mutex with a condition, which the standard library's Mutex lacks, and
// whose waits end by the monotonic clock, which Foundation's NSCondition lacks.

import Foundation

/// Guards `State`; `wait` sleeps until another thread changed it.
@safe
final class Monitor<State>: @unchecked Sendable {
  // Sound to send: `state` is only touched between lock and unlock. Mutex and condition do not move.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var state: State

  init(_ state: State) {
    self.state = state
    unsafe mutex = .allocate(capacity: 1)
    unsafe condition = .allocate(capacity: 1)
    unsafe pthread_mutex_init(mutex, nil)
    #if canImport(Darwin)
      unsafe pthread_cond_init(condition, nil)
    #else
      var attributes = pthread_condattr_t()
      unsafe pthread_condattr_init(&attributes)
      unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
      unsafe pthread_cond_init(condition, &attributes)
      unsafe pthread_condattr_destroy(&attributes)
    #endif
  }

  deinit {
    unsafe pthread_cond_destroy(condition)
    unsafe pthread_mutex_destroy(mutex)
    unsafe condition.deallocate()
    unsafe mutex.deallocate()
  }

  func withLock<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return try body(&state)
  }

  /// Changes the state and wakes all that wait: once the mutex is free, or they would wait for it next.
  func update<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
    defer { unsafe pthread_cond_broadcast(condition) }
    return try withLock(body)
  }

  /// Waits until `body` returns a result; called again after each update, or when `deadline` has passed.
  func wait<Result>(until deadline: Deadline? = nil, _ body: (inout State, _ timedOut: Bool) throws -> Result?) rethrows
    -> Result
  {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    var timedOut = false
    while true {
      if let result = try body(&state, timedOut) { return result }
      if let deadline {
        sleep(until: deadline)
        timedOut = deadline.isOver
      } else {
        unsafe pthread_cond_wait(condition, mutex)
      }
    }
  }

  private func sleep(until deadline: Deadline) {
    #if canImport(Darwin)
      var time = deadline.remaining
      unsafe pthread_cond_timedwait_relative_np(condition, mutex, &time)
    #else
      var time = deadline.time
      unsafe pthread_cond_timedwait(condition, mutex, &time)
    #endif
  }
}
