// kvsync load: writes the changes of a file or a pipe.
//
// Invariants
// - Commits are written one after the other, in the order of the lines: the last line for a key wins.
// - While a commit is made durable, the next one is parsed; no more than these two are in memory.
// - With --json, the line of a commit is printed only when the commit is durable, and the summary also after a failure.
//   A reader that goes away does not end the loading.

import ArgumentParser
import KVStore

struct Load: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "load",
    abstract: "Write the changes of a file, or of standard input.",
    discussion: """
      jsonl  one change a line: {"key":"…","value":"…"} or
             {"key":"…","deleted":true}; keyBase64 and valueBase64 hold bytes
             that are not UTF-8. This is what `kvsync dump` prints.
      tsv    KEY, a tab, VALUE; \\t, \\n and \\\\ stand for a tab, a line feed
             and a backslash.

      --batch changes form one commit, which is atomic here and everywhere it is
      synchronised to; a commit is also closed at 8 MiB. A line that cannot be
      read ends the command; the commits before it stay, and the message says how
      far they go. With --json a line is printed for each commit once it is
      durable, and a summary at the end, whether or not all went well.

      Example: kvsync load field-notes rows.tsv --format tsv
      """)

  @OptionGroup var target: StoreOptions
  @Argument(help: "The file; standard input when absent or -.", completion: .file()) var file: String?
  @Option(help: "The format: jsonl or tsv.") var format = ChangeFormat.jsonl
  @Option(help: ArgumentHelp("Changes per commit.", valueName: "N")) var batch = 1000
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if let file { try ArgumentBytes.checkPath(file, of: "the file") }
    if batch < 1 { throw ValidationError("--batch must be at least 1; it is \(batch).") }
  }

  func execute() async throws -> ExitStatus {
    var reader = try ChangeReader(path: file, format: format, changesPerCommit: batch)
    let store = try await target.openForWriting()
    // What is durable, and what will be with the commit under way.
    var summary = Summary()
    var underWay = Summary()
    var bar = ProgressBar()
    let totalBytes = reader.lines.totalBytes

    var inFlight: Task<Void, any Error>?
    do {
      while true {
        let batch = try reader.next()
        try await inFlight?.value
        inFlight = nil
        summary = underWay
        if batch.isEmpty { break }
        underWay.changes += batch.count
        underWay.commits += 1
        underWay.bytes = reader.lines.bytesConsumed
        underWay.lines = reader.lines.lineNumber
        inFlight = commit(batch, to: store)
        bar.update(done: reader.lines.bytesConsumed, total: totalBytes, items: underWay.changes, noun: "changes")
      }
    } catch {
      // The commit under way is finished first, so that the summary holds; when it failed, that is the news.
      var failure = Failure(error)
      do {
        try await inFlight?.value
        summary = underWay
      } catch {
        failure = Failure(error)
      }
      summary.elapsed = bar.elapsed
      bar.finish()
      try? await store.close()
      if output.json { try summary.printJSON() }
      failure.remedy = (failure.remedy.isEmpty ? "" : failure.remedy + " ") + summary.kept
      throw failure
    }
    summary.elapsed = bar.elapsed
    bar.finish()
    try await withStore(store) { _ in }
    if output.json { try summary.printJSON() } else { summary.printText() }
    return .ok
  }

  private func commit(_ batch: ChangeBatch, to store: Store) -> Task<Void, any Error> {
    let json = output.json
    return Task.detached {
      let receipt: Receipt = try await store.write { transaction in try batch.apply(to: &transaction) }
      if json { try receipt.print() }
    }
  }

  private struct Summary {
    var changes = 0
    var commits = 0
    var bytes = 0
    /// The number of the last line.
    var lines = 0
    var elapsed = Duration.zero

    /// What a failure leaves.
    var kept: String {
      commits == 0
        ? "Nothing was written."
        : "\(Amount.count(changes, "change")) in \(Amount.count(commits, "commit")), through line \(Amount.count(lines)), "
          + "were written before and stay; nothing after that line was."
    }

    func printText() {
      Messages.write(
        "loaded \(Amount.count(changes, "change")) (\(Amount.bytes(bytes))) in \(Amount.count(commits, "commit")): "
          + "\(Amount.decimal(Amount.seconds(elapsed), places: 2)) s, \(Amount.rate(changes, in: elapsed))\n")
    }

    func printJSON() throws {
      var line = Output()
      line.beginObject()
      line.member("loaded", changes)
      line.member("commits", commits)
      line.member("lines", lines)
      line.member("bytes", bytes)
      line.member("seconds", Amount.seconds(elapsed))
      line.member("changesPerSecond", Int(Amount.perSecond(changes, in: elapsed)))
      line.endObject()
      try line.flushToWhoeverReads()
    }
  }
}
