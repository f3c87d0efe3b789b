// Writing: every call is one commit, visible when it returns, and durable unless it was asked to be relaxed. Calls that
// wait at the same time share one fdatasync.

import Dispatch
import KVLog

extension Store {
  /// Sets the value of `key`, if the condition holds, in a commit of its own. Visible when it returns, and as durable
  /// as `durability` says; nil: as the store was opened.
  ///
  /// Throws ``StoreError``: `keyEmpty`, `keyTooLong`, `valueTooLong`, `conditionFailed`, `full`, `closed`, `readOnly`,
  /// `system` (after these nothing was written), or `poisoned` (the outcome is unknown until the store is reopened).
  /// Not cancelled by its task: a write that was submitted is carried out.
  @discardableResult
  public func put(
    _ value: some BytesConvertible, for key: some BytesConvertible, if condition: WriteCondition? = nil,
    durability: Durability? = nil
  ) async throws -> Receipt {
    let (key, value) = (key.withBytes { $0.copied() }, value.withBytes { $0.copied() })
    return try await write(durability: durability) { try $0.put(value, for: key, if: condition) }
  }

  /// Removes `key`, if the condition holds, in a commit of its own, also when it has no value here. Visible and durable
  /// as a put is.
  ///
  /// Throws ``StoreError`` as ``put(_:for:if:durability:)`` does, `valueTooLong` aside.
  @discardableResult
  public func delete(
    _ key: some BytesConvertible, if condition: WriteCondition? = nil, durability: Durability? = nil
  ) async throws -> Receipt {
    let key = key.withBytes { $0.copied() }
    return try await write(durability: durability) { try $0.delete(key, if: condition) }
  }

  /// Runs a transaction: all of its changes become visible together when it returns, and durable together, before it
  /// returns or, when it is relaxed, soon after; when the closure throws, none ever. The closure runs on a thread of
  /// the store and must not wait for another write of it.
  ///
  /// Transactions run one after the other, those of other processes too; those submitted here in their order. Not
  /// cancelled by its task. Throws what the closure throws, or ``StoreError``: `keyEmpty`, `keyTooLong`,
  /// `valueTooLong`, `commitTooLarge`, `full`, `corrupt`, `closed`, `readOnly`, `system` (after these nothing was
  /// written), or `poisoned` (the outcome is unknown until the store is reopened).
  @discardableResult
  public func write(
    durability: Durability? = nil, _ body: @escaping @Sendable (inout Transaction) throws -> Void
  ) async throws -> Receipt {
    try await perform(durability) { try Store.transact($0, body).receipt }
  }

  /// Runs a transaction that has a result. Otherwise as the `write` without one; throws the same.
  public func write<Result: Sendable>(
    durability: Durability? = nil, _ body: @escaping @Sendable (inout Transaction) throws -> Result
  ) async throws -> (result: Result, receipt: Receipt) {
    try await perform(durability) { try Store.transact($0, body) }
  }

  /// As ``put(_:for:if:durability:)``, blocking the calling thread; not to be called from a transaction, which would
  /// wait for itself.
  @discardableResult
  public func putBlocking(
    _ value: some BytesConvertible, for key: some BytesConvertible, if condition: WriteCondition? = nil,
    durability: Durability? = nil
  ) throws -> Receipt {
    let (key, value) = (key.withBytes { $0.copied() }, value.withBytes { $0.copied() })
    return try writeBlocking(durability: durability) { try $0.put(value, for: key, if: condition) }
  }

  /// As ``delete(_:if:durability:)``, blocking the calling thread; not to be called from a transaction, which would
  /// wait for itself.
  @discardableResult
  public func deleteBlocking(
    _ key: some BytesConvertible, if condition: WriteCondition? = nil, durability: Durability? = nil
  ) throws -> Receipt {
    let key = key.withBytes { $0.copied() }
    return try writeBlocking(durability: durability) { try $0.delete(key, if: condition) }
  }

  /// As `write`, blocking the calling thread, on which the closure may run; not to be called from a transaction, which
  /// would wait for itself.
  @discardableResult
  public func writeBlocking(
    durability: Durability? = nil, _ body: @escaping @Sendable (inout Transaction) throws -> Void
  ) throws -> Receipt {
    try performBlocking(durability) { try Store.transact($0, body).receipt }
  }

  /// As `write` with a result, blocking the calling thread; not to be called from a transaction, which would wait for
  /// itself.
  public func writeBlocking<Result: Sendable>(
    durability: Durability? = nil, _ body: @escaping @Sendable (inout Transaction) throws -> Result
  ) throws -> (result: Result, receipt: Receipt) {
    try performBlocking(durability) { try Store.transact($0, body) }
  }

  private static func transact<Result>(
    _ group: GroupWriter, _ body: (inout Transaction) throws -> Result
  ) throws -> (result: Result, receipt: Receipt) {
    group.beginCommit()
    var transaction = Transaction(group)
    let result = try body(&transaction)
    let changes = group.openChangeCount
    return (result, Receipt(version: group.endCommit(), changes: changes, publication: group.core.publication))
  }

  // MARK: Submitting

  /// Runs `work` as part of a group and suspends until that is as durable as asked for.
  func perform<Result: Sendable>(
    _ durability: Durability? = .durable, _ work: @escaping @Sendable (GroupWriter) throws -> Result
  ) async throws -> Result {
    let core = try core()
    let isDurable = durability ?? self.durability == .durable
    return try await withCheckedThrowingContinuation { continuation in
      core.writer.submit(Request(isDurable: isDurable, work) { continuation.resume(with: $0) })
    }
  }

  func performBlocking<Result: Sendable>(
    _ durability: Durability? = .durable, _ work: @escaping @Sendable (GroupWriter) throws -> Result
  ) throws -> Result {
    let core = try core()
    let isDurable = durability ?? self.durability == .durable
    let outcome = Monitor<Swift.Result<Result, any Error>?>(nil)
    core.writer.submitBlocking(Request(isDurable: isDurable, work) { result in outcome.update { $0 = result } })
    return try outcome.wait { outcome, _ in outcome }.get()
  }

  /// Makes everything that was written before, by any process, durable: what relaxed writes have left to do.
  ///
  /// Throws ``StoreError``: `closed`, `readOnly`, `system`, `poisoned`.
  public func synchronize() async throws {
    try await perform { $0.requireDurability() }
  }

  /// As ``synchronize()``, blocking the calling thread; not to be called from a transaction.
  public func synchronizeBlocking() throws {
    try performBlocking { $0.requireDurability() }
  }
}
