// Finds a session stuck: something is due from the hub, the link lives, and nothing comes.
//
// A slow link must not look like a stuck hub. What travels in order tells them apart: a ping goes out behind everything
// that was sent, and its answer comes behind everything that the hub was sending. Once that is back, nothing is on its way
// any more, and the hub is given a fixed time. While it is not back, each byte in flight is given time as well.
//
// Invariants
// - Bytes that arrive, decisions, credit and answers are progress; pings and pongs are not.
// - What the session waits for is named by the error that ends it.

import KVProtocol

struct StallWatch: Sendable {
  /// Moves with everything that the hub owed.
  var progress: UInt64 = 0
  private var seen: UInt64 = 0
  private var seenBytes = 0
  /// When progress was last seen, or work first due.
  private var since: Duration?
  /// The ping that was sent behind everything that is due, and whether it came back.
  var ping: UInt64?
  var hasEcho = false

  /// For how long nothing has moved.
  mutating func look(_ elapsed: Duration, receivedBytes: Int, isDue: Bool) -> Duration {
    let hasMoved =
      progress != seen || receivedBytes - seenBytes >= ProtocolLimits.stallBytes || !isDue || since == nil
    guard hasMoved else { return elapsed - (since ?? elapsed) }
    seen = progress
    seenBytes = receivedBytes
    since = elapsed
    ping = nil
    hasEcho = false
    return .zero
  }
}

extension ReplicaSession {
  /// What the hub owes this side, in words; nil: nothing, and this side may wait as long as it likes.
  var awaited: String? {
    switch phase {
    case .awaitingWelcome: return "its welcome"
    case .open: break
    case .restoring: return restoringThrough.map { "its decision on what was brought back through version \($0)" }
    case .connecting, .checkingDigest, .becomingNewIncarnation, .adopting, .rollingBack, .lapsing, .ended: return nil
    }
    if let first = push.inFlight.first { return "its decision on what was pushed through version \(first.through)" }
    if push.held != nil, push.credit <= 0 { return "credit for the next push" }
    if fence.isAwaitingHub { return "its version" }
    if expectsFeed { return "what it has after version \(pull.receivedThrough)" }
    return nil
  }

  /// Asks for a sign that nothing is on its way any more, and ends the session when there was time enough.
  mutating func checkForStall(_ elapsed: Duration, receivedBytes: Int) {
    let awaited = awaited
    let waited = stall.look(elapsed, receivedBytes: receivedBytes, isDue: awaited != nil)
    guard let awaited, waited >= configuration.heartbeatInterval else { return }
    // Before the welcome the hub takes nothing but the hello.
    if case .awaitingWelcome = phase {} else if stall.ping == nil { stall.ping = ping() }
    let onItsWay = push.inFlight.reduce(0) { $0 + $1.chargedBytes }
    let limit =
      configuration.stallLimit
      + (stall.hasEcho ? .zero : .seconds(onItsWay / ProtocolLimits.slowestBytesPerSecond))
    guard waited >= limit else { return }
    end(
      ReplicatorError(
        .stalled,
        "the hub answers, but in \(waited.components.seconds) s there was nothing of \(awaited). It is connected to anew."
      ))
  }
}
