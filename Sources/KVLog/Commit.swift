// A commit: one transaction, the unit of atomicity in the log, on the wire, on the hub and on every replica.
//
//     payload  = envelope core
//     envelope = version u64 | serverVersion u64                   each log's own
//     core     = origin 16 | originVersion u64 | time u64 | flags u16 | zero 2 | changeCount u32 | *change | trailer
//                                                                  the same bytes on every hop; digests cover them
//     change   = see Change.swift
//     trailer  =                                                   nothing, unless a flag says so
//              | *(serverVersion u64 | time u64 | author u16) | *author 16 | authors u16
//                                                                  of rows: one entry for each change, in order
//
// All integers little-endian, unaligned; `origin` is the sixteen bytes of an identity.

package struct CommitFlags: OptionSet, Hashable, Sendable {
  package let rawValue: UInt16

  @inlinable
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  /// Made by resolving a conflict.
  package static let resolution = CommitFlags(rawValue: 1)
  /// The hub may have it already: it carries what was still current in a commit that the hub found stale, or was written under a
  /// name that its store no longer has.
  package static let reoffer = CommitFlags(rawValue: 2)

  /// The first changes of a commit of another replica; the rest follows under the same server version.
  package static let partial = CommitFlags(rawValue: 4)

  /// Rows as the hub had them, and not what somebody wrote at once: each change has a version, a time and an author of its
  /// own, in the trailer. Has a meaning in one replica's log only.
  package static let rows = CommitFlags(rawValue: 8)
  /// Some changes of the commit were left out: they lie outside of what the replica has. Travels to that replica only.
  package static let excerpt = CommitFlags(rawValue: 16)

  /// The hub may have the same rows, of the same times, from another commit.
  package var mayComeAgain: Bool { !isDisjoint(with: [.resolution, .reoffer]) }

  @inlinable static var known: UInt16 { 31 }
  @inlinable static var withTrailer: UInt16 { 8 }
}

/// Everything about a commit but its changes.
package struct CommitHeader: Equatable, Sendable {
  /// The version in the log that holds this copy.
  package var version: Version
  /// The hub's version of it; 0 when the hub has none yet.
  package var serverVersion: Version
  /// The store that made it, and its version there.
  package var origin: Identity
  package var originVersion: Version
  package var time: HybridTime
  package var flags: CommitFlags
  package var changeCount: Int

  @inlinable
  package init(
    version: Version, serverVersion: Version, origin: Identity, originVersion: Version, time: HybridTime,
    flags: CommitFlags, changeCount: Int
  ) {
    self.version = version
    self.serverVersion = serverVersion
    self.origin = origin
    self.originVersion = originVersion
    self.time = time
    self.flags = flags
    self.changeCount = changeCount
  }
}

extension CommitHeader {
  /// Of a commit that was read before, whose payload begins at `start`.
  @inlinable
  package init(ofPayloadAt start: Int, in bytes: RawSpan) {
    self.init(
      version: bytes.load(UInt64.self, at: start + CommitLayout.version),
      serverVersion: bytes.load(UInt64.self, at: start + CommitLayout.serverVersion),
      origin: bytes.loadIdentity(at: start + CommitLayout.origin),
      originVersion: bytes.load(UInt64.self, at: start + CommitLayout.originVersion),
      time: HybridTime(rawValue: bytes.load(UInt64.self, at: start + CommitLayout.time)),
      flags: CommitFlags(rawValue: bytes.load(UInt16.self, at: start + CommitLayout.flags)),
      changeCount: Int(bytes.load(UInt32.self, at: start + CommitLayout.changeCount)))
  }
}

/// Offsets of the grammar above.
@usableFromInline
enum CommitLayout {
  @inlinable static var envelopeBytes: Int { 16 }
  /// The core up to its first change.
  @inlinable static var coreHeaderBytes: Int { 40 }
  @inlinable static var headerBytes: Int { 56 }

  // From the start of the payload.
  @inlinable static var version: Int { 0 }
  @inlinable static var serverVersion: Int { 8 }
  @inlinable static var origin: Int { 16 }
  @inlinable static var originVersion: Int { 32 }
  @inlinable static var time: Int { 40 }
  @inlinable static var flags: Int { 48 }
  @inlinable static var zero: Int { 50 }
  @inlinable static var changeCount: Int { 52 }
}

/// Where the parts of one commit lie in the bytes it was read from.
package struct CommitView: Sendable {
  package let header: CommitHeader
  /// What is identical on every hop.
  package let core: Range<Int>
  package let changes: Range<Int>
  package var trailer: Range<Int> { changes.upperBound..<core.upperBound }

  @inlinable package static var coreHeaderByteCount: Int { CommitLayout.coreHeaderBytes }
  @inlinable package static var envelopeByteCount: Int { CommitLayout.envelopeBytes }

  /// Reads the header of the commit in `payload` (the payload of a record). Changes are checked by `ChangeCursor`.
  @inlinable
  package init(payload: Range<Int>, in bytes: RawSpan) throws(LogFormatError) {
    let start = payload.lowerBound
    let end = payload.upperBound
    guard start >= 0, end <= bytes.byteCount, end - start >= CommitLayout.headerBytes else {
      throw LogFormatError(.cutShort, at: start)
    }
    let flags = bytes.load(UInt16.self, at: start + CommitLayout.flags)
    guard flags & ~CommitFlags.known == 0 else { throw LogFormatError(.badFlags, at: start + CommitLayout.flags) }
    guard bytes.load(UInt16.self, at: start + CommitLayout.zero) == 0 else {
      throw LogFormatError(.notZero, at: start + CommitLayout.zero)
    }
    guard end - start - CommitLayout.envelopeBytes <= LogLimits.maximumCommitBytes else {
      throw LogFormatError(.overLimit, at: start)
    }
    let changeCount = Int(bytes.load(UInt32.self, at: start + CommitLayout.changeCount))
    let trailerBytes =
      flags & CommitFlags.withTrailer == 0
      ? 0
      : try CommitTrailer.byteCount(
        CommitFlags(rawValue: flags), changeCount: changeCount, in: bytes, start + CommitLayout.headerBytes..<end)
    guard changeCount <= (end - start - CommitLayout.headerBytes - trailerBytes) / ChangeEncoding.minimumByteCount
    else {
      throw LogFormatError(.cutShort, at: start + CommitLayout.changeCount)
    }
    header = CommitHeader(ofPayloadAt: start, in: bytes)
    core = start + CommitLayout.envelopeBytes..<end
    changes = start + CommitLayout.headerBytes..<end - trailerBytes
  }
}
