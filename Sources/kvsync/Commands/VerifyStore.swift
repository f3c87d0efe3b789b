// kvsync verify-store: the half of `verify` that reads the store, in a process that damage may end. Not for people.
//
// It prints one line: "ok" and the numbers of the report, or "corrupt" and what was found; or three: "failed" with an exit
// status, what happened, and what can be done about it. `verify` says it in its own name.

import ArgumentParser
import KVLog
import KVStore

struct VerifyStore: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify-store", abstract: "The half of verify that reads the store.", shouldDisplay: false)

  @OptionGroup var target: StoreOptions
  @OptionGroup var output: OutputOptions

  func execute() async throws -> ExitStatus {
    var options = Store.Options()
    options.createIfMissing = false
    var bar = ProgressBar()
    defer { bar.finish() }
    var out = Output()
    do {
      let report = try Store.verify(at: target.store, options: options) { checked in
        bar.update(done: checked, total: nil, items: checked, noun: "rows and changes checked")
      }
      out.append(VerifyStore.line(report))
    } catch let error as StoreError where error.code == .corrupt {
      out.append("corrupt \(error.description)")
    } catch {
      let failure = Failure(error)
      out.append("failed \(failure.status.rawValue)\n\(failure.what)\n\(failure.remedy)")
    }
    try out.flush()
    return .ok
  }

  private static func line(_ report: VerificationReport) -> String {
    let numbers = [
      report.commits, report.changes, report.logSegments, report.logBytes, report.keys, report.tombstones,
    ].map { "\($0)" }
    return (["ok"] + numbers + ["\(report.firstVersion)", "\(report.lastVersion)", "\(report.digest)"])
      .joined(separator: " ")
  }

  enum Finding {
    case sound(VerificationReport)
    case damaged(String)
  }

  /// What such a process has found in the store.
  static func run(_ store: String) throws(Failure) -> Finding {
    let task = try ChildTask.run([configuration.commandName ?? "", "--", store])
    let line = String(decoding: task.output, as: UTF8.self)
    switch task.end {
    case .signalled(let signal):
      guard task.crashed else {
        throw Failure(.failed, "the process that reads the store was ended by signal \(signal)")
      }
      return .damaged(
        "\(store): reading it ended the process that read it, with signal \(signal): the index is damaged")
    case .exited(let status):
      if let report = report(line) { return .sound(report) }
      if line.hasPrefix("corrupt ") { return .damaged(String(line.dropFirst("corrupt ".count))) }
      throw failure(line) ?? Failure(.failed, "the process that reads the store ended with status \(status)")
    }
  }

  private static func failure(_ text: String) -> Failure? {
    let lines = text.split(separator: "\n", maxSplits: 2, omittingEmptySubsequences: false)
    guard lines.count == 3, lines[0].hasPrefix("failed "),
      let status = Int32(lines[0].dropFirst("failed ".count)).flatMap(ExitStatus.init(rawValue:))
    else { return nil }
    return Failure(status, String(lines[1]), remedy: String(lines[2]))
  }

  private static func report(_ line: String) -> VerificationReport? {
    let words = line.split(separator: " ")
    guard words.count == 10, words[0] == "ok", let digest = Digest(String(words[9])) else { return nil }
    let numbers = words[1...6].compactMap { Int($0) }
    guard numbers.count == 6, let first = Version(words[7]), let last = Version(words[8]) else { return nil }
    var report = VerificationReport()
    report.commits = numbers[0]
    report.changes = numbers[1]
    report.logSegments = numbers[2]
    report.logBytes = numbers[3]
    report.keys = numbers[4]
    report.tombstones = numbers[5]
    (report.firstVersion, report.lastVersion, report.digest) = (first, last, digest)
    return report
  }
}
