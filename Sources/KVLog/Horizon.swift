// How far a replica's log was looked at to leave something out of a run of its commits.
//
//     horizon = version u64 | digest 16
//
// Invariants
// - What is left out is made up for by what the log has through there. Whoever has another log there, or none, may lack that.

/// The version of a replica's log through which it was looked at to find out what of a run need not travel, and the digest
/// there. Version 0: nothing was left out.
package struct Horizon: Hashable, Sendable {
  package var version: Version
  package var digest: Digest

  package static let none = Horizon(version: 0, digest: .zero)

  package init(version: Version, digest: Digest) {
    self.version = version
    self.digest = digest
  }

  package func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: version)
    bytes.append(digest)
  }

  package init(from reader: inout ByteReader, in bytes: RawSpan) throws(LogFormatError) {
    version = try reader.read(UInt64.self, from: bytes)
    digest = try reader.digest(from: bytes)
  }
}
