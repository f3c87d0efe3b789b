// What the figures were measured on.

import BenchmarkSupport
import Foundation

struct Machine: Codable {
  var date: String
  var processor: String
  var cores: Int
  var memoryBytes: UInt64
  var system: String
  var fileSystem: String
  var peers: [String: String]

  init(directory: String) {
    date = ISO8601DateFormatter().string(from: Date())
    cores = ProcessInfo.processInfo.activeProcessorCount
    memoryBytes = ProcessInfo.processInfo.physicalMemory
    processor = Machine.line("/proc/cpuinfo", "model name") ?? "unknown processor"
    system = "\(ProcessInfo.processInfo.operatingSystemVersionString), \(Machine.kernel)"
    fileSystem = Disk.kind(directory) ?? "unknown file system"
    peers = [
      "LMDB": "\(PlainLMDB.version), C interface, default durability, no log; relaxed: MDB_NOSYNC",
      "RocksDB": "\(RocksDB.version), C interface, \(RocksDBOptions.summary)",
      "SQLite":
        "\(SQLite.version), C interface, WAL, synchronous FULL (relaxed: NORMAL), triggers that keep a log, one connection "
        + "that writes",
    ]
  }

  private static var kernel: String {
    let text = try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)
    return (text ?? "unknown kernel").trimmingCharacters(in: .whitespacesAndNewlines)
  }

  private static func line(_ file: String, _ name: String) -> String? {
    guard let text = try? String(contentsOfFile: file, encoding: .utf8),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name) }),
      let value = line.split(separator: ":").last
    else { return nil }
    return value.trimmingCharacters(in: .whitespaces)
  }
}
