// From the errors of the libraries to failures: which status each of them ends the process with.

import KVHub
import KVLog
import KVReplicator
import KVStore

extension Failure {
  init(_ error: any Error) {
    switch error {
    case let error as Failure: self = error
    case let error as StoreError:
      self.init(
        Self.status(error.code), error.description,
        remedy: error.code == .foreign ? ForeignDirectory.remedy(at: error.path) : "")
    case let error as LogError: self.init(error)
    case let error as ReplicatorError:
      self.init(
        Self.status(error.code), error.message,
        remedy: Self.remedy(error.code))
    case let error as HubError: self.init(Self.status(error.code), error.message)
    default: self.init(.failed, "\(error)")
    }
  }

  /// A directory that is not a store counts as "no store there"; a key that cannot be is a wrong argument.
  private static func status(_ code: StoreError.Code) -> ExitStatus {
    switch code {
    case .noStore, .foreign: .noStore
    case .inUse: .inUse
    case .notAllowed, .readOnly: .notAllowed
    case .corrupt: .corrupt
    case .full: .full
    case .keyEmpty, .keyTooLong, .valueTooLong, .commitTooLarge: .usage
    case .conditionFailed, .noSuchEntry, .tooManyScopes, .exists, .newerFormat, .poisoned, .closed, .expired,
      .tooManyReads,
      .replication,
      .system:
      .failed
    }
  }

  /// What trying again later can help is "hub unreachable".
  private static func status(_ code: ReplicatorError.Code) -> ExitStatus {
    switch code {
    case .unreachable, .unavailable, .stalled: .hubUnreachable
    case .hubFull: .full
    case .hubCorrupt: .corrupt
    case .invalidAddress, .invalidSpace, .certificate: .usage
    case .notAuthorized, .untrustedHub, .insecure: .notAllowed
    case .differentHub: .differentHub
    case .unknownSpace, .unsupported, .hubRestored, .replicaRestored,
      .protocolViolation, .paused, .storeFailed:
      .failed
    }
  }

  private static func remedy(_ code: ReplicatorError.Code) -> String {
    switch code {
    case .protocolViolation: "Check that the address is that of a kvsync hub of this release."
    case .differentHub:
      "kvsync sync --adopt goes over to this space for good, and offers it everything that the store holds."
    default: ""
    }
  }

  private static func status(_ code: HubError.Code) -> ExitStatus {
    switch code {
    case .portInUse: .inUse
    case .notAllowed, .insecure: .notAllowed
    case .certificate, .invalidToken: .usage
    case .cannotListen, .notStartable: .failed
    }
  }

  private init(_ error: LogError) {
    let status: ExitStatus =
      switch error.kind {
      case .corrupt: .corrupt
      case .foreign, .wrongStore: .noStore
      case .full: .full
      default: .failed
      }
    self.init(status, error.description)
  }

  static func absent(_ key: [UInt8], in store: String) -> Failure {
    var name = Output()
    name.appendEscaped(key)
    return Failure(
      .failed, "no key \"\(String(decoding: name.bytes, as: UTF8.self))\" in \(store)",
      remedy: "kvsync ls \(store) lists the keys.")
  }
}

extension Receipt {
  /// One JSON line: the version the write got, and how many changes it has. It is durable.
  func print() throws {
    var line = Output()
    line.beginObject()
    line.member("version", version)
    line.member("changes", changes)
    line.endObject()
    try line.flushToWhoeverReads()
  }
}
