// New names survive a loss of power: the system calls of a process that creates, fills, copies or compacts a store, read
// as the disk would have to.

import Foundation
import TestSupport
import Testing

/// What a process did to the files below a directory, in order.
private struct FileTrace {
  /// The number of the call that made each name what it is, last wrote its file, and last made that durable; of a directory,
  /// that last made the names in it durable.
  private var named: [String: Int] = [:]
  private var written: [String: Int] = [:]
  private var synchronized: [String: Int] = [:]
  /// Descriptors whose writes are durable when they return, as LMDB has one for its meta pages.
  private var synchronous: Set<Substring> = []
  private var calls = 0
  /// What was not durable when a store's manifest got its name, and so could be missing from a store.
  private(set) var early: [String] = []
  private var existing: Set<String>

  /// `existing` are the names that were there before.
  init(_ text: String, existing: Set<String>) {
    self.existing = existing
    for line in text.split(separator: "\n") { read(line) }
  }

  /// What would not be there, or not be whole, if the power went now.
  func missing(of names: [String]) -> [String] {
    names.filter { name in
      guard !Self.isScratch(name) else { return false }
      let folder = (name as NSString).deletingLastPathComponent
      if let named = named[name], (synchronized[folder] ?? 0) < named { return true }
      return (written[name] ?? 0) > (synchronized[name] ?? 0)
    }
  }

  /// Locks, and what is made anew by whoever opens the store.
  private static func isScratch(_ name: String) -> Bool {
    let parts = name.split(separator: "/")
    return parts.contains("tail") || parts.contains { $0.hasPrefix("lock") } || parts.last == "reserve"
      || name.hasSuffix("-lock")
  }

  /// `PID call(arguments) = result`; descriptors have their paths in angle brackets.
  private mutating func read(_ line: Substring) {
    guard let start = line.firstIndex(of: "("), let call = line[..<start].split(separator: " ").last,
      !line.contains("= -1 ")
    else { return }
    calls += 1
    let arguments = line[line.index(after: start)...]
    let quoted = arguments.split(separator: "\"", omittingEmptySubsequences: false)
    switch call {
    case "openat":
      let path = String(quoted[1])
      guard let descriptor = arguments.split(separator: " = ").last?.split(separator: "<").first else { return }
      synchronous.remove(descriptor)
      if arguments.contains("O_DSYNC") { synchronous.insert(descriptor) }
      if arguments.contains("O_CREAT"), existing.insert(path).inserted { named[path] = calls }
      if arguments.contains("O_TRUNC") { written[path] = calls }
    case "mkdir": named[String(quoted[1])] = calls
    case "unlink", "rmdir":
      named[String(quoted[1])] = nil
      existing.remove(String(quoted[1]))
    case "rename":
      let (from, to) = (String(quoted[1]), String(quoted[3]))
      if to.hasSuffix("/kvsync.store") {
        let others = named.keys.filter { $0.hasPrefix((to as NSString).deletingLastPathComponent + "/") && $0 != from }
        early += missing(of: others)
      }
      // A name that is there before the bytes are.
      if (written[from] ?? 0) > (synchronized[from] ?? 0) { early.append(from) }
      (named[from], named[to]) = (nil, calls)
      existing.remove(from)
      (written[to], synchronized[to]) = (written[from], synchronized[from])
    // Cutting a file off is left out: at closing, zeros that were written ahead go, or come back.
    case "write", "pwrite64", "pwritev":
      guard let (descriptor, path) = file(of: arguments), !synchronous.contains(descriptor) else { return }
      written[path] = calls
    case "fsync", "fdatasync":
      if let (_, path) = file(of: arguments) { synchronized[path] = calls }
    default: break
    }
  }

  private func file(of arguments: Substring) -> (descriptor: Substring, path: String)? {
    guard let open = arguments.firstIndex(of: "<"), let end = arguments.firstIndex(of: ">") else { return nil }
    return (arguments[..<open], String(arguments[arguments.index(after: open)..<end]))
  }
}

@Suite struct NamesAreDurableTests {
  static let canTrace: Bool = {
    guard let scratch = try? Scratch() else { return false }
    return (try? trace(to: scratch.path("trace"), ["/bin/true"])) ?? false
  }()

  private static func trace(to file: String, _ arguments: [String]) throws -> Bool {
    let calls = "openat,mkdir,rename,unlink,rmdir,write,pwrite64,pwritev,fsync,fdatasync"
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["strace", "-f", "-y", "-s", "0", "-e", "trace=\(calls)", "-o", file] + arguments
    process.standardError = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus == 0
  }

  enum Work: CaseIterable {
    case create, fill, backUp, adopt, compact
  }

  @Test(
    "What an operation has created or replaced is durable by name and content when it is over, a manifest after the rest",
    .enabled(if: canTrace, "Needs strace, and leave to trace processes."), arguments: Work.allCases)
  func areDurable(work: Work) throws {
    let scratch = try Scratch()
    let root = URL(fileURLWithPath: scratch.path).resolvingSymlinksInPath().path
    let (store, copy) = ("\(root)/store", "\(root)/copy")
    func run(_ arguments: String...) throws -> FileTrace {
      let existing = Set(try names(below: root))
      let file = scratch.path("trace")
      try #require(try Self.trace(to: file, [ChildProcess.executable().path] + arguments))
      return FileTrace(try String(contentsOfFile: file, encoding: .utf8), existing: existing)
    }
    if work != .create { _ = try run("fill", store, "3000") }
    if work == .adopt { _ = try run("backup", store, copy) }
    let trace =
      switch work {
      case .create: try run("put", store, "key", "value")
      case .fill: try run("fill", store, "5000")
      case .backUp: try run("backup", store, copy)
      case .adopt: try run("put", copy, "key", "value")
      case .compact: try run("compact", store)
      }
    #expect(trace.missing(of: try names(below: root)) == [])
    #expect(trace.early == [])
  }

  private func names(below root: String) throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: root).filter { $0 != "trace" }.map { "\(root)/\($0)" }
  }
}
