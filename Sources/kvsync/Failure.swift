// A failure as the user sees it: what happened and where, what to do about it, and the status to exit with.

/// An error that is ready to be shown. The same cause gives the same words each time: no addresses, no times.
struct Failure: Error, Equatable {
  var status: ExitStatus
  /// What happened, and where; one sentence without a full stop.
  var what: String
  /// What the user can do about it; empty when `what` says it all.
  var remedy: String

  init(_ status: ExitStatus, _ what: String, remedy: String = "") {
    self.status = status
    self.what = what
    self.remedy = remedy
  }

  /// As lines for a person.
  func text(command: String) -> String {
    "kvsync \(command): \(what)\n" + (remedy.isEmpty ? "" : "  \(remedy)\n")
  }

  /// As one JSON line for a program.
  func json(command: String) -> [UInt8] {
    var line = Output()
    line.beginObject()
    line.member("error", what)
    if !remedy.isEmpty { line.member("remedy", remedy) }
    line.member("command", command)
    line.member("exitStatus", Int(status.rawValue))
    line.endObject()
    return line.bytes
  }
}

extension Failure {
  /// The failure of a system call on `place`, with the status its number stands for.
  static func system(_ number: Int32, _ what: String) -> Failure {
    let reason = "\(what): \(SystemCall.describe(number))"
    switch number {
    case SystemCall.noSpace, SystemCall.quotaExceeded:
      return Failure(.full, reason, remedy: "Free some space there, then run the command again.")
    case SystemCall.accessDenied, SystemCall.notPermitted, SystemCall.readOnlyFileSystem:
      return Failure(.notAllowed, reason, remedy: "Check the owner and the permissions, or run as a user who may.")
    default:
      return Failure(.failed, reason)
    }
  }
}
