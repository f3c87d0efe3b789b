// The session's half that takes pushes in and has them admitted.

import KVLog
import KVProtocol

/// Pushes between the socket and the storage.
struct InboundPushes: Sendable {
  /// Bytes the replica may still send; a push may overdraw it.
  var credit = 0
  /// What the credit is when nothing is on its way.
  var window = 0
  /// Half of the window or more has been on its way at once.
  var isWindowUsed = false
  /// Received without a gap through this version of the replica.
  var receivedThrough: Version = 0
  /// Acknowledged on this connection through this version.
  var acknowledgedThrough: Version = 0
  /// The replica has recorded exceptions through this version.
  var confirmed: Version = 0
  /// Bytes of exceptions it has not confirmed, by version.
  var unconfirmed: [(version: Version, bytes: Int)] = []
  var unconfirmedBytes = 0
  var waiting: [Push] = []
  /// The keys that the replica had when it read those pushes, by the pages it had applied.
  var coverages: [(pages: UInt32, coverage: Coverage)] = []
  /// What is being admitted: where it ends and the credit it used.
  var admission: (through: Version, chargedBytes: Int)?

  var isAdmitting: Bool { admission != nil }

  init() {}

  init(credit: Int, decidedThrough: Version, confirmed: Version, unconfirmed: [CommitException]) {
    self.credit = credit
    window = credit
    receivedThrough = decidedThrough
    acknowledgedThrough = decidedThrough
    self.confirmed = confirmed
    note(unconfirmed)
  }

  mutating func note(_ exceptions: [CommitException]) {
    for exception in exceptions {
      let bytes = exception.encodedByteCount
      unconfirmed.append((exception.version, bytes))
      unconfirmedBytes += bytes
    }
  }

  mutating func confirm(through version: Version) {
    confirmed = max(confirmed, version)
    let count = unconfirmed.prefix { $0.version <= confirmed }.count
    unconfirmedBytes -= unconfirmed[..<count].reduce(0) { $0 + $1.bytes }
    unconfirmed.removeFirst(count)
  }

  /// Pushes come in the order in which pages were applied.
  mutating func coverage(at pages: UInt32) -> Coverage {
    coverages.removeAll { $0.pages < pages }
    return coverages.first?.coverage ?? .none
  }

  /// Takes the pushes that are admitted next: as many of those waiting as have the same cursor and follow one another,
  /// up to `ProtocolLimits.admissionBytes`, as one run.
  mutating func takeNext() -> (push: Push, chargedBytes: Int)? {
    guard var run = waiting.first else { return nil }
    var charged = run.chargedBytes
    var count = 1
    for next in waiting.dropFirst() {
      guard next.cursor == run.cursor, next.pages == run.pages, next.segment.after == run.segment.through,
        run.segment.records.count + next.segment.records.count <= ProtocolLimits.admissionBytes
      else { break }
      run.segment.records.append(contentsOf: next.segment.records)
      run.segment.changeCount += next.segment.changeCount
      run.segment.through = next.segment.through
      run.segment.digest = next.segment.digest
      if next.horizon.version > run.horizon.version { run.horizon = next.horizon }
      charged += next.chargedBytes
      count += 1
    }
    waiting.removeFirst(count)
    return (run, charged)
  }
}

extension HubSession {
  mutating func receive(_ push: Push) {
    guard inbound.credit > 0 else { return reject(.violation("a push came without credit")) }
    guard push.cursor <= head else {
      return reject(.violation("a push claims to know version \(push.cursor) of a space that ends at \(head)"))
    }
    guard push.segment.after <= inbound.receivedThrough else {
      let expected = inbound.receivedThrough
      return refuse(
        Refusal(
          .gap, version: expected,
          "a push begins after version \(push.segment.after), and the hub expects what follows \(expected)"))
    }
    do throws(ProtocolError) { try push.segment.check(pushedBy: replica) } catch { return reject(error) }
    guard let coverage = outbound.coverage.applied(push.pages) else {
      return reject(.violation("a push claims that more pages were applied than were sent"))
    }
    if inbound.coverages.last?.pages != push.pages { inbound.coverages.append((push.pages, coverage)) }
    inbound.credit -= push.chargedBytes
    if inbound.credit <= inbound.window / 2 { inbound.isWindowUsed = true }
    inbound.receivedThrough = max(inbound.receivedThrough, push.segment.through)
    inbound.confirm(through: min(push.confirmed, inbound.acknowledgedThrough))
    guard inbound.unconfirmedBytes <= ProtocolLimits.maximumUnconfirmedBytes else {
      return reject(.violation("too many exceptions are unconfirmed"))
    }
    inbound.waiting.append(push)
    admitNext()
  }

  /// By how much the window should grow: it doubles each time that the replica has made use of it.
  package var windowWish: Int {
    guard case .open = phase, inbound.isWindowUsed else { return 0 }
    return max(0, min(inbound.window, configuration.maximumWindowBytes - inbound.window))
  }

  mutating func windowGrew(_ bytes: Int) {
    guard case .open = phase else { return }
    inbound.isWindowUsed = false
    guard bytes > 0 else { return }
    inbound.window += bytes
    inbound.credit += bytes
    actions.append(.send(.credit(bytes)))
  }

  /// Nothing that was received is undecided.
  package var hasDecidedAll: Bool { inbound.waiting.isEmpty && !inbound.isAdmitting }

  /// Begins the next admission if none is under way.
  mutating func admitNext() {
    guard !inbound.isAdmitting, mayBegin, let (push, charged) = inbound.takeNext() else { return }
    inbound.admission = (push.segment.through, charged)
    var segment = PushSegment(push)
    segment.coverage = inbound.coverage(at: push.pages)
    segment.formerFloor = outbound.floor
    actions.append(.admit(segment, replica: replica, confirmed: inbound.confirmed))
  }

  mutating func admitted(_ acknowledgement: Acknowledgement) {
    guard let admission = inbound.admission else { return }
    inbound.admission = nil
    head = max(head, acknowledgement.head)
    // Another connection of the replica may have brought more; this one answers for what it was sent, and does not
    // repeat what it has told.
    let through = min(acknowledgement.through, admission.through)
    let news = acknowledgement.exceptions.filter { exception in
      exception.version > inbound.acknowledgedThrough && exception.version <= through
    }
    inbound.acknowledgedThrough = max(inbound.acknowledgedThrough, through)
    inbound.note(news)
    inbound.credit += admission.chargedBytes
    var answer = acknowledgement
    answer.through = inbound.acknowledgedThrough
    answer.exceptions = news
    actions.append(.send(.acknowledgement(answer)))
    actions.append(.send(.credit(admission.chargedBytes)))
    guard mayBegin else { return sayGoodbye() }
    // What was read during the admission goes before the next one, for which it would have to wait again.
    releaseHeldFeed()
    admitNext()
    pumpFeed()
  }
}

extension CommitException {
  /// What it takes in a message.
  var encodedByteCount: Int {
    switch reason {
    case .stale: 17
    case .refused(_, let message): 13 + message.utf8.count
    }
  }
}
