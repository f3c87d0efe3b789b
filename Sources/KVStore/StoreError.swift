// The one error type of the store's public interface: what happened, where, and what to do.

public import KVLog
package import LMDB

/// An error of a ``Store``.
///
/// `code` is for programs and may grow; `message` is for people and ends with the remedy.
public struct StoreError: Error, Sendable, CustomStringConvertible {
  /// The reasons, for programs. More may come: switch with a `default`.
  public enum Code: String, Sendable, Hashable {
    /// No store at the path, or no such path.
    case noStore
    /// Another `Store` in this process has the store open, this process was forked from the one that opened it, or another
    /// process has it for itself: for opening, closing or synchronising it.
    case inUse
    /// The operating system refused access.
    case notAllowed
    /// Stored data fails its checks.
    case corrupt
    /// No space is left: on the device, or in this process's address space. Nothing was written; writing goes on once there
    /// is room.
    case full
    /// The store was written by a newer kvsync.
    case newerFormat
    /// The path holds something that is not a kvsync store.
    case foreign
    /// The place where a copy should go is taken.
    case exists
    /// A key must have at least one byte.
    case keyEmpty
    /// A key may have 511 bytes at most.
    case keyTooLong
    /// A value may have 16 MiB at most.
    case valueTooLong
    /// The changes of one transaction may have 64 MiB at most.
    case commitTooLarge
    /// The key is not as the write's ``WriteCondition`` wants it; `foundVersion` says how it is. Nothing was written.
    case conditionFailed
    /// A store has at most 256 scopes.
    case tooManyScopes
    /// There is no parked commit or conflict of that name, or it was decided before.
    case noSuchEntry
    /// A write failed with an unknown outcome: it may be durable, and visible after the store was reopened. Until then
    /// every write fails, and reading goes on.
    case poisoned
    /// The store was closed.
    case closed
    /// The store was opened read-only.
    case readOnly
    /// The version asked for is no longer in the log; ``StoreError/availableVersion`` is.
    case expired
    /// 510 reads are under way, of all processes with the store open together: snapshots, scans, and closures that read. A
    /// transaction that reads counts too. What is read ends when its closure or its scan does.
    case tooManyReads
    /// Replication state that does not fit what this store knows.
    case replication
    /// Any other failure reported by the operating system.
    case system
  }

  /// The reason, for programs.
  public let code: Code
  /// What happened and what to do, for people.
  public let message: String
  /// The store, or the file in it, that the error is about.
  public let path: String
  /// Of `expired`: the oldest version after which the log can be read.
  public let availableVersion: Version?
  /// Of `conditionFailed`: the version that wrote the value that the key has; nil: it has none.
  public internal(set) var foundVersion: Version?

  /// An error with this code and message.
  public init(_ code: Code, _ message: String, path: String = "", availableVersion: Version? = nil) {
    self.code = code
    self.message = message
    self.path = path
    self.availableVersion = availableVersion
  }

  /// The path, where there is one, and the message.
  public var description: String { path.isEmpty ? message : "\(path): \(message)" }
}

extension StoreError {
  /// The public form of an error of the log, of LMDB or of the system; anything else (a caller's own error) unchanged.
  package static func published(_ error: any Error, path: String) -> any Error {
    switch error {
    case let error as LogError: StoreError(error, path: path)
    case let error as LogFormatError:
      StoreError(.corrupt, "\(error). Run `kvsync verify` and restore from a backup or a hub.", path: path)
    case let error as LMDBError: StoreError(error, path: path)
    // A row knows its key, not where it lies.
    case let error as StoreError where error.code == .corrupt && error.path.isEmpty:
      StoreError(error.code, error.message, path: path)
    default: error
    }
  }

  /// Whether the reason is that there is no space.
  static func isFull(_ error: any Error) -> Bool {
    switch error {
    case let error as LogError: error.kind == .full
    case let error as LMDBError: error.isFull
    case let error as SystemError: error.isFull
    case let error as StoreError: error.code == .full
    default: false
    }
  }

  /// Whether the reason is that there are as many reads as there can be.
  static func isOutOfReaders(_ error: any Error) -> Bool {
    switch error {
    case let error as LMDBError: error.code == .readersFull
    case let error as StoreError: error.code == .tooManyReads
    default: false
    }
  }

  package init(_ error: LogError, path: String) {
    let code: Code =
      switch error.kind {
      case .corrupt: .corrupt
      case .expired: .expired
      case .foreign: .foreign
      case .newerFormat: .newerFormat
      case .wrongStore: .foreign
      case .full: .full
      case .system(let number): Code(errno: number)
      default: .system
      }
    var available: Version?
    if case .expired(let first) = error.kind { available = first - 1 }
    self.init(code, error.description, path: path, availableVersion: available)
  }

  package init(_ error: LMDBError, path: String) {
    if error.code == .mapFull {
      self.init(
        .full,
        "this process has no address space left for the index. Nothing was lost; raise its limit, or delete keys.",
        path: path)
      return
    }
    if error.isFull {
      self.init(.full, "no space left on the device (\(error)). Free some space; nothing was lost.", path: path)
      return
    }
    if error.code == .alreadyOpen {
      self.init(
        .inUse,
        "this process has the store open, or a read of it has yet to end. Use that handle, or let the read end.",
        path: path)
      return
    }
    if error.code == .readersFull {
      self.init(
        .tooManyReads, "as many reads are under way as there can be, of all processes together. Let some of them end.",
        path: path)
      return
    }
    let code: Code =
      switch error.code {
      case .corrupted, .pageNotFound, .panic, .invalid: .corrupt
      case .versionMismatch: .newerFormat
      case .system(let number): Code(errno: number)
      default: .system
      }
    self.init(code, "\(error)", path: path)
  }
}
