// Somebody who speaks to a hub's port as no replica would.

import Foundation
import KVLog
import KVProtocol
import TestSupport

import struct HubTestSupport.TestReplica

/// A socket, used by one thread.
final class HostileClient {
  private let descriptor: Int32
  private(set) var isOpen: Bool

  init(port: UInt16) {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let descriptor = descriptor
    isOpen = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }

  deinit { close(descriptor) }

  func send(_ bytes: [UInt8]) {
    var done = 0
    while isOpen, done < bytes.count {
      let count = unsafe bytes.withUnsafeBytes {
        unsafe Foundation.send(descriptor, $0.baseAddress?.advanced(by: done), bytes.count - done, Int32(MSG_NOSIGNAL))
      }
      if count > 0 { done += count } else { isOpen = false }
    }
  }

  /// Takes what has arrived, or waits for it for so long; nothing is kept but a little.
  @discardableResult
  func receive(milliseconds: Int32) -> [UInt8] {
    var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard isOpen, unsafe poll(&wait, 1, milliseconds) > 0 else { return [] }
    var bytes = [UInt8](repeating: 0, count: 16 << 10)
    let count = unsafe bytes.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
    if count <= 0 { isOpen = false }
    return Array(bytes.prefix(max(0, count)))
  }

  /// Whether the hub hangs up within a time.
  func isHungUp(within seconds: Int) -> Bool {
    let deadline = Date(timeIntervalSinceNow: Double(seconds))
    while isOpen, Date() < deadline { receive(milliseconds: 100) }
    return !isOpen
  }
}

/// Frames that are random, or that were right before something was done to them; their checksums are right all the same,
/// mostly, so that they get further than to the checksum.
struct HostileFrames {
  var random: SeededGenerator
  private var replica = TestReplica()
  private let spaces = ["fuzz-a", "fuzz-b"]

  init(random: SeededGenerator) { self.random = random }

  /// How a connection begins: mostly with a hello that is right.
  mutating func greeting() -> [UInt8] {
    replica = TestReplica()
    for _ in 0..<random.below(6) {
      let changes = (0...random.below(4)).map { _ in
        ("k\(random.below(50))", random.chance(20) ? nil : String(repeating: "v", count: random.below(300)))
      }
      replica.commit(changes)
    }
    if random.chance(3) { return random.bytes(1...600) }
    let modes: [SessionMode] = [.push, .pull, [.push, .pull], .compare, [.push, .pull, .compare]]
    var hello = replica.hello(modes[random.below(modes.count)], space: spaces[random.below(spaces.count)])
    if random.chance(10) { hello.space = String(decoding: random.bytes(0...70), as: UTF8.self) }
    if random.chance(10) { hello.token = random.bytes(0...100) }
    if random.chance(5) { hello.credit = random.below(1 << 20) }
    return frame(Message.hello(hello), damage: 10)
  }

  /// One frame of a session.
  mutating func next() -> [UInt8] {
    switch random.below(10) {
    case 0:
      let kind = MessageKind.allCases[random.below(MessageKind.allCases.count)]
      return framed(kind, random.bytes(0...200))
    case 1: return random.bytes(1...300)
    default: return frame(message(), damage: 40)
    }
  }

  private mutating func message() -> Message {
    let after = Version(random.below(Int(replica.version) + 1))
    switch random.below(8) {
    case 0...2:
      guard replica.version > after else { return .goodbye }
      let through = after + 1 + Version(random.below(Int(replica.version - after)))
      return .push(Push(segment: replica.segment(after: after, through: through), cursor: 0, confirmed: 0))
    case 3: return .credit(random.below(1 << 20))
    case 4: return .rowsRequest(RowsRequest(after: random.bytes(0...20), maximumBytes: random.below(1 << 20)))
    case 5: return .pong(random.next())
    case 6:
      return .acknowledgement(
        Acknowledgement(
          through: random.next(), exceptions: [CommitException(version: after, reason: .stale(hubVersion: 1))], head: 7)
      )
    default: return .ping(random.next())
    }
  }

  private mutating func frame(_ message: Message, damage percent: Int) -> [UInt8] {
    let encoded = message.encoded()
    var payload = encoded.head + encoded.body
    guard random.chance(percent) else { return framed(encoded.kind, payload) }
    for _ in 0...random.below(3) {
      guard !payload.isEmpty else { break }
      let index = random.below(payload.count)
      switch random.below(6) {
      case 0: payload[index] ^= 1 << UInt8(random.below(8))
      case 1: payload.removeLast(random.below(payload.count))
      case 2: payload.insert(contentsOf: random.bytes(1...40), at: index)
      case 3: payload.replaceSubrange(index..<min(index + 8, payload.count), with: [UInt8](repeating: 0xFF, count: 8))
      case 4: payload.replaceSubrange(index..<min(index + 4, payload.count), with: [0, 0, 0, 0x80])
      default: payload.replaceSubrange(index..<payload.count, with: payload[..<index])
      }
    }
    return framed(encoded.kind, payload)
  }

  private mutating func framed(_ kind: MessageKind, _ payload: [UInt8]) -> [UInt8] {
    let payload = Array(payload.prefix(ProtocolLimits.maximumFrameBytes))
    let hasMore = kind.mayBeFragmented && !payload.isEmpty && random.chance(3)
    var bytes = unsafe FrameHeader(kind, hasMore: hasMore, payload: payload.span.bytes).encoded + payload
    if random.chance(3) { bytes[random.below(bytes.count)] ^= UInt8(1 + random.below(255)) }
    return bytes
  }
}
