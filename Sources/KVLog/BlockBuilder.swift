// Builds the bytes of one block, change by change, in one buffer that is used again and again.
//
//     buffer = block header (72 bytes, filled in by the log) | record record … | spare
//
// Invariants:
// - Nothing is allocated per change or per commit: the buffer grows by doubling and is kept.
// - `lastVersion` and `digest` count ended commits only; an open commit can be taken back as if it had never begun.
// - Lengths are within `LogLimits`; a caller that passes more has a bug and traps here, before anything is written.

/// Collects the commits and other records that will be made durable together.
package struct BlockBuilder: ~Copyable {
  /// The buffer; only the first `used` bytes mean anything.
  @usableFromInline var buffer: [UInt8]
  @usableFromInline var used: Int
  /// Of the commits to come.
  @usableFromInline package var origin: Identity

  /// The version and digest that the block begins after.
  @usableFromInline var base: Version
  @usableFromInline var digestBefore: Digest

  package internal(set) var lastVersion: Version
  package internal(set) var digest: Digest

  /// Where the open commit's record begins; 0 when none is open.
  @usableFromInline var openRecord: Int
  @usableFromInline var openChanges: Int

  /// A buffer that one huge commit has made larger than this is given back at the next `reset`.
  private static let keptBytes = 4 << 20
  @usableFromInline static let firstBytes = 64 << 10

  package init() {
    buffer = []
    used = BlockHeader.byteCount
    origin = .zero
    base = 0
    digestBefore = .zero
    lastVersion = 0
    digest = .zero
    openRecord = 0
    openChanges = 0
  }

  /// Empties the builder; the next commit gets version `version` + 1. `origin` is the identity of the log's store.
  package mutating func reset(after version: Version, digest: Digest, origin: Identity) {
    if buffer.count > Self.keptBytes { buffer = [] }
    used = BlockHeader.byteCount
    base = version
    digestBefore = digest
    lastVersion = version
    self.digest = digest
    self.origin = origin
    openRecord = 0
    openChanges = 0
  }

  package var isEmpty: Bool { used == BlockHeader.byteCount }
  /// The bytes of records so far, an open commit included.
  package var byteCount: Int { used - BlockHeader.byteCount }
  package var firstVersion: Version { base + 1 }
  /// The changes of the open commit.
  @inlinable package var openChangeCount: Int { openChanges }
  /// The core's bytes of the open commit: what `LogLimits.maximumCommitBytes` limits.
  @inlinable package var openCommitBytes: Int {
    openRecord == 0 ? 0 : used - openRecord - RecordView.headerByteCount - CommitLayout.envelopeBytes
  }
}

// MARK: - A commit of this store

extension BlockBuilder {
  /// Opens a commit of this store and gives its version.
  package mutating func beginCommit(
    serverVersion: Version = 0, time: HybridTime, flags: CommitFlags = []
  ) -> Version {
    precondition(openRecord == 0, "a commit is open already")
    let version = lastVersion + 1
    let start = extend(by: RecordView.headerByteCount + CommitLayout.headerBytes)
    writeEnvelope(at: start, version: version, serverVersion: serverVersion)
    let origin = origin
    unsafe buffer.withUnsafeMutableBytes { bytes in
      let payload = unsafe bytes.baseAddress! + start + RecordView.headerByteCount
      unsafe payload.store(origin, at: CommitLayout.origin)
      unsafe payload.store(littleEndian: version, at: CommitLayout.originVersion)
      unsafe payload.store(littleEndian: time.rawValue, at: CommitLayout.time)
      unsafe payload.store(littleEndian: flags.rawValue, at: CommitLayout.flags)
      unsafe payload.store(littleEndian: UInt16(0), at: CommitLayout.zero)
    }
    openRecord = start
    openChanges = 0
    return version
  }

  /// Adds a put to the open commit.
  @inlinable
  package mutating func append(key: RawSpan, value: RawSpan) {
    appendChange(flags: 0, key: key, value: value)
  }

  /// Adds a deletion to the open commit.
  @inlinable
  package mutating func appendDeletion(key: RawSpan) {
    appendChange(flags: 1, key: key, value: RawSpan())
  }

  @inlinable
  mutating func appendChange(flags: UInt8, key: RawSpan, value: RawSpan) {
    let keyBytes = key.byteCount
    let valueBytes = value.byteCount
    precondition(openRecord != 0, "no commit is open")
    precondition(keyBytes >= 1 && keyBytes <= LogLimits.maximumKeyBytes, "a key has 1...511 bytes")
    precondition(valueBytes <= LogLimits.maximumValueBytes, "a value has at most 16 MiB")
    precondition(
      openCommitBytes + 7 + keyBytes + valueBytes <= LogLimits.maximumCommitBytes, "a commit has at most 64 MiB")
    let start = extend(by: 7 + keyBytes + valueBytes)
    unsafe key.withUnsafeBytes { key in
      unsafe value.withUnsafeBytes { value in
        unsafe buffer.withUnsafeMutableBytes { bytes in
          let change = unsafe bytes.baseAddress! + start
          unsafe change.store(littleEndian: flags, at: 0)
          unsafe change.store(littleEndian: UInt16(truncatingIfNeeded: keyBytes), at: 1)
          unsafe change.store(littleEndian: UInt32(truncatingIfNeeded: valueBytes), at: 3)
          unsafe (change + 7).copyMemory(from: key.baseAddress!, byteCount: keyBytes)
          if valueBytes > 0 {
            unsafe (change + 7 + keyBytes).copyMemory(from: value.baseAddress!, byteCount: valueBytes)
          }
        }
      }
    }
    openChanges += 1
  }

  /// Closes the open commit: it counts now, and the digest covers it.
  package mutating func endCommit() {
    precondition(openRecord != 0, "no commit is open")
    let start = openRecord
    let changes = UInt32(openChanges)
    unsafe buffer.withUnsafeMutableBytes { bytes in
      unsafe bytes.baseAddress!.store(
        littleEndian: changes, at: start + RecordView.headerByteCount + CommitLayout.changeCount)
    }
    finishRecord(.commit, at: start)
    openRecord = 0
    openChanges = 0
    chain(coreAt: start + RecordView.headerByteCount + CommitLayout.envelopeBytes)
  }

  /// Takes the open commit back, bytes and version.
  package mutating func cancelCommit() {
    precondition(openRecord != 0, "no commit is open")
    used = openRecord
    openRecord = 0
    openChanges = 0
  }
}

// MARK: - Everything else

extension BlockBuilder {
  /// Adds a commit that was made elsewhere: the same core, under an envelope of this log. The core must have been read
  /// by `CommitView` and `ChangeCursor` before, which is where untrusted bytes are refused.
  package mutating func appendCommit(core: RawSpan, serverVersion: Version) -> Version {
    precondition(openRecord == 0, "a commit is open")
    precondition(
      core.byteCount >= CommitLayout.coreHeaderBytes && core.byteCount <= LogLimits.maximumCommitBytes,
      "not the core of a commit")
    let version = lastVersion + 1
    let start = extend(by: RecordView.headerByteCount + CommitLayout.envelopeBytes + core.byteCount)
    writeEnvelope(at: start, version: version, serverVersion: serverVersion)
    let coreStart = start + RecordView.headerByteCount + CommitLayout.envelopeBytes
    copy(core, to: coreStart)
    finishRecord(.commit, at: start)
    chain(coreAt: coreStart)
    return version
  }

  /// Adds a record that means nothing to the log.
  package mutating func append(_ kind: RecordKind, payload: RawSpan) {
    precondition(openRecord == 0, "a commit is open")
    precondition(kind != .commit, "commits are added by beginCommit and appendCommit")
    let start = extend(by: RecordView.headerByteCount + payload.byteCount)
    copy(payload, to: start + RecordView.headerByteCount)
    finishRecord(kind, at: start)
  }

  /// The records built so far, without an open commit.
  package func withRecords<R>(_ body: (RawSpan) throws -> R) rethrows -> R {
    guard !isEmpty else { return try body(RawSpan()) }
    return try unsafe body(buffer.span.bytes.extracting(BlockHeader.byteCount..<(openRecord == 0 ? used : openRecord)))
  }
}

// MARK: - The buffer

extension BlockBuilder {
  /// Makes room for `count` bytes more and gives the offset of the first.
  @inlinable
  @inline(__always)
  mutating func extend(by count: Int) -> Int {
    let start = used
    // Eight to spare: the block's padding.
    if start + count + 8 > buffer.count { grow(toHold: start + count + 8) }
    used = start + count
    return start
  }

  @usableFromInline
  @inline(never)
  mutating func grow(toHold count: Int) {
    let capacity = max(count, buffer.count * 2, Self.firstBytes)
    // Filled first and copied over, which is two block operations in a debug build too.
    var larger = [UInt8](repeating: 0, count: capacity)
    let held = min(used, buffer.count)
    if held > 0 {
      unsafe larger.withUnsafeMutableBytes { larger in
        unsafe buffer.withUnsafeBytes { unsafe larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<held])) }
      }
    }
    buffer = larger
  }

  private mutating func copy(_ bytes: RawSpan, to offset: Int) {
    guard bytes.byteCount > 0 else { return }
    unsafe bytes.withUnsafeBytes { source in
      unsafe buffer.withUnsafeMutableBytes { buffer in
        unsafe (buffer.baseAddress! + offset).copyMemory(from: source.baseAddress!, byteCount: source.count)
      }
    }
  }

  private mutating func writeEnvelope(at record: Int, version: Version, serverVersion: Version) {
    unsafe buffer.withUnsafeMutableBytes { bytes in
      let payload = unsafe bytes.baseAddress! + record + RecordView.headerByteCount
      unsafe payload.store(littleEndian: version, at: CommitLayout.version)
      unsafe payload.store(littleEndian: serverVersion, at: CommitLayout.serverVersion)
    }
  }

  /// Writes the header of the record that began at `start` and ends here.
  private mutating func finishRecord(_ kind: RecordKind, at start: Int) {
    let length = used - start - RecordView.headerByteCount
    precondition(length <= LogLimits.maximumBlockBytes, "a record has at most as many bytes as a block")
    unsafe buffer.withUnsafeMutableBytes { bytes in
      let record = unsafe bytes.baseAddress! + start
      unsafe record.store(littleEndian: UInt64(length) | UInt64(kind.rawValue) << 32, at: 0)
    }
  }

  /// Counts the commit whose core lies from `offset` to the end.
  private mutating func chain(coreAt offset: Int) {
    lastVersion += 1
    digest = unsafe digest.chained(version: lastVersion, core: buffer.span.bytes.extracting(offset..<used))
  }
}

// MARK: - For the log

extension BlockBuilder {
  /// What the block will take in its file.
  var blockBytes: Int { BlockHeader.blockBytes(payloadBytes: byteCount) }

  /// Completes the bytes of the block for its place, and lends them.
  mutating func seal(identity: Identity, segment: Version, offset: UInt64, synchronizedThrough: UInt64) {
    precondition(openRecord == 0, "a commit is open")
    precondition(!isEmpty && blockBytes <= LogLimits.maximumBlockBytes, "a block has 1 byte to 256 MiB of records")
    let count = blockBytes
    for index in used..<count { buffer[index] = 0 }
    let header = BlockHeader(
      payloadBytes: byteCount, firstVersion: base + 1, lastVersion: lastVersion,
      synchronizedThrough: synchronizedThrough, digestBefore: digestBefore, digest: digest)
    BlockHeader.seal(
      &buffer, bytes: count, header: header,
      place: BlockHeader.place(identity: identity, segment: segment, offset: offset))
  }

  /// The sealed block.
  func withBlock(_ body: (RawSpan) throws(SystemError) -> Void) throws(SystemError) {
    try unsafe body(buffer.span.bytes.extracting(0..<blockBytes))
  }
}
