// Tasks of one connection, on its event loop: begun from anywhere, by whoever finds out that something is to be done, and
// ended together.
//
// Invariants:
// - They begin in the order in which they were started.
// - After `end` has returned none is under way, and none begins any more.

import Synchronization

package final class ConnectionTasks: Sendable {
  private struct State {
    var tasks: [UInt64: Task<Void, Never>] = [:]
    var nextNumber: UInt64 = 0
    var isCancelled = false
    var hasEnded = false
  }

  private let executor: EventLoopExecutor
  private let state = Mutex(State())

  package init(of connection: Connection) {
    executor = connection.executor
  }

  /// Starts a task, which is cancelled from the beginning when the others have been. Nothing happens after the end.
  package func start(_ work: @escaping @Sendable () async -> Void) {
    state.withLock { state in
      guard !state.hasEnded else { return }
      let number = state.nextNumber
      state.nextNumber += 1
      let task = Task(executorPreference: executor) { [self] in
        await work()
        self.state.withLock { _ = $0.tasks.removeValue(forKey: number) }
      }
      if state.isCancelled { task.cancel() }
      state.tasks[number] = task
    }
  }

  /// Cancels all of them, those to come too.
  package func cancel() {
    let tasks = state.withLock { state in
      state.isCancelled = true
      return state.tasks
    }
    for task in tasks.values { task.cancel() }
  }

  /// Cancels all of them, and waits until none is left.
  package func end() async {
    cancel()
    let tasks = state.withLock { state in
      state.hasEnded = true
      return state.tasks
    }
    for task in tasks.values { await task.value }
  }
}
