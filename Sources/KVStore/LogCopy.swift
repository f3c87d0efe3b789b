// Writes commits of another log into a new one, in blocks of bounded size.

import KVLog

final class LogCopy {
  private let log: ReplicationLog
  private var builder = BlockBuilder()

  /// Begins the log of `configuration`, after `version`, where the digest is `digest`.
  init(_ configuration: LogConfiguration, after version: Version, _ digest: Digest) throws(LogError) {
    log = try ReplicationLog.create(configuration, after: version, digest)
    continueBlock()
  }

  private func continueBlock() {
    builder.reset(after: log.end.version, digest: log.end.digest, origin: log.configuration.identity)
  }

  /// Appends a commit as it is, under the next version.
  func append(_ entry: CommitStream.Entry, in bytes: RawSpan) throws(LogError) {
    _ = builder.appendCommit(core: bytes.extracting(entry.view.core), serverVersion: entry.header.serverVersion)
    try appendBlock(of: StoreLimits.groupBytes)
  }

  /// Appends a commit of the log's own store: those changes of another one that `isWanted`, with its time. Without any
  /// nothing is appended.
  func offer(
    _ entry: CommitStream.Entry, in bytes: RawSpan, where isWanted: (ChangeView) throws -> Bool
  ) throws {
    _ = builder.beginCommit(time: entry.header.time, flags: .reoffer)
    var changes = ChangeCursor(entry.view)
    while let change = try changes.next(in: bytes) {
      guard try isWanted(change) else { continue }
      let key = bytes.extracting(change.key)
      if change.isDeletion {
        builder.appendDeletion(key: key)
      } else {
        builder.append(key: key, value: bytes.extracting(change.value))
      }
    }
    if builder.openChangeCount > 0 { builder.endCommit() } else { builder.cancelCommit() }
    try appendBlock(of: StoreLimits.groupBytes)
  }

  private func appendBlock(of bytes: Int) throws(LogError) {
    guard !builder.isEmpty, builder.byteCount >= bytes else { return }
    try log.append(&builder)
    continueBlock()
  }

  /// Makes everything durable. With `seal` the log ends with a segment that is empty. Returns where it ends.
  func finish(seal: Bool) throws(LogError) -> LogPosition {
    try appendBlock(of: 0)
    if seal { try log.seal() }
    try log.close()
    return log.end
  }
}
