// The progress bar of work whose progress is told from other threads.

import Synchronization

enum FileProgress {
  /// Shows a bar while `body` works; that is given what to tell it by, and the bar is gone when it returns.
  static func show<Result>(
    _ noun: String, _ body: (_ progress: @escaping @Sendable (_ done: Int, _ total: Int) -> Void) async throws -> Result
  ) async rethrows -> Result {
    let bar = Mutex(ProgressBar())
    defer { bar.withLock { $0.finish() } }
    return try await body { done, total in
      bar.withLock { $0.update(done: done, total: total, items: done, noun: noun) }
    }
  }
}
