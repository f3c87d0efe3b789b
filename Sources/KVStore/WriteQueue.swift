// Who writes: one thread at a time in this process, for everybody who waits. Requests that wait while a group is being made
// durable form the next group and share its fdatasync.
//
// Invariants
// - Requests run in the order in which they were submitted, each at most once, and each is completed exactly once.
// - A request completes after its group is visible, and durable if it asked for that, or with the error that kept it from
//   being so.
// - A caller that blocks anyway writes its own group when nobody else is writing; whatever came in meanwhile is left to
//   the queue's thread, so that no caller works for others without end.

import Foundation
import KVLog
import LMDB
import Synchronization

/// A write that waits for its turn.
protocol PendingWrite: AnyObject, Sendable {
  /// Whether it completes only when it is durable.
  var isDurable: Bool { get }
  /// Does the work on the thread that writes.
  func run(_ group: GroupWriter) throws
  /// Tells the submitter; nil for success.
  func complete(_ error: (any Error)?)
}

/// A request whose closure gives a result.
final class Request<Result>: PendingWrite, @unchecked Sendable {
  // Sound to send: `work` and `result` are touched by the thread that writes only once the request is submitted, except
  // when it is not accepted: then by the submitter only.
  let isDurable: Bool
  private var work: ((GroupWriter) throws -> Result)?
  private let completion: (Swift.Result<Result, any Error>) -> Void
  private var result: Result?

  init(
    isDurable: Bool, _ work: @escaping @Sendable (GroupWriter) throws -> Result,
    completion: @escaping @Sendable (Swift.Result<Result, any Error>) -> Void
  ) {
    self.isDurable = isDurable
    self.work = work
    self.completion = completion
  }

  func run(_ group: GroupWriter) throws { result = try work?(group) }

  func complete(_ error: (any Error)?) {
    // What the closure holds goes before the submitter goes on, and not at some time after.
    work = nil
    if let error {
      completion(.failure(error))
    } else if let result {
      completion(.success(result))
    }
  }
}

final class WriteQueue: Sendable {
  private struct State {
    var waiting: [any PendingWrite] = []
    var isWriting = false
    var isClosing = false
    var hasEnded = false
    /// Used by the thread that writes; nil before the start and after the end.
    var group: GroupWriter?
  }

  /// Sound to send: the group is used by the one thread that writes.
  private let state = Monitor(State())
  private let thread = Atomic<UInt>(0)

  /// Whether the caller is the one who writes: it must not wait for the queue then.
  var isCurrent: Bool { thread.load(ordering: .relaxed) == currentThread() }

  func start(_ core: StoreCore, _ group: GroupWriter) {
    state.withLock { $0.group = group }
    Handoff(core).start(threadNamed: "kvsync.writer") { [self] _ in
      run()
    } ended: { [state] in
      state.update { $0.hasEnded = true }
    }
  }

  /// Leaves the request to the queue's thread.
  func submit(_ request: any PendingWrite) {
    let accepted = state.update { state in
      if !state.isClosing { state.waiting.append(request) }
      return !state.isClosing
    }
    if !accepted { request.complete(StoreError.closed) }
  }

  /// Carries the request out on the calling thread if nobody else is writing; it is complete then when this returns.
  func submitBlocking(_ request: any PendingWrite) {
    let group: GroupWriter? = state.withLock { state in
      guard !state.isClosing, !state.isWriting, state.waiting.isEmpty else { return nil }
      state.isWriting = true
      return state.group
    }
    guard let group else { return submit(request) }
    write([request], group)
    release()
  }

  /// Lets what waits finish, then ends the thread.
  func stop() {
    state.update { $0.isClosing = true }
    let group = state.wait { state, _ -> GroupWriter?? in
      guard state.hasEnded, !state.isWriting else { return nil }
      return .some(state.group.take())
    }
    withExtendedLifetime(group) {}
  }

  private func run() {
    while true {
      let next: (batch: [any PendingWrite], group: GroupWriter)?? = state.wait { state, _ in
        guard !state.isWriting else { return nil }
        guard let group = state.group, !state.waiting.isEmpty else { return state.isClosing ? .some(nil) : nil }
        state.isWriting = true
        defer { state.waiting = [] }
        return (state.waiting, group)
      }
      guard let next = next ?? nil else { return }
      write(next.batch, next.group)
      release()
    }
  }

  private func release() {
    let someoneWaits = state.withLock { state in
      state.isWriting = false
      return !state.waiting.isEmpty || state.isClosing
    }
    // Most writes end with nobody to wake.
    if someoneWaits { state.update { _ in } }
  }

  private func write(_ batch: [any PendingWrite], _ group: GroupWriter) {
    thread.store(currentThread(), ordering: .relaxed)
    defer { thread.store(0, ordering: .relaxed) }
    var next = batch.startIndex
    while next < batch.endIndex { next = commit(batch, from: next, group) }
  }

  /// Commits one group; returns where the next begins.
  private func commit(_ batch: [any PendingWrite], from start: Int, _ group: GroupWriter) -> Int {
    if let failure = group.core.publication.failure {
      for request in batch[start...] { request.complete(failure) }
      return batch.endIndex
    }
    do {
      try group.begin()
    } catch {
      let published = StoreError.published(error, path: group.core.path)
      for request in batch[start...] { request.complete(published) }
      return batch.endIndex
    }
    var done: [any PendingWrite] = []
    var next = start
    while next < batch.endIndex, group.byteCount < StoreLimits.groupBytes, done.count < StoreLimits.groupRequests {
      let request = batch[next]
      next += 1
      do {
        try group.run(request)
        done.append(request)
      } catch {
        request.complete(StoreError.published(error, path: group.core.path))
      }
    }
    var failure: (any Error)?
    do { try group.finish() } catch { failure = StoreError.published(error, path: group.core.path) }
    group.end()
    for request in done { request.complete(failure) }
    return next
  }
}

extension StoreError {
  static let closed = StoreError(.closed, "the store is closed. Open it again.")
}
