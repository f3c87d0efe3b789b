// What the benchmarks need of files.

import Foundation

/// A file that nobody else on this machine can read.
public func writePrivate(_ text: String, to path: String) throws {
  let isThere = FileManager.default.createFile(
    atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
  guard isThere else { throw BenchmarkError("cannot write \(path)") }
}

/// What went wrong, in a sentence for the person who runs the benchmark.
public struct BenchmarkError: Error, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}
