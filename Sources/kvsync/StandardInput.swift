// A value from standard input.

import KVLog

enum StandardInput {
  /// All the bytes until its end, at most one more than a value can have: enough for the store to refuse it.
  static func readAll() throws -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count <= LogLimits.maximumValueBytes {
      do {
        let count = try SystemCall.read(SystemCall.standardInput, appendingTo: &bytes, limit: 256 << 10)
        if count == 0 { break }
      } catch {
        throw Failure.system(error.number, "cannot read standard input")
      }
    }
    return bytes
  }
}
