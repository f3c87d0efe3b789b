// Reading the log as it lies on disk: every change in the order of the log, lent and not copied.

public import KVLog

/// One change where it lies in the log's buffer, lent for the length of a call.
public struct BorrowedChange: ~Escapable {
  /// The commit's version; the changes of one commit share it and follow each other.
  public let version: Version
  /// The key, 1 to 511 bytes.
  public let key: RawSpan
  /// nil: the key was deleted.
  public let value: RawSpan?
  /// How it came about.
  public let kind: StoreChange.Kind
  /// The hub's version, 0 for a change that was not pulled from it.
  public let serverVersion: Version
  /// When its commit was made, by the clock of the store that made it.
  public let time: HybridTime
  /// The store that wrote it.
  public let origin: Identity

  @_lifetime(copy bytes)
  init(_ change: ChangeView, of commit: CommitHeader, _ kind: StoreChange.Kind, in bytes: RawSpan) {
    version = commit.version
    key = bytes.extracting(change.key)
    value = change.isDeletion ? nil : bytes.extracting(change.value)
    self.kind = kind
    serverVersion = commit.serverVersion
    time = commit.time
    origin = commit.origin
  }
}

extension Store {
  /// Calls `body` with each change after `version` that is published when this is called, in the order of the log and
  /// without copying it; stops when `body` returns false. Returns the version to go on after: that of the last commit all
  /// of whose changes were handed out.
  ///
  /// Runs on the calling thread, which waits for the disk where the log is not in memory, and does not keep the store
  /// from anything: it takes no lock and no snapshot, and is not disturbed when the store is closed meanwhile. Needs a
  /// buffer of 256 KiB, or of the largest group of commits on the way. Every checksum and every link of the digest's
  /// chain is checked. What `change` lends is valid until `body` returns.
  ///
  /// Throws what `body` throws, or ``StoreError``: `expired` when the log no longer has the version, or loses what follows
  /// it on the way; `corrupt`, `closed`, `system`.
  @discardableResult
  public func forEachChange(
    after version: Version, through last: Version = .max, in range: KeyRange = KeyRange(),
    _ body: (_ change: borrowing BorrowedChange) throws -> Bool
  ) throws -> Version {
    let state = try backing().state
    let limit = state.position
    guard version < limit.version else { return version }
    do {
      var stream = try CommitStream(configuration, after: version, through: limit)
      try stream.pass(through: limit, to: last) { commit, bytes in
        let kind = StoreChange.Kind(of: commit.header, in: state)
        var changes = ChangeCursor(commit.view)
        while let change = try changes.next(in: bytes) {
          guard range.contains(bytes.extracting(change.key)) else { continue }
          guard try body(BorrowedChange(change, of: commit.header, kind, in: bytes)) else { return false }
        }
        return true
      }
      return stream.version
    } catch {
      throw StoreError.published(error, path: path)
    }
  }
}
