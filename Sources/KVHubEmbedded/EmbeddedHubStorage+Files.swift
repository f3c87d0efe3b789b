// Files instead of connections, for a hub in a directory.

import KVLog
import KVProtocol
import KVStore

public import KVHub

extension EmbeddedHubStorage {
  /// Imports what a replica has exported into a space: exactly once, whether the file is imported twice, after a session, or
  /// after a newer file. The whole file is checked before anything of it is used; then it is applied part by part, durably,
  /// and an import that fails on the way is finished by importing the file again. The space is made if it does not exist
  /// and the replica has never synchronised.
  ///
  /// Who runs the hub's machine may import, and answers for whose file it is: `holder` is the principal whose replica wrote
  /// it. On a hub that has tokens one must be named, whose token may write to the space; a replica that belongs to somebody
  /// else is refused. What goes beyond the limits of `options`, or is rejected by their hook, is refused as in a session, and
  /// the replica parks it when it imports the answer.
  ///
  /// No hub may be serving the directory. `progress` is told how many bytes are done, and how many there are; each counts
  /// twice. It must not block.
  ///
  /// Throws `StoreError`: `foreign` (not such a file), `corrupt` (damaged or cut off; or the space is damaged),
  /// `newerFormat`, `replication` (it does not fit the space: something before it is missing, the replica belongs to another
  /// hub or holder, one of them was restored or copied), `noStore` (no such file, or no such space), `full`, `notAllowed`, `closed`,
  /// `system`; `CancellationError`.
  public func importChanges(
    from path: String, into space: String, holder: String? = nil, options: Hub.Options = Hub.Options(),
    progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) async throws -> HubImportReport {
    try HubTokens(directory: directory.path).checkWriter(holder, of: space)
    return try await translated(path) {
      try await HubFileExchange(self, space: space, holder: holder, options: options)
        .importChanges(from: path, progress: progress)
    }
  }

  /// Writes a file for the replica that exported `request`: what the hub has decided of it, with exceptions, and what others
  /// wrote after what it had pulled. Written to a name of its own, synchronised and renamed: it is there whole or not at all.
  /// Changes nothing in the space, which is made if it does not exist and the replica has never synchronised.
  ///
  /// `progress` is told how many versions of the space are done, and how many there are; it must not block. Throws as
  /// ``importChanges(from:into:holder:options:progress:)`` does, and `exists` when there is something at the path.
  public func exportAnswer(
    to path: String, for request: String, of space: String,
    progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) async throws -> HubAnswerReport {
    try await translated(path, request: request) {
      try await HubFileExchange(self, space: space).exportAnswer(to: path, for: request, progress: progress)
    }
  }

  private func translated<Result>(
    _ path: String, request: String? = nil, _ body: () async throws -> Result
  ) async throws -> Result {
    do {
      return try await body()
    } catch let error as ExchangeFileError {
      throw StoreError(error, path: path, request: request)
    } catch let refusal as Refusal {
      throw StoreError(.replication, refusal.message + ".", path: request ?? path)
    } catch let error as HubStorageError {
      throw StoreError(error, path: path)
    }
  }
}

extension StoreError {
  fileprivate init(_ error: ExchangeFileError, path: String, request: String?) {
    let (code, file): (Code, String) =
      switch error {
      case .foreign: (.foreign, request ?? path)
      case .newerFormat: (.newerFormat, request ?? path)
      case .cutOff, .damaged, .misplaced: (.corrupt, request ?? path)
      case .exists: (.exists, path)
      case .system(let error, _): (Code(errno: error.code), "")
      }
    self.init(code, error.description, path: file)
  }

  fileprivate init(_ error: HubStorageError, path: String) {
    switch error {
    case .unknownSpace: self.init(.noStore, "there is no such space on this hub. Check its name.", path: path)
    case .tooManySpaces: self.init(.full, "the hub has as many spaces as it may have. Use one of them.", path: path)
    case .tooManyReplicas: self.init(.replication, "the holder has as many replicas as he may have.", path: path)
    case .gap(let expected): self.init(.replication, "the hub expects what follows version \(expected).", path: path)
    case .lapsed(let floor):
      self.init(.replication, "the hub no longer keeps what lies before version \(floor).", path: path)
    case .malformed(let reason): self.init(.corrupt, "\(reason).", path: path)
    case .full(let reason): self.init(.full, reason, path: path)
    case .corrupt(let reason): self.init(.corrupt, reason, path: path)
    case .closed: self.init(.closed, "the hub's storage is closed.", path: path)
    case .failed(let reason): self.init(.system, reason, path: path)
    }
  }
}
