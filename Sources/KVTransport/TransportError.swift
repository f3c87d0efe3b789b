// What can go wrong between two sockets.

package import KVProtocol

package enum TransportError: Error, Hashable, Sendable {
  /// Nobody answers at this address, or the name is unknown.
  case unreachable(host: String, port: Int, reason: String)
  case connectTimedOut(host: String, port: Int)
  case addressInUse(host: String, port: Int)
  /// The system does not let this user listen there.
  case listenNotAllowed(host: String, port: Int)
  case cannotListen(host: String, port: Int, reason: String)
  /// Plaintext to an address that others can listen in on.
  case plaintextRefused(host: String, port: Int)
  case plaintextListenRefused(host: String, port: Int)
  /// The two sides do not come to speak TLS; `peer` is where the other one is.
  case tls(TLSFailure, peer: String)
  /// A file of TLS that is of no use.
  case badTLSFile(path: String, reason: String)
  /// The link went away under a session.
  case lost(reason: String)
  /// This side or the other one closed the connection.
  case closed
  /// What came over the link is not the protocol.
  case protocolBroken(ProtocolError)
  /// The calling task was cancelled.
  case cancelled
}

extension TransportError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .unreachable(let host, let port, let reason):
      "cannot reach \(host):\(port): \(reason); check the address and that the hub is running"
    case .connectTimedOut(let host, let port):
      "\(host):\(port) does not answer; check the address, the network and firewalls"
    case .addressInUse(let host, let port):
      "\(host):\(port) is in use by another program; stop it or choose another port"
    case .listenNotAllowed(let host, let port):
      "this user may not listen on \(host):\(port); "
        + (port < 1024 ? "choose a port from 1024 on, or run as a user who may" : "choose another port")
    case .cannotListen(let host, let port, let reason):
      "cannot listen on \(host):\(port): \(reason); listen on an address of this machine, 127.0.0.1 or 0.0.0.0 for all"
    case .plaintextRefused(let host, let port):
      "\(host):\(port) is not this machine, and without TLS others can read and change what is sent; connect with TLS "
        + "(kvsyncs://), or allow an insecure connection"
    case .plaintextListenRefused(let host, let port):
      "other machines can reach \(host):\(port), and without TLS others can read and change what is sent; serve with a "
        + "certificate and its key, listen on 127.0.0.1, or allow insecure connections"
    case .tls(let failure, let peer): "no secure connection with \(peer): \(failure)"
    case .badTLSFile(let path, let reason): "\(path) is of no use for TLS: \(reason)"
    case .lost(let reason): "the connection was lost: \(reason)"
    case .closed: "the connection is closed"
    case .protocolBroken(let error): error.description
    case .cancelled: "cancelled"
    }
  }
}
