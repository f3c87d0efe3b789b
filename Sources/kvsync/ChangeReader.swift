// Turns lines of input into commits: `--batch` changes each, in the order of the lines.

import ArgumentParser

/// How a file of changes is written.
enum ChangeFormat: String, CaseIterable, ExpressibleByArgument {
  case jsonl, tsv

  func parse(_ line: Span<UInt8>, into batch: inout ChangeBatch) throws(LineError) {
    switch self {
    case .jsonl: try JSON.parse(line, into: &batch)
    case .tsv: try TabSeparated.parse(line, into: &batch)
    }
  }
}

struct ChangeReader: ~Copyable {
  private(set) var lines: LineReader
  let format: ChangeFormat
  let changesPerCommit: Int

  init(path: String?, format: ChangeFormat, changesPerCommit: Int) throws(Failure) {
    lines = try LineReader(path: path)
    self.format = format
    self.changesPerCommit = changesPerCommit
  }

  /// The next commit; empty at the end of the input. Empty lines are skipped.
  mutating func next() throws -> ChangeBatch {
    var batch = ChangeBatch()
    let format = format
    do {
      while batch.count < changesPerCommit, batch.bytes.count < ChangeBatch.maximumBytes {
        let isMore = try lines.next { line throws(LineError) in
          if !line.isEmpty { try format.parse(line, into: &batch) }
        }
        if !isMore { break }
      }
    } catch let error as LineError {
      throw Failure(.failed, "\(lines.source), line \(lines.lineNumber): \(error.reason)")
    }
    return batch
  }
}
