// The one thread that writes. Requests that wait while a group is being made durable form the next group and share
// its fdatasync.
//
// Invariants
// - Requests run in the order in which they were submitted, each at most once, and each is completed exactly once.
// - A request completes after its group is durable and visible, or with the error that kept it from being so.

import Foundation
import KVLog
import LMDB
import Synchronization

/// A write that waits for its turn.
protocol PendingWrite: AnyObject, Sendable {
  /// Does the work on the writer thread.
  func run(_ group: GroupWriter) throws
  /// Tells the submitter; nil for success.
  func complete(_ error: (any Error)?)
}

/// A request whose closure gives a result.
final class Request<Result>: PendingWrite, @unchecked Sendable {
  // Sound to send: `work` and `result` are touched by the writer thread only once the request is submitted, except
  // when it is not accepted: then by the submitter only.
  private var work: ((GroupWriter) throws -> Result)?
  private let completion: (Swift.Result<Result, any Error>) -> Void
  private var result: Result?

  init(
    _ work: @escaping @Sendable (GroupWriter) throws -> Result,
    completion: @escaping @Sendable (Swift.Result<Result, any Error>) -> Void
  ) {
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

final class WriterThread: Sendable {
  private struct Queue {
    var waiting: [any PendingWrite] = []
    var isClosing = false
    var hasEnded = false
  }

  private let queue = Monitor(Queue())
  private let thread = Atomic<UInt>(0)

  /// Whether the caller runs on this thread: it must not wait for it then.
  var isCurrent: Bool { thread.load(ordering: .relaxed) == currentThread() }

  func start(_ core: StoreCore) {
    Handoff(core).start(threadNamed: "kvsync.writer") { [queue, self] core in
      thread.store(currentThread(), ordering: .relaxed)
      WriterThread.run(queue, GroupWriter(core))
    } ended: { [queue] in
      queue.update { $0.hasEnded = true }
    }
  }

  func submit(_ request: any PendingWrite) {
    let accepted = queue.update { queue in
      if !queue.isClosing { queue.waiting.append(request) }
      return !queue.isClosing
    }
    if !accepted { request.complete(StoreError.closed) }
  }

  /// Lets what waits finish, then ends the thread.
  func stop() {
    queue.update { $0.isClosing = true }
    queue.wait { queue, _ in queue.hasEnded ? () : nil }
  }

  private static func run(_ queue: Monitor<Queue>, _ group: GroupWriter) {
    while true {
      let batch: [any PendingWrite]? = queue.wait { queue, _ in
        if queue.waiting.isEmpty { return queue.isClosing ? .some(nil) : nil }
        defer { queue.waiting = [] }
        return queue.waiting
      }
      guard let batch else { return }
      var next = batch.startIndex
      while next < batch.endIndex { next = commit(batch, from: next, group) }
    }
  }

  /// Commits one group; returns where the next begins.
  private static func commit(_ batch: [any PendingWrite], from start: Int, _ group: GroupWriter) -> Int {
    if let failure = group.core.publication.failure {
      for request in batch[start...] { request.complete(failure) }
      return batch.endIndex
    }
    do {
      try group.begin()
    } catch {
      group.abandon()
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
    do {
      try group.finish()
      for request in done { request.complete(nil) }
    } catch {
      let published = StoreError.published(error, path: group.core.path)
      for request in done { request.complete(published) }
    }
    return next
  }
}

extension StoreError {
  static let closed = StoreError(.closed, "the store is closed. Open it again.")
}
