// A replica's session by itself, told by a script what the hub says and what the store answers.

import KVLog
import KVProtocol
import Testing

@testable import KVReplicator
@testable import KVStore

/// A session and the answers of its store; what it sends is collected.
struct SessionScript {
  var store = ModelStore(identity: Identity(high: 1, low: 1))
  let epoch = Identity(high: 9, low: 9)
  var session: ReplicaSession
  var sent: [Message] = []
  var work: [ReplicaSession.Action] = []
  var ending: ReplicatorError??
  private var unsent = 0
  /// The space was new to the store.
  private var isBound = false
  /// Whether the socket takes everything at once.
  var socketTakesAll = true

  init(
    mode: SessionMode = [.push, .pull], isLive: Bool = false, windowBytes: Int = 1 << 20, segmentBytes: Int = 1,
    _ prepare: (inout ModelStore) -> Void = { _ in }
  ) {
    prepare(&store)
    var configuration = ReplicaSession.Configuration(space: "space", mode: mode, isLive: isLive)
    configuration.windowBytes = windowBytes
    configuration.segmentBytes = segmentBytes
    session = ReplicaSession(configuration, state: store.replicaState)
    tell(.connected)
  }

  mutating func tell(_ event: ReplicaSession.Event) {
    for action in session.handle(event) {
      switch action {
      case .send(let message):
        sent.append(message)
        if socketTakesAll, case .push(let push) = message { unsent += push.chargedBytes }
      case .end(let error): ending = .some(error)
      case .establish, .notify, .beginAgain, .fail: break
      case .rollBack(let cursor, let space, let shipped, _, _) where store.state.hubEpoch == .zero:
        store.follow(cursor, in: space, shipped: shipped)
        isBound = true
      default: work.append(action)
      }
    }
    if isBound {
      isBound = false
      tell(.rolledBack(store.replicaState))
    }
    if unsent > 0 {
      let bytes = unsent
      unsent = 0
      tell(.pushSent(bytes: bytes))
    }
  }

  var welcome: Welcome {
    Welcome(
      space: epoch, head: .start(of: epoch), lastApplied: 0, appliedDigest: .origin(of: store.identity),
      common: .start(of: epoch), unconfirmed: [], retentionFloor: 0)
  }

  /// Answers reads of the log until none is asked for, or so many.
  mutating func answerReads(_ limit: Int = .max) {
    var count = 0
    while count < limit, let index = work.firstIndex(where: { if case .readPush = $0 { true } else { false } }) {
      guard case .readPush(let after, let maximumBytes) = work.remove(at: index) else { return }
      count += 1
      let state = store.replicaState
      tell(.pushRead(store.nextPush(after: after, maximumBytes: maximumBytes), state: state))
    }
  }

  /// Records the decision that is to be recorded.
  mutating func record() throws {
    let index = try #require(work.firstIndex { if case .acknowledge = $0 { true } else { false } })
    guard case .acknowledge(let decision, let epoch) = work.remove(at: index) else { return }
    let (outcome, _) = try store.acknowledge(
      decision.acknowledgement, digest: decision.digest, localChanges: decision.localChanges, epoch: epoch,
      isUnproven: decision.isUnproven)
    tell(.acknowledged(outcome, state: store.replicaState))
  }

  var pushes: [Push] { sent.compactMap { if case .push(let push) = $0 { push } else { nil } } }
  var code: ReplicatorError.Code? { (ending ?? nil)?.code }
  var saysGoodbye: Bool { sent.last == .goodbye }
}

extension SessionScript {
  /// So many commits, of a key each.
  static func write(_ count: Int) -> (inout ModelStore) -> Void {
    { store in
      for number in 0..<count { store.write([ModelStore.Change(key: [UInt8(number)], value: [1])], clock: 1) }
    }
  }

  static func feed(after: Version, through: Version, records: [UInt8] = [], changes: Int = 0) -> Message {
    .feed(
      Feed(
        segment: CommitSegment(after: after, through: through, digest: .zero, records: records, changeCount: changes),
        head: through))
  }
}
