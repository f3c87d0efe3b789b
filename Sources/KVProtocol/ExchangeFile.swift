// Frames in a file instead of on a connection: what a replica has for its hub, or a hub for one of its replicas.
//
//     file      = preamble *frame
//     preamble  = magic     8    "KVSYNCXF"
//                 format    u16  1
//                 sender    u16  1 the replica, 2 the hub
//                 zero      u32
//                 replica   16   whose file it is, whoever sends it
//                 epoch     16   of the hub's space; zero: the replica does not know it yet
//                 checksum  u64  XXH3-64 over the bytes before
//     replica   : hello, then pushes, then fileEnd
//     hub       : welcome, then feeds and pages, then fileEnd
//     fileEnd   = frames    u64  before this one
//                 digest    16   chained over them: D(0) = digest of the replica's identity, D(n) from D(n-1), n and the
//                                frame's header, then from that, n and its payload, as a log's digest is chained
//
// All integers little-endian. Frames are those of FrameHeader.swift, as a connection has them.
//
// Invariants
// - A file has its name only when it is complete and durable. One that was cut off, that is damaged or that has anything
//   behind its end is found out before anything of it is used.
// - The file says whose it is: it is refused wherever else it turns up.

package import KVLog

/// Who writes an exchange file, what about, and with whom.
package struct ExchangeFilePreamble: Hashable, Sendable {
  package enum Sender: UInt16, Sendable {
    case replica = 1
    case hub = 2
  }

  package var sender: Sender
  package var replica: Identity
  package var epoch: Identity

  package init(_ sender: Sender, replica: Identity, epoch: Identity) {
    self.sender = sender
    self.replica = replica
    self.epoch = epoch
  }

  package static let byteCount = 56
  package static let format: UInt16 = 1
  static let magic = [UInt8]("KVSYNCXF".utf8)

  package var encoded: [UInt8] {
    var bytes = Self.magic
    bytes.append(littleEndian: Self.format)
    bytes.append(littleEndian: sender.rawValue)
    bytes.append(littleEndian: UInt32(0))
    bytes.append(replica)
    bytes.append(epoch)
    bytes.append(littleEndian: unsafe checksum64(bytes.span.bytes))
    return bytes
  }

  init(decoding bytes: [UInt8]) throws(ExchangeFileError) {
    guard bytes.count >= Self.magic.count, bytes.starts(with: Self.magic) else { throw .foreign }
    let span = unsafe bytes.span.bytes
    guard bytes.count >= 10 else { throw .cutOff }
    let format = span.load(UInt16.self, at: 8)
    guard format <= Self.format else { throw .newerFormat(format) }
    guard bytes.count == Self.byteCount else { throw .cutOff }
    guard span.load(UInt64.self, at: 48) == checksum64(span.extracting(0..<48)),
      let sender = Sender(rawValue: span.load(UInt16.self, at: 10)), format == Self.format
    else { throw .damaged("its preamble fails its checksum", offset: 0) }
    self.init(sender, replica: span.loadIdentity(at: 16), epoch: span.loadIdentity(at: 32))
  }
}

/// The last message of a file: what was before it.
package struct FileEnd: Hashable, Sendable {
  package var frames: UInt64
  package var digest: Digest

  package init(frames: UInt64, digest: Digest) {
    self.frames = frames
    self.digest = digest
  }

  func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: frames)
    bytes.append(digest)
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    frames = try reader.read(UInt64.self, from: bytes)
    digest = try reader.digest(from: bytes)
    try reader.end(of: bytes)
  }
}

/// The chain over the frames of a file.
struct FrameChain: Sendable {
  private(set) var end: FileEnd

  init(of replica: Identity) { end = FileEnd(frames: 0, digest: .origin(of: replica)) }

  mutating func add(header: RawSpan, payload: RawSpan) {
    end.frames += 1
    end.digest = end.digest.chained(version: end.frames, core: header).chained(version: end.frames, core: payload)
  }
}

/// What is wrong with an exchange file, or with writing one.
package enum ExchangeFileError: Error, Hashable, Sendable {
  /// Something else than an exchange file.
  case foreign
  case newerFormat(UInt16)
  /// It ends before its end mark.
  case cutOff
  case damaged(String, offset: UInt64)
  /// Well-formed, and not what may be in such a file.
  case misplaced(String)
  /// There is something at the path already.
  case exists
  case system(SystemError, String)
}

extension ExchangeFileError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .foreign: "this is no file that kvsync export has written. Choose another one."
    case .newerFormat(let format):
      "the file has format \(format), and this kvsync knows \(ExchangeFilePreamble.format). Upgrade kvsync."
    case .cutOff: "the file is cut off: its end is missing. Copy it again, or export it again; nothing of it was used."
    case .damaged(let what, let offset):
      "the file is damaged at byte \(offset): \(what). Copy it again, or export it again; nothing of it was used."
    case .misplaced(let what): "\(what). Export it again; nothing of it was used."
    case .exists: "there is a file of that name already. Choose another name, or remove it."
    case .system(let error, let operation):
      error.isFull
        ? "no space left to \(operation). Free some; nothing was written, and nothing is lost."
        : "cannot \(operation): \(error)."
    }
  }
}
