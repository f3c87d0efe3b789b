// What the figures were measured on.

import Foundation

public struct Machine: Codable, Sendable {
  public var date: String
  public var processor: String
  public var cores: Int
  public var memoryBytes: UInt64
  public var system: String
  public var fileSystem: String
  public var peers: [String: String]

  /// `peers` says by name which version of each was measured, and how it was set up.
  public init(directory: String, peers: [String: String]) {
    date = ISO8601DateFormatter().string(from: Date())
    cores = ProcessInfo.processInfo.activeProcessorCount
    memoryBytes = ProcessInfo.processInfo.physicalMemory
    processor = Machine.line("/proc/cpuinfo", "model name") ?? "unknown processor"
    system = "\(ProcessInfo.processInfo.operatingSystemVersionString), \(Machine.kernel)"
    fileSystem = Disk.kind(directory) ?? "unknown file system"
    self.peers = peers
  }

  /// The line above a table.
  public var summary: String { "\(date), \(cores) cores (\(processor)), \(system), \(fileSystem)" }

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
