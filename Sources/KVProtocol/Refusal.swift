// Why one side will not go on, in a form that a program can act on and a person can read.
//
//     refuse = code u16 | zero u16 | version u64 | message (u16 count | UTF-8)
//
// `version` is the fact that goes with the code: the expected version of a gap, what a hub has of a replica that was restored,
// the head of a restored hub; 0 where there is none.

package import KVLog

package struct RefusalCode: RawRepresentable, Hashable, Sendable {
  package let rawValue: UInt16

  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let unsupportedProtocol = RefusalCode(rawValue: 1)
  package static let invalidSpaceName = RefusalCode(rawValue: 2)
  package static let unknownSpace = RefusalCode(rawValue: 3)
  package static let notAuthorized = RefusalCode(rawValue: 4)
  package static let codecUnsupported = RefusalCode(rawValue: 5)
  /// The space is not the one that the replica synchronised with before: another epoch.
  package static let differentEpoch = RefusalCode(rawValue: 7)
  /// The hub no longer has what this replica once got from it or gave to it.
  package static let hubRestored = RefusalCode(rawValue: 8)
  /// The replica no longer has what the hub once got from it, or it is a copy of another one.
  package static let replicaRestored = RefusalCode(rawValue: 9)
  /// A push does not begin where the last one ended.
  package static let gap = RefusalCode(rawValue: 11)
  /// A message that breaks the rules.
  package static let violation = RefusalCode(rawValue: 12)
  package static let busy = RefusalCode(rawValue: 13)
  /// The hub cannot store anything at the moment.
  package static let storageFull = RefusalCode(rawValue: 14)
  package static let storageFailed = RefusalCode(rawValue: 15)
  /// A newer connection of the same replica took over.
  package static let replaced = RefusalCode(rawValue: 16)
  /// What the hub has stored of the space fails its checks.
  package static let storageCorrupt = RefusalCode(rawValue: 17)
  /// The program that runs the hub failed at validating a commit; nothing was decided.
  package static let validationFailed = RefusalCode(rawValue: 30)

  /// The token may read, and the session wants to write.
  package static let readOnly = RefusalCode(rawValue: 20)
  /// The replica belongs to another principal.
  package static let otherOwner = RefusalCode(rawValue: 21)
  /// Too many credentials that are none have come from this address.
  package static let tooManyTries = RefusalCode(rawValue: 22)
  /// The hub has as many spaces as it may have.
  package static let tooManySpaces = RefusalCode(rawValue: 23)

  /// Whether trying again later, unchanged, can help.
  package var isTransient: Bool {
    switch self {
    // A gap is found out when others have brought back, meanwhile, what a restored hub had lost: the next handshake tells.
    case .gap, .busy, .storageFull, .storageFailed, .replaced, .validationFailed, .tooManyTries, .tooManySpaces: true
    default: false
    }
  }
}

package struct Refusal: Error, Hashable, Sendable {
  package var code: RefusalCode
  package var version: Version
  /// What happened and what to do.
  package var message: String

  package init(_ code: RefusalCode, version: Version = 0, _ message: String) {
    self.code = code
    self.version = version
    self.message = message
  }
}

extension Refusal {
  func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: code.rawValue)
    bytes.append(littleEndian: UInt16(0))
    bytes.append(littleEndian: version)
    var text = message[...]
    while text.utf8.count > ProtocolLimits.maximumMessageTextBytes { text.removeLast() }
    bytes.append(littleEndian: UInt16(text.utf8.count))
    bytes.append(contentsOf: text.utf8)
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    code = RefusalCode(rawValue: try reader.read(UInt16.self, from: bytes))
    guard try reader.read(UInt16.self, from: bytes) == 0 else { throw LogFormatError(.notZero, at: 2) }
    version = try reader.read(UInt64.self, from: bytes)
    message = try reader.text(UInt16.self, atMost: ProtocolLimits.maximumMessageTextBytes, from: bytes)
    try reader.end(of: bytes)
  }
}

extension Refusal: CustomStringConvertible {
  package var description: String { message }
}
