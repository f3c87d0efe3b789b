// What went wrong with a log: what, where, and what to do about it.

/// An error of the replication log, with the place it was found at.
public struct LogError: Error, Hashable, Sendable {
  /// What happened. More kinds may come: switch with a `default`.
  public enum Kind: Hashable, Sendable {
    /// Bytes that were durable are damaged or missing. Nothing was changed.
    case corrupt(String)
    /// The versions asked for have been truncated away; `first` is the oldest one still in the log.
    case expired(first: Version)
    /// The version asked for has not been written; `last` is the newest one.
    case beyondEnd(last: Version)
    /// The file is not a segment of a replication log.
    case foreign
    /// The file was written by a newer release.
    case newerFormat(found: UInt32, supported: UInt32)
    /// The file belongs to another store.
    case wrongStore(found: Identity, expected: Identity)
    /// No space is left (or the quota is used up). Nothing was appended; the log stays usable.
    case full
    /// The operating system refused, with its `errno`.
    case system(Int32)
    /// An earlier write or synchronisation failed, so what is durable is unknown: reopen the log.
    case poisoned
  }

  /// What happened, with the facts that a program needs to go on.
  public let kind: Kind
  /// The file, or the directory when no single file is meant.
  public let file: String
  /// Bytes from the start of the file, where that is known.
  public let offset: UInt64?
  /// The version that was expected there, where that is known.
  public let version: Version?
  /// What was being done.
  package let operation: String

  package init(
    _ kind: Kind, _ operation: String, file: String, offset: UInt64? = nil, version: Version? = nil
  ) {
    self.kind = kind
    self.operation = operation
    self.file = file
    self.offset = offset
    self.version = version
  }
}

extension LogError: CustomStringConvertible {
  /// File, place, what happened and what to do, in one line.
  public var description: String {
    var text = "\(file)"
    if let offset { text += ", offset \(offset)" }
    if let version { text += ", version \(version)" }
    return text + ": " + explanation
  }

  private var explanation: String {
    switch kind {
    case .corrupt(let reason):
      "the replication log is damaged (\(reason)). Nothing was changed; keep the file, and restore the store from a"
        + " copy or from its hub"
    case .expired(let first):
      "these versions are no longer in the log, which can be read after version \(first - 1) at the earliest; start from"
        + " the present rows, and go on after their version"
    case .beyondEnd(let last):
      "the log ends at version \(last)"
    case .foreign:
      "this is not a segment of a replication log; move it out of the log's directory, or check the path"
    case .newerFormat(let found, let supported):
      "written in format \(found), and this release reads up to \(supported); use a newer release"
    case .wrongStore(let found, let expected):
      "this segment belongs to store \(found), not to \(expected); it was copied here from elsewhere: move it away"
    case .full:
      "no space left while trying to \(operation); nothing was written, free some space and try again"
    case .system(let code):
      "could not \(operation): \(SystemError(code: code)) (errno \(code))"
    case .poisoned:
      "an earlier write or synchronisation failed, so what is durable is unknown; close the store and open it again"
    }
  }
}
