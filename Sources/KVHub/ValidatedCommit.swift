// What the program that runs a hub is shown of a commit, and what it may answer.

public import KVLog

/// A commit that a replica has pushed and the hub has not decided, lent for the length of a call.
public struct ValidatedCommit: ~Escapable {
  /// The space that it is for.
  public let space: String
  /// Whom the replica's credential belongs to; nil where credentials name nobody.
  public let principal: String?
  /// The replica that made it.
  public let replica: Identity
  /// Its version on the replica.
  public let version: Version
  /// When it was made, by the replica's clock.
  public let time: HybridTime
  /// Its changes, at least one.
  public let changeCount: Int
  private let view: CommitView
  private let bytes: RawSpan

  @_lifetime(copy bytes)
  init(_ view: CommitView, in bytes: RawSpan, space: String, principal: String?) {
    self.space = space
    self.principal = principal
    replica = view.header.origin
    version = view.header.version
    time = view.header.time
    changeCount = view.header.changeCount
    self.view = view
    self.bytes = bytes
  }

  /// Calls `body` with each change, in their order and where it lies, until it returns false. What a change lends is valid
  /// until `body` returns. Throws what `body` throws.
  public func forEachChange(_ body: (_ change: borrowing ValidatedChange) throws -> Bool) throws {
    var changes = ChangeCursor(view)
    while let change = try changes.next(in: bytes) {
      guard try body(ValidatedChange(change, in: bytes)) else { return }
    }
  }
}

/// One change of a commit that is being validated.
public struct ValidatedChange: ~Escapable {
  /// 1 to 511 bytes.
  public let key: RawSpan
  /// nil: the key is deleted.
  public let value: RawSpan?

  @_lifetime(copy bytes)
  init(_ change: ChangeView, in bytes: RawSpan) {
    key = bytes.extracting(change.key)
    value = change.isDeletion ? nil : bytes.extracting(change.value)
  }
}

/// Why a commit is not to be taken. The replica parks it with this, and goes on.
public struct Rejection: Sendable, Hashable {
  /// For programs. 1 to 99 are kvsync's own; use others.
  public var code: UInt16
  /// For people: what is wrong and what to do. What goes beyond 1,024 bytes of UTF-8 is cut; of many rejections at once,
  /// beyond 1 MiB of text that one replica has yet to record, only the code travels.
  public var message: String

  /// A rejection with this code and message.
  public init(code: UInt16, message: String) {
    self.code = code
    self.message = message
  }
}
