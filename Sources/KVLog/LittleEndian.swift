// Fixed-width little-endian integers, unaligned, in and out of bytes; identities and digests as sixteen bytes.
//
// Bounds are preconditions here: bytes that are not trusted yet go through `ByteReader`.

extension RawSpan {
  /// The little-endian integer at `offset`. Precondition: it lies within the span.
  @inlinable
  package func load<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type, at offset: Int) -> T {
    T(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: T.self))
  }

  @inlinable
  package func loadIdentity(at offset: Int) -> Identity {
    Identity(high: load(UInt64.self, at: offset).byteSwapped, low: load(UInt64.self, at: offset + 8).byteSwapped)
  }

  @inlinable
  package func loadDigest(at offset: Int) -> Digest {
    Digest(high: load(UInt64.self, at: offset).byteSwapped, low: load(UInt64.self, at: offset + 8).byteSwapped)
  }
}

extension [UInt8] {
  /// Appends the integer's bytes, least significant first.
  @inlinable
  package mutating func append<T: FixedWidthInteger & BitwiseCopyable>(littleEndian value: T) {
    unsafe Swift.withUnsafeBytes(of: value.littleEndian) { unsafe append(contentsOf: $0) }
  }

  @inlinable
  package mutating func append(_ identity: Identity) {
    append(littleEndian: identity.high.byteSwapped)
    append(littleEndian: identity.low.byteSwapped)
  }

  @inlinable
  package mutating func append(_ digest: Digest) {
    append(littleEndian: digest.high.byteSwapped)
    append(littleEndian: digest.low.byteSwapped)
  }

  @inlinable
  package mutating func append(_ bytes: RawSpan) {
    unsafe bytes.withUnsafeBytes { unsafe append(contentsOf: $0) }
  }

  /// Identity, version and digest.
  package mutating func append(_ position: Position) {
    append(position.identity)
    append(littleEndian: position.version)
    append(position.digest)
  }
}

extension UnsafeMutableRawPointer {
  /// Stores the integer's bytes, least significant first. The caller vouches for the memory.
  @inlinable
  package func store<T: FixedWidthInteger & BitwiseCopyable>(littleEndian value: T, at offset: Int) {
    unsafe storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
  }

  @inlinable
  package func store(_ identity: Identity, at offset: Int) {
    unsafe store(littleEndian: identity.high.byteSwapped, at: offset)
    unsafe store(littleEndian: identity.low.byteSwapped, at: offset + 8)
  }

  @inlinable
  package func store(_ digest: Digest, at offset: Int) {
    unsafe store(littleEndian: digest.high.byteSwapped, at: offset)
    unsafe store(littleEndian: digest.low.byteSwapped, at: offset + 8)
  }
}
