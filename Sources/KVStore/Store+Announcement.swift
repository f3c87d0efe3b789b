// Which version of a store a backup covers, as whoever keeps the backups says. A hub tells its replicas, which may then give up
// what they keep for the case that the hub is lost.
//
// Invariants
// - It counts for the history in which it was said only: the file names the incarnation. A store that is
//   restored begins another one, with which the announcement is void.
// - It is durable when it is said. A reader finds one announcement whole, or none.
//
// grammar (little-endian)
//   announcement = magic u64 | checksum u64 of what follows | incarnation 16 | version u64

import Foundation
package import KVLog

extension StoreDirectory {
  static let announcementName = "announced"
  /// On its way to become the announcement.
  static let newAnnouncementName = announcementName + ".new"
}

extension Store {
  private static var announcementMagic: UInt64 { 0x0001_4345_4E4E_4156 }

  /// Says that a backup covers everything up to the version that the report is of, as ``backup(to:progress:)`` gave it, and
  /// will be kept: of a space of a hub, that the hub will be restored from it or from a later one should it be lost. The
  /// hub tells its replicas, and those whose ``Options/logRetention`` is ``LogRetention/untilBackedUp(atMost:)`` give up
  /// what they kept until then. It can be said beside the hub that serves the space, of a store that was opened read-only too;
  /// what was said before is replaced. Durable when it returns.
  ///
  /// Throws ``StoreError``: `replication` when the report is not of this store, `full`, `notAllowed`, `system`.
  public func announceBackup(of report: VerificationReport) throws {
    let state = state
    // Where the log no longer reaches, the version has to be enough.
    let digest = try digest(at: report.lastVersion)
    guard report.lastVersion <= state.version, digest == nil || digest == report.digest else {
      throw StoreError(
        .replication, "version \(report.lastVersion) of the backup is not one of this store. Announce a backup of it.",
        path: path)
    }
    var body: [UInt8] = []
    body.append(state.incarnation)
    body.append(littleEndian: report.lastVersion)
    var bytes: [UInt8] = []
    bytes.append(littleEndian: Self.announcementMagic)
    bytes.append(littleEndian: checksum64(body.bytes))
    bytes.append(contentsOf: body)
    let directory = StoreDirectory(path: path)
    try directory.replace(
      "\(path)/\(StoreDirectory.announcementName)", with: bytes,
      by: "\(path)/\(StoreDirectory.newAnnouncementName)", durably: true)
  }

  /// The version through which a backup covers the store's present history, as was announced last; 0: none.
  package func announcedBackup() -> Version {
    guard let data = FileManager.default.contents(atPath: "\(path)/\(StoreDirectory.announcementName)"),
      let announced = try? Self.parseAnnouncement([UInt8](data)), announced.incarnation == state.incarnation,
      announced.version <= state.version
    else { return 0 }
    return announced.version
  }

  private static func parseAnnouncement(_ data: [UInt8]) throws(LogFormatError) -> (
    incarnation: Identity, version: Version
  ) {
    let span = data.bytes
    var reader = ByteReader()
    guard try reader.read(UInt64.self, from: span) == announcementMagic else { throw LogFormatError(.badValue, at: 0) }
    let checksum = try reader.read(UInt64.self, from: span)
    guard checksum64(span.extracting(reader.offset..<span.byteCount)) == checksum else {
      throw LogFormatError(.badValue, at: 8)
    }
    let incarnation = try reader.identity(from: span)
    let version = try reader.read(UInt64.self, from: span)
    try reader.end(of: span)
    return (incarnation, version)
  }
}
