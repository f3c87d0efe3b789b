// Asynchronous work from a program that is not: processes that it starts inherit the signals that its thread blocks, and
// threads that serve tasks block most.

import Foundation
import Synchronization

/// Waits for asynchronous work on a thread that no task needs.
public func blocking<Result: Sendable>(_ body: @escaping @Sendable () async throws -> Result) throws -> Result {
  let done = DispatchSemaphore(value: 0)
  let result = Mutex<Swift.Result<Result, any Error>?>(nil)
  Task.detached {
    let outcome: Swift.Result<Result, any Error>
    do { outcome = .success(try await body()) } catch { outcome = .failure(error) }
    result.withLock { $0 = outcome }
    done.signal()
  }
  done.wait()
  guard let outcome = result.withLock({ $0 }) else { throw BenchmarkError("the work gave no result") }
  return try outcome.get()
}
