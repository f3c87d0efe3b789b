// Writing: every call is one commit, durable and visible when it returns. Calls that wait at the same time share one
// fdatasync.

import Dispatch
public import KVLog

extension Store {
  /// Sets the value of `key`, in a commit of its own. Durable and visible when it returns.
  ///
  /// Throws ``StoreError``: `keyEmpty`, `keyTooLong`, `valueTooLong`, `full`, `closed`, `readOnly`, `system` (after these
  /// nothing was written), or `poisoned` (the outcome is unknown until the store is reopened). Not cancelled by its task: a
  /// write that was submitted is carried out.
  @discardableResult
  public func put(_ value: some BytesConvertible, for key: some BytesConvertible) async throws -> Receipt {
    let (key, value) = (key.withBytes { $0.copied() }, value.withBytes { $0.copied() })
    return try await write { try $0.put(value, for: key) }
  }

  /// Removes `key`, in a commit of its own, also when it has no value here. Durable and visible when it returns.
  ///
  /// Throws ``StoreError`` as ``put(_:for:)`` does, `valueTooLong` aside.
  @discardableResult
  public func delete(_ key: some BytesConvertible) async throws -> Receipt {
    let key = key.withBytes { $0.copied() }
    return try await write { try $0.delete(key) }
  }

  /// Runs a transaction: all of its changes become durable and visible together when it returns, or, when the closure
  /// throws, none ever. The closure runs on the writer thread and must not wait for another write of this store.
  ///
  /// Transactions run one after the other, in the order in which they were submitted. Not cancelled by its task. Throws
  /// what the closure throws, or ``StoreError``: `keyEmpty`, `keyTooLong`, `valueTooLong`, `commitTooLarge`, `full`,
  /// `corrupt`, `closed`, `readOnly`, `system` (after these nothing was written), or `poisoned` (the outcome is unknown
  /// until the store is reopened).
  @discardableResult
  public func write(_ body: @escaping @Sendable (inout Transaction) throws -> Void) async throws -> Receipt {
    try await perform { try Store.transact($0, body).receipt }
  }

  /// Runs a transaction that has a result. Otherwise as the `write` without one; throws the same.
  public func write<Result: Sendable>(
    _ body: @escaping @Sendable (inout Transaction) throws -> Result
  ) async throws -> (result: Result, receipt: Receipt) {
    try await perform { try Store.transact($0, body) }
  }

  /// As ``put(_:for:)``, blocking the calling thread; not to be called from a transaction, which would wait for itself.
  @discardableResult
  public func putBlocking(_ value: some BytesConvertible, for key: some BytesConvertible) throws -> Receipt {
    let (key, value) = (key.withBytes { $0.copied() }, value.withBytes { $0.copied() })
    return try writeBlocking { try $0.put(value, for: key) }
  }

  /// As ``delete(_:)``, blocking the calling thread; not to be called from a transaction, which would wait for itself.
  @discardableResult
  public func deleteBlocking(_ key: some BytesConvertible) throws -> Receipt {
    let key = key.withBytes { $0.copied() }
    return try writeBlocking { try $0.delete(key) }
  }

  /// As `write`, blocking the calling thread; not to be called from a transaction, which would wait for itself.
  @discardableResult
  public func writeBlocking(_ body: @escaping @Sendable (inout Transaction) throws -> Void) throws -> Receipt {
    try performBlocking { try Store.transact($0, body).receipt }
  }

  /// As `write` with a result, blocking the calling thread; not to be called from a transaction, which would wait for
  /// itself.
  public func writeBlocking<Result: Sendable>(
    _ body: @escaping @Sendable (inout Transaction) throws -> Result
  ) throws -> (result: Result, receipt: Receipt) {
    try performBlocking { try Store.transact($0, body) }
  }

  private static func transact<Result>(
    _ group: GroupWriter, _ body: (inout Transaction) throws -> Result
  ) throws -> (result: Result, receipt: Receipt) {
    group.beginCommit()
    var transaction = Transaction(group)
    let result = try body(&transaction)
    let changes = group.openChangeCount
    return (result, Receipt(version: group.endCommit(), changes: changes))
  }

  // MARK: Submitting

  /// Runs `work` as part of a group and suspends until that is durable.
  func perform<Result: Sendable>(_ work: @escaping @Sendable (GroupWriter) throws -> Result) async throws -> Result {
    let core = try core()
    return try await withCheckedThrowingContinuation { continuation in
      core.writer.submit(Request(work) { continuation.resume(with: $0) })
    }
  }

  private func performBlocking<Result: Sendable>(
    _ work: @escaping @Sendable (GroupWriter) throws -> Result
  ) throws -> Result {
    let core = try core()
    let outcome = Monitor<Swift.Result<Result, any Error>?>(nil)
    core.writer.submit(Request(work) { result in outcome.update { $0 = result } })
    return try outcome.wait { outcome, _ in outcome }.get()
  }
}

/// What a write gives back: which commit it was.
public struct Receipt: Sendable, Hashable {
  /// The version of the commit; of the commit before it, when the transaction changed nothing.
  public let version: Version
  /// How many changes it recorded.
  public let changes: Int
}

extension Store {
  /// Suspends until the hub has decided every local commit up to the receipt's: applied it, durably, or found it stale, and
  /// then what is still current of it is pending again under a later version. A replicator has to bring that about;
  /// without one this waits until the store is closed.
  ///
  /// Throws ``StoreError``: `closed`, `readOnly`, `poisoned`; or `CancellationError`.
  public func acknowledged(_ receipt: Receipt) async throws {
    _ = try await core().publication.wait(for: .acknowledged(receipt.version))
  }
}
