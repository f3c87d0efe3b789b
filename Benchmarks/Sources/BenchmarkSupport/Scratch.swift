// Directories that go when they have served.

import Foundation

/// A directory under `base` that goes when `body` is done.
public func withScratch<Result>(_ base: String, _ body: (String) async throws -> Result) async throws -> Result {
  let path = "\(base)/kvsync-bench-\(UInt64.random(in: 0...UInt64.max))"
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try await body(path)
}

/// What went wrong, in a sentence for the person who runs the benchmark.
public struct BenchmarkError: Error, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}
