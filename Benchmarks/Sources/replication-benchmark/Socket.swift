// A TCP connection on loopback that blocks: for the Redis client and for the physical limit.

import BenchmarkSupport
import Foundation

final class Socket: Sendable {
  private let descriptor: Int32

  private init(descriptor: Int32) {
    self.descriptor = descriptor
    var on: Int32 = 1
    unsafe setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
  }

  deinit { close(descriptor) }

  static func connect(port: Int) throws -> Socket {
    let socket = Socket(descriptor: try open())
    var address = address(port)
    let answer = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe Foundation.connect(socket.descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard answer == 0 else { throw failure("connect") }
    return socket
  }

  /// Both ends of a new connection.
  static func pair() throws -> (Socket, Socket) {
    let (listener, port) = try listen()
    defer { close(listener) }
    let client = try connect(port: port)
    let accepted = accept(listener, nil, nil)
    guard accepted >= 0 else { throw failure("accept") }
    return (client, Socket(descriptor: accepted))
  }

  /// A port of loopback that nobody uses at this moment.
  static func freePort() throws -> Int {
    let (listener, port) = try listen()
    close(listener)
    return port
  }

  func send(_ bytes: [UInt8]) throws {
    var sent = 0
    while sent < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { buffer in
        let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[sent...])
        return unsafe Foundation.send(descriptor, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { throw Socket.failure("send") }
      sent += count
    }
  }

  /// Fills `bytes` from its start; how many bytes came, none at the end.
  func receive(into bytes: inout [UInt8]) throws -> Int {
    let count = unsafe bytes.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
    guard count >= 0 else { throw Socket.failure("receive") }
    return count
  }

  private static func listen() throws -> (descriptor: Int32, port: Int) {
    let descriptor = try open()
    var address = address(0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isListening = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe bind(descriptor, $0, length) == 0 && Foundation.listen(descriptor, 1) == 0
          && getsockname(descriptor, $0, &length) == 0
      }
    }
    guard isListening else { throw failure("listen") }
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
  }

  private static func open() throws -> Int32 {
    #if os(Linux)
      let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    #else
      let descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    guard descriptor >= 0 else { throw failure("open") }
    return descriptor
  }

  private static func address(_ port: Int) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
  }

  private static func failure(_ what: String) -> BenchmarkError {
    BenchmarkError("cannot \(what) a socket: \(unsafe String(cString: strerror(errno)))")
  }
}
