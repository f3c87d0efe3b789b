// Finds the commits of a push that are to be refused: those beyond the hub's limits, and those that the program which
// runs the hub rejects. Before the admission, and away from the event loops.
//
// Invariants:
// - A commit is looked at once for each decision about it: never one that was decided before. A push whose admission did
//   not come about is looked at again when it is sent again.
// - The program's hook runs on a thread of its own, one at a time for each replica: one that is slow, or never returns,
//   holds up its replica and nobody else. When the connection ends, nobody waits for it any more.
// - A hook that throws has decided nothing: the push is not admitted, and the replica tries again later.

import Foundation
import KVLog
import KVProtocol
import NIOPosix
import Synchronization

final class HubValidator: Sendable {
  typealias Hook = @Sendable (borrowing ValidatedCommit) throws -> Rejection?

  private let limits: Hub.Limits
  private let hook: Hook?
  /// Whose commits a hook is looking at.
  private let busy = Mutex<Set<HubRegistry.Member>>([])

  init(_ options: Hub.Options) {
    limits = options.limits
    hook = options.validate
  }

  /// False: nothing is ever refused, and nothing needs to be looked at.
  var isNeeded: Bool { hook != nil || limits != Hub.Limits() }

  /// The refusals of the run's commits after `decided`. Throws ``Refusal`` when the hook failed or has yet to return.
  func refusals(
    in segment: CommitSegment, after decided: Version, of member: HubRegistry.Member, principal: String?
  ) async throws -> [CommitRefusal] {
    guard hook != nil else {
      return try await NIOThreadPool.singleton.runIfActive { [self] in
        try check(segment, after: decided, of: member, principal)
      }
    }
    guard busy.withLock({ $0.insert(member).inserted }) else {
      throw Refusal(.busy, "the hub is still looking at what this replica sent before; try again later")
    }
    let answer = Answer<[CommitRefusal]>()
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        answer.await(continuation)
        Thread.detachNewThread { [self] in
          let result = Result { try check(segment, after: decided, of: member, principal) }
          busy.withLock { _ = $0.remove(member) }
          answer.give(result)
        }
      }
    } onCancel: {
      answer.give(.failure(CancellationError()))
    }
  }

  private func check(
    _ segment: CommitSegment, after decided: Version, of member: HubRegistry.Member, _ principal: String?
  ) throws -> [CommitRefusal] {
    var refusals: [CommitRefusal] = []
    let bytes = unsafe segment.records.span.bytes
    var records = RecordCursor(over: bytes)
    while let record = try records.next(in: bytes) {
      let view = try CommitView(payload: record.payload, in: bytes)
      guard view.header.version > decided else { continue }
      let commit = ValidatedCommit(view, in: bytes, space: member.space, principal: principal)
      guard let rejection = try limits.check(commit, byteCount: view.core.count) ?? ask(commit) else { continue }
      refusals.append(
        CommitRefusal(version: view.header.version, code: rejection.code, message: rejection.message))
    }
    return refusals
  }

  private func ask(_ commit: borrowing ValidatedCommit) throws -> Rejection? {
    guard let hook else { return nil }
    do {
      return try hook(commit)
    } catch {
      throw Refusal(
        .validationFailed, version: commit.version,
        "the hub could not validate commit \(commit.version); nothing was decided, try again later")
    }
  }
}

extension Hub.Limits {
  /// Why a commit goes beyond the limits; nil if it does not.
  fileprivate func check(_ commit: borrowing ValidatedCommit, byteCount: Int) throws -> Rejection? {
    guard byteCount <= commitBytes else {
      return Rejection(
        code: CommitRefusal.commitTooLarge,
        message: "the commit has \(byteCount) bytes, and the hub takes \(commitBytes) at most; split it")
    }
    guard keyBytes < LogLimits.maximumKeyBytes || valueBytes < LogLimits.maximumValueBytes else { return nil }
    var rejection: Rejection?
    try commit.forEachChange { change in
      let valueCount = change.value?.byteCount ?? 0
      if change.key.byteCount > keyBytes {
        rejection = Rejection(
          code: CommitRefusal.keyTooLong,
          message: "a key has \(change.key.byteCount) bytes, and the hub takes \(keyBytes) at most; use a shorter one")
      } else if valueCount > valueBytes {
        rejection = Rejection(
          code: CommitRefusal.valueTooLong,
          message: "a value has \(valueCount) bytes, and the hub takes \(valueBytes) at most; split it")
      }
      return rejection == nil
    }
    return rejection
  }
}

/// Is given one of several answers, the first, to whoever waits.
private final class Answer<Value: Sendable>: Sendable {
  private enum State {
    case open
    case awaited(CheckedContinuation<Value, any Error>)
    case given(Result<Value, any Error>)
    case done
  }

  private let state = Mutex(State.open)

  func await(_ continuation: CheckedContinuation<Value, any Error>) {
    let early: Result<Value, any Error>? = state.withLock { state in
      if case .given(let result) = state {
        state = .done
        return result
      }
      state = .awaited(continuation)
      return nil
    }
    if let early { continuation.resume(with: early) }
  }

  func give(_ result: Result<Value, any Error>) {
    let waiter: CheckedContinuation<Value, any Error>? = state.withLock { state in
      switch state {
      case .open: state = .given(result)
      case .awaited(let continuation):
        state = .done
        return continuation
      case .given, .done: break
      }
      return nil
    }
    waiter?.resume(with: result)
  }
}
