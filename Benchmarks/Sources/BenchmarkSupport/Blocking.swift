// Asynchronous work from a program that is not: processes that it starts inherit the signals that its thread blocks, and
// threads that serve tasks block most.

import Foundation

/// Waits for asynchronous work on a thread that no task needs.
public func blocking<Result: Sendable>(_ body: @escaping @Sendable () async throws -> Result) throws -> Result {
  let done = DispatchSemaphore(value: 0)
  nonisolated(unsafe) var result: Swift.Result<Result, any Error>?
  Task.detached {
    do {
      let value = try await body()
      unsafe result = .success(value)
    } catch {
      unsafe result = .failure(error)
    }
    done.signal()
  }
  done.wait()
  guard let result = unsafe result else { throw BenchmarkError("the work gave no result") }
  return try result.get()
}
