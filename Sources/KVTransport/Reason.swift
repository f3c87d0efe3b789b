// An error of the network stack, in words for a person.

import NIOCore
import NIOPosix
import NIOSSL

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

extension TransportError {
  /// Why a port could not be bound.
  package init(listeningOn host: String, port: Int, _ error: any Error) {
    self =
      switch (error as? IOError)?.errnoCode {
      case EADDRINUSE: .addressInUse(host: host, port: port)
      case EACCES, EPERM: .listenNotAllowed(host: host, port: port)
      default: .cannotListen(host: host, port: port, reason: Reason.of(error))
      }
  }
}

enum Reason {
  static func of(_ error: any Error) -> String {
    switch error {
    case let error as IOError:
      return text(ofErrno: error.errnoCode)
    case let error as NIOConnectionError:
      if let attempt = error.connectionErrors.last { return of(attempt.error) }
      if error.dnsAError != nil || error.dnsAAAAError != nil { return "the name is unknown" }
      return "no address to connect to"
    case is SocketAddressError.UnknownHost:
      return "the name is unknown"
    case is ChannelError:
      return "the connection was closed"
    case NIOSSLError.uncleanShutdown:
      return "the other side went away"
    default:
      return "\(error)"
    }
  }

  private static func text(ofErrno code: CInt) -> String {
    switch code {
    case ECONNREFUSED: "connection refused"
    case ECONNRESET, EPIPE: "the other side went away"
    case EHOSTUNREACH, ENETUNREACH, ENETDOWN: "no route to the host"
    case ETIMEDOUT: "the other side no longer answers"
    case EACCES, EPERM: "not allowed"
    case EADDRNOTAVAIL: "this machine has no such address"
    case EMFILE, ENFILE: "too many open files"
    default: "system error \(code)"
    }
  }
}
