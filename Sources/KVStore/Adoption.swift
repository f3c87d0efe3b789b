// What makes a backup, opened for writing for the first time, a store of its own: two copies of one backup, or a copy and
// its source, must never be taken for the same replica.
//
// The new store draws an identity and an incarnation. Its log begins after the version V of the backup, with the backup's
// digest there, and with what the source had not delivered: each commit's changes that are still current, as a commit of
// the new store, with its original time. So nothing is lost if the source is gone; and if source and copy both go on, the
// hub and the other replicas find equal values where they meet. Everything before V counts as decided. What the source
// wrote through V, and the hub feeds back, is known to the copy: the index has it written through where it knows the source.
//
// Invariants
// - The manifest is the switch. Before it is replaced, the directory is the backup that it was, whatever else was done:
//   its log is `undelivered/`, the rows of its index are not touched, and the counters' place is the start of the
//   new log as well as the end of the old one.
// - A step that was cut off is begun again, from the first one, with another identity.
// - Runs under the store's lock, before the log is opened: what it wrote is replayed as after any other crash.

import Foundation
import KVLog
import LMDB

package struct Adoption {
  private let directory: StoreDirectory
  private let backup: StoreManifest
  private let options: Store.Options
  /// Who the store becomes.
  private let adopted: StoreManifest

  /// Gives the manifest of the store that is in the directory from now on: the same, unless it is a backup.
  static func run(
    _ directory: StoreDirectory, _ manifest: StoreManifest, _ options: Store.Options
  ) throws -> StoreManifest {
    let adoption = Adoption(directory, manifest, options)
    guard manifest.backup != nil else {
      adoption.tidy()
      return manifest
    }
    try adoption.beginLog()
    try adoption.adoptCounters()
    try adoption.replaceManifest()
    adoption.tidy()
    return adoption.adopted
  }

  init(_ directory: StoreDirectory, _ backup: StoreManifest, _ options: Store.Options) {
    self.directory = directory
    self.backup = backup
    self.options = options
    adopted = StoreManifest.random()
  }

  /// Begins the new log, with what was undelivered.
  func beginLog() throws {
    try? FileManager.default.removeItem(atPath: directory.log)
    let index = try Index(path: directory.index, readOnly: true, identity: backup.identity, options.index)
    let source = try index.source()
    let state = try state(source)
    let log = try LogCopy(
      Store.logConfiguration(directory, adopted, options), after: state.version, state.position.digest)
    let configuration = Store.logConfiguration(directory, backup, options)
    let first = try SegmentDirectory.segments(configuration).first?.firstVersion ?? 1
    var stream = try CommitStream(configuration, after: first - 1, through: state.position)
    // Of what the source wrote, what is still current.
    try stream.pass(through: state.position) { entry, bytes in
      guard state.isLocal(entry.header) else { return true }
      try log.offer(entry, in: bytes) { change in
        try isCurrent(change, in: bytes, version: entry.header.version, source)
      }
      return true
    }
    _ = try log.finish(seal: false)
  }

  private func isCurrent(_ change: ChangeView, in bytes: RawSpan, version: Version, _ source: Source) throws -> Bool {
    let key = bytes.extracting(change.key)
    let isCurrent = try source.reader.get(source.tables.rows, key: key) { stored in
      let row = try Row(stored, key: key, home: source.tables.home)
      // A key may occur twice in a commit: only its last change is the row.
      return try row.version == version && row.isTombstone == change.isDeletion
        && (Row.value(stored, key: key)).isEqual(to: bytes.extracting(change.value))
    }
    if isCurrent == nil { try source.checkAbsence(ofRow: key) }
    return isCurrent ?? false
  }

  /// Everything that the backup holds counts as decided: what was not is offered by the new log.
  func adoptCounters() throws {
    let index = try Index(path: directory.index, readOnly: false, identity: backup.identity, options.index)
    var state = try state(index.source())
    var writer = try index.environment.beginWrite()
    try LogApplier(tables: index.tables).adopt(adopted.identity, &writer, &state)
    try writer.commit()
  }

  private func state(_ source: Source) throws -> StoreState {
    guard let state = try Index.state(source), state.version == backup.backup else {
      throw StoreError(
        .corrupt, "the index is not of the version that the manifest names. Use another backup.",
        path: directory.index)
    }
    return state
  }

  func replaceManifest() throws {
    try directory.write(adopted.encoded(), to: directory.creating)
    try directory.publish()
  }

  /// Removes what the new store does not need. Left over, it is removed by the next opening.
  func tidy() {
    Compaction.tidy(directory)
    guard unsafe access(directory.undelivered, F_OK) == 0 else { return }
    try? FileManager.default.removeItem(atPath: directory.undelivered)
  }
}
