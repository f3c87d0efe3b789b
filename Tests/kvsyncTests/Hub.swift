// A hub as a process, for tests of synchronising.

import Foundation
import TestSupport
import Testing

final class Hub: Sendable {
  let process: ChildProcess
  /// HOST:PORT, with the port it really got.
  let address: String
  private let scheme: String

  /// Starts `kvsync serve` and waits for its line.
  init(
    _ place: Workplace, directory: String = "hub", listen: String = "127.0.0.1:0", options: [String] = []
  ) async throws {
    let process = try place.start(["serve", place.file(directory), "--listen", listen] + options)
    self.process = process
    scheme = options.contains("--tls-certificate") ? "kvsyncs" : "kvsync"
    let line = await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        var line: [UInt8] = []
        while line.last != UInt8(ascii: "\n") {
          let some = process.readSome()
          if some.isEmpty { break }
          line += some
        }
        continuation.resume(returning: String(decoding: line, as: UTF8.self))
      }
    }
    let prefix = "listening on "
    try #require(line.hasPrefix(prefix) && line.hasSuffix("\n"), "the hub said \"\(line)\"")
    address = String(line.dropFirst(prefix.count).dropLast())
  }

  func url(_ space: String = "space") -> String { "\(scheme)://\(address)/\(space)" }

  var port: UInt16 { address.split(separator: ":").last.flatMap { UInt16($0) } ?? 0 }

  /// Ends it with a signal; the exit status.
  @discardableResult
  func end(_ signal: Int32 = SIGTERM) async -> Int32 {
    process.kill(signal)
    return await process.wait().status
  }

  /// Sends bytes to the port as somebody who is no replica would, and closes the connection.
  func sendRaw(_ bytes: [UInt8]) async {
    let port = port
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      DispatchQueue.global().async {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = unsafe withUnsafePointer(to: &address) { pointer in
          unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
          }
        }
        if connected == 0 {
          _ = unsafe bytes.withUnsafeBytes {
            unsafe send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
          }
          // Until the hub hangs up, or has had time to.
          var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
          _ = unsafe poll(&wait, 1, 200)
        }
        close(descriptor)
        continuation.resume()
      }
    }
  }
}
