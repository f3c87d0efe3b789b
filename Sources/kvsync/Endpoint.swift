// Where a hub listens: HOST:PORT.

import ArgumentParser

/// A host and a port. An IPv6 address stands in brackets: `[::1]:7447`.
struct Endpoint: Equatable, CustomStringConvertible {
  let host: String
  let port: Int

  /// Says which part is wrong.
  init(_ text: String) throws {
    func invalid(_ reason: String) -> ValidationError {
      ValidationError("\(reason). Write HOST:PORT, such as 127.0.0.1:7447 or [::1]:7447.")
    }
    guard let colon = text.lastIndex(of: ":") else { throw invalid("the port is missing") }
    guard let port = UInt16(text[text.index(after: colon)...]) else { throw invalid("a port is 0 to 65535") }
    var host = text[..<colon]
    if host.first == "[", host.last == "]" {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      throw invalid("an IPv6 address goes in brackets")
    }
    guard !host.isEmpty else { throw invalid("the host is missing; 0.0.0.0 stands for all addresses") }
    guard host != "*" else { throw invalid("\"*\" is no host; 0.0.0.0 stands for all addresses") }
    guard !host.contains(where: { $0 == "/" || $0 == "@" || $0 == "[" || $0 == "]" || $0.isWhitespace }) else {
      throw invalid("\"\(host)\" is not the name or address of a host")
    }
    self.host = String(host)
    self.port = Int(port)
  }

  init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
