// What a replica's session makes of the hub's welcome, before it does anything else.

import KVLog
import KVProtocol
import Testing

@testable import KVReplicator
@testable import KVStore

@Suite struct HandshakeTests {
  @Test("Each way in which a hub and a replica cannot go together ends the session with the error that names it")
  func mismatches() {
    func code(
      _ prepare: @escaping (inout ModelStore) -> Void = { _ in }, _ change: (inout Welcome, ModelStore) -> Void
    ) -> ReplicatorError.Code? {
      var script = SessionScript(prepare)
      var welcome = script.welcome
      change(&welcome, script.store)
      script.tell(.received(.welcome(welcome)))
      return script.code
    }
    let shipped: (inout ModelStore) -> Void = { store in
      SessionScript.write(3)(&store)
      _ = try! store.acknowledge(
        Acknowledgement(through: 2, exceptions: [], head: 2), digest: store.digest(at: 2)!, localChanges: 2,
        epoch: Identity(high: 9, low: 9))
      store.state.cursor = 2
    }
    func resume(_ welcome: inout Welcome, _ store: ModelStore) {
      welcome.head.version = 2
      welcome.lastApplied = 2
      welcome.appliedDigest = store.digest(at: 2)!
      welcome.common.version = 2
    }
    #expect(code(shipped) { resume(&$0, $1) } == nil)
    #expect(code { welcome, _ in welcome.protocolVersion = 9 } == .unsupported)
    #expect(code { welcome, _ in welcome.codec = 1 } == .unsupported)
    #expect(
      code(shipped) {
        resume(&$0, $1); $0.common.version = 3
      } == .protocolViolation)
    #expect(code { welcome, _ in welcome.credit = 0 } == .protocolViolation)
  }

  @Test("What the hub's answer shows of a copy, or of a hub that was restored, is mended before anything else")
  func mending() {
    let epoch = Identity(high: 9, low: 9)
    func first(_ change: (inout Welcome) -> Void) -> ReplicaSession.Action? {
      var script = SessionScript { store in
        SessionScript.write(3)(&store)
        _ = try! store.acknowledge(
          Acknowledgement(through: 2, exceptions: [], head: 2), digest: store.digest(at: 2)!, localChanges: 2,
          epoch: epoch)
        store.state.cursor = 2
        store.state.hubSpace = epoch
      }
      var welcome = script.welcome
      welcome.head.version = 2
      welcome.head.identity = epoch
      welcome.common = Position(identity: epoch, version: 2, digest: .zero)
      welcome.lastApplied = 2
      welcome.appliedDigest = script.store.digest(at: 2)!
      change(&welcome)
      script.tell(.received(.welcome(welcome)))
      return script.work.first
    }
    func isNewIncarnation(_ action: ReplicaSession.Action?) -> Bool {
      if case .becomeNewIncarnation = action { true } else { false }
    }
    #expect(isNewIncarnation(first { $0.appliedDigest = Digest(high: 6, low: 6) }))
    #expect(isNewIncarnation(first { $0.lastApplied = 4 }))
    let proof = first { welcome in
      welcome.appliedDigest = .zero
      welcome.appliedKind = .commit
    }
    if case .readDigest(let claim) = proof, claim.version == 2, claim.kind == .commit {
    } else {
      Issue.record("one commit of it is not looked at")
    }
    // What it left out for a commit that is not here it would never get. Of what this store has heard, it heard with that.
    #expect(!isNewIncarnation(first { $0.horizon = Horizon(version: 4, digest: .zero) }))
    #expect(
      isNewIncarnation(
        first { welcome in
          welcome.lastApplied = 3
          welcome.horizon = Horizon(version: 4, digest: .zero)
        }))
    for change in [{ $0.lastApplied = 1 }, { $0.common.version = 1 }] as [(inout Welcome) -> Void] {
      if case .readDigest = first(change) {} else { Issue.record("a hub that lacks something was not looked at") }
    }
    let other = Identity(high: 3, low: 3)
    let moved = first { welcome in
      welcome.head.identity = other
      welcome.common = Position(identity: other, version: 2, digest: .zero)
    }
    guard case .rollBack(let cursor, epoch, 2, _, _) = moved else {
      Issue.record("a new epoch is not followed")
      return
    }
    #expect(cursor.identity == other && cursor.version == 2)
  }

  @Test(
    "A store that has not heard of what it once confirmed was put back, unless others brought that to the hub",
    arguments: [0, 2, 3] as [Version])
  func confirmed(through version: Version) throws {
    for kind in [ReplicaProgress.DigestKind.log, .commit] {
      var script = SessionScript(SessionScript.write(3))
      var welcome = script.welcome
      welcome.head.version = 3
      welcome.lastApplied = 3
      welcome.appliedDigest = script.store.digest(at: 3)!
      welcome.appliedKind = kind
      welcome.confirmed = version
      script.tell(.received(.welcome(welcome)))
      let isPutBack = if case .becomeNewIncarnation = script.work.first { true } else { false }
      #expect(isPutBack == (version > 0 && kind == .log))
    }
  }

  @Test("A hub that has decided more than it told is believed only if its digest is that of the log")
  func lostAcknowledgement() throws {
    for isSame in [true, false] {
      var script = SessionScript(SessionScript.write(3))
      var welcome = script.welcome
      welcome.head.version = 2
      welcome.lastApplied = 2
      welcome.appliedDigest = isSame ? script.store.digest(at: 2)! : Digest(high: 6, low: 6)
      script.tell(.received(.welcome(welcome)))
      guard case .readDigest(let claim) = script.work.removeFirst(), claim == .init(welcome, shipped: 0) else {
        throw Simulation.Failure("no digest is read")
      }
      // What the hub feeds meanwhile waits.
      script.tell(.received(SessionScript.feed(after: 0, through: 2)))
      #expect(script.work.isEmpty)
      script.tell(
        .digest(
          .init(log: script.store.digest(at: 2)!, isAsClaimed: isSame), localChanges: 2, localBytes: 0
        ))
      guard isSame else {
        guard case .becomeNewIncarnation = script.work.first else { throw Simulation.Failure("it goes on as it was") }
        continue
      }
      guard case .acknowledge = script.work.first else {
        throw Simulation.Failure("the decision is not recorded first")
      }
      try script.record()
      script.answerReads()
      #expect(script.pushes.map(\.segment.after) == [2])
    }
  }

  @Test("A store that has only pushed greets with the start of the hub's history")
  func cursorOfPushOnly() throws {
    let script = SessionScript { store in
      SessionScript.write(1)(&store)
      _ = try! store.acknowledge(
        Acknowledgement(through: 1, exceptions: [], head: 1), digest: store.digest(at: 1)!, localChanges: 1,
        epoch: Identity(high: 9, low: 9))
    }
    guard case .hello(let hello)? = script.sent.first else { throw Simulation.Failure("no hello") }
    #expect(hello.cursor == .start(of: Identity(high: 9, low: 9)))
    #expect(hello.shipped.version == 1)
  }
}
