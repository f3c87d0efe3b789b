// Where a hub is and which of its spaces is meant, as one URL.

import KVProtocol

/// `kvsyncs://HOST:PORT/SPACE`: a hub's address and a space on it, reached with TLS; without it: `kvsync://…`.
public struct HubAddress: Sendable, Hashable, CustomStringConvertible {
  /// The name or the address of the host; an IPv6 address without brackets.
  public var host: String
  /// The TCP port, 1 to 65,535.
  public var port: Int
  /// The name of the space: 1 to 64 of `a-z 0-9 . _ -`, not beginning with a dot.
  public var space: String
  /// Whether the connection is encrypted and the hub shows a certificate. Without, ``Replicator`` connects to this machine
  /// only, unless ``Replicator/Configuration/allowsInsecure`` says otherwise.
  public var usesTLS: Bool

  /// The port of a URL that names none.
  public static let defaultPort = 7447

  /// The address with these parts, which are not checked before connecting: the hub refuses a name that is none.
  public init(host: String, port: Int = HubAddress.defaultPort, space: String, usesTLS: Bool = false) {
    self.host = host
    self.port = port
    self.space = space
    self.usesTLS = usesTLS
  }

  /// Reads a URL. Throws ``ReplicatorError/Code/invalidAddress`` with the part that is wrong.
  public init(_ text: String) throws(ReplicatorError) {
    func invalid(_ reason: String) -> ReplicatorError {
      ReplicatorError(
        .invalidAddress,
        "\"\(text)\" is no address of a space: \(reason). Write kvsync://HOST:PORT/SPACE, or "
          + "kvsyncs:// for TLS.")
    }
    guard let scheme = [Self.scheme(false), Self.scheme(true)].first(where: text.hasPrefix) else {
      throw invalid("it begins with neither kvsync:// nor kvsyncs://")
    }
    let rest = text.dropFirst(scheme.count)
    guard let slash = rest.firstIndex(of: "/") else { throw invalid("the space is missing") }
    let space = rest[rest.index(after: slash)...]
    guard !space.isEmpty else { throw invalid("the space is missing") }
    guard SpaceName.isValid(String(space)) else { throw invalid(SpaceName.rule) }
    let authority = rest[..<slash]
    let host: Substring
    var port: Substring?
    if authority.hasPrefix("[") {
      guard let bracket = authority.firstIndex(of: "]") else { throw invalid("the \"]\" of the host is missing") }
      host = authority[authority.index(after: authority.startIndex)..<bracket]
      let tail = authority[authority.index(after: bracket)...]
      guard tail.isEmpty || tail.hasPrefix(":") else { throw invalid("the host is followed by \"\(tail)\"") }
      if !tail.isEmpty { port = tail.dropFirst() }
    } else if let colon = authority.lastIndex(of: ":") {
      host = authority[..<colon]
      port = authority[authority.index(after: colon)...]
      guard !host.contains(":") else { throw invalid("an IPv6 address goes in brackets") }
    } else {
      host = authority
    }
    guard !host.isEmpty else { throw invalid("the host is missing") }
    guard !host.contains(where: { $0 == "@" || $0 == "[" || $0 == "]" || $0.isWhitespace }) else {
      throw invalid("\"\(host)\" is not the name or address of a host")
    }
    var number = HubAddress.defaultPort
    if let port {
      guard let value = Int(port), (1...65_535).contains(value) else { throw invalid("a port is 1 to 65535") }
      number = value
    }
    self.init(host: String(host), port: number, space: String(space), usesTLS: scheme == Self.scheme(true))
  }

  private static func scheme(_ usesTLS: Bool) -> String { usesTLS ? "kvsyncs://" : "kvsync://" }

  /// The URL; ``init(_:)`` reads it.
  public var description: String {
    "\(Self.scheme(usesTLS))\(host.contains(":") ? "[\(host)]" : host):\(port)/\(space)"
  }
}
