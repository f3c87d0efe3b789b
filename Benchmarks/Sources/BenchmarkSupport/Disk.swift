// Whether the place for the data can be measured on.

import Foundation

public enum Disk {
  /// Throws when `directory` has not so many bytes free.
  public static func require(_ bytes: Int, in directory: String) throws {
    var status = statvfs()
    guard unsafe statvfs(directory, &status) == 0 else { return }
    let free = Int(status.f_bavail) * Int(status.f_frsize)
    guard free >= bytes else {
      throw BenchmarkError(
        "needs \(gigabytes(bytes)) GB free in \(directory), which has \(gigabytes(free)). Give another --directory, or leave the row out with --rows."
      )
    }
  }

  /// Throws when `directory` lies in memory: nothing is durable there, and every sync is free.
  public static func requireDisk(_ directory: String) throws {
    #if os(Linux)
      if kind(directory) == "tmpfs" {
        throw BenchmarkError("\(directory) lies in memory (tmpfs). Give a --directory on a disk.")
      }
    #endif
  }

  /// What this process has given to write calls so far, in bytes: log and data files of every contender. Not
  /// `write_bytes`, which counts a whole run of pages when one of them is changed.
  public static func writtenBytes() -> Int? {
    guard let text = try? String(contentsOfFile: "/proc/self/io", encoding: .utf8) else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix("wchar:") }
    return line?.split(separator: " ").last.flatMap { Int($0) }
  }

  /// The file system of `directory`, as /proc/mounts names it.
  public static func kind(_ directory: String) -> String? {
    guard let mounts = try? String(contentsOfFile: "/proc/self/mounts", encoding: .utf8) else { return nil }
    let path = URL(fileURLWithPath: directory).resolvingSymlinksInPath().path
    var best: (point: String, kind: String)?
    for line in mounts.split(separator: "\n") {
      let fields = line.split(separator: " ").map(String.init)
      guard fields.count > 2 else { continue }
      let point = fields[1]
      let isAbove = point == "/" || path == point || path.hasPrefix(point + "/")
      if isAbove, point.count >= best?.point.count ?? 0 { best = (point, fields[2]) }
    }
    return best?.kind
  }

  private static func gigabytes(_ bytes: Int) -> String { (Double(bytes) / 1e9).formatted(digits: 1) }
}
