// Those who listen to a replicator: each has a place of its own where what it has not heard is put together.
//
// Invariants
// - A listener that does not come costs one event of each kind, or nothing but a mark that there is news.
// - Nobody waits for a listener.
// - A listener that goes is forgotten. When the replicator goes, or its store is closed, each hears what is left and
//   then the end.

import Synchronization

/// A place where news waits for one listener.
final class Mailbox: Sendable {
  private let pending = Mutex(PendingEvents())
  private let signal: AsyncStream<Void>
  private let signalEnd: AsyncStream<Void>.Continuation

  init() {
    (signal, signalEnd) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  func put(_ event: ReplicatorEvent) {
    pending.withLock { $0.add(event) }
    signalEnd.yield()
  }

  /// There is news, though no event.
  func knock() { signalEnd.yield() }

  func end() { signalEnd.finish() }

  func take() -> ReplicatorEvent? { pending.withLock { $0.take() } }

  func signals() -> AsyncStream<Void>.Iterator { signal.makeAsyncIterator() }
}

final class Listeners: Sendable {
  private struct Contents {
    var forEvents: [UInt64: Mailbox] = [:]
    var forStatus: [UInt64: Mailbox] = [:]
    var next: UInt64 = 0
    var hasEnded = false

    var all: [Mailbox] { Array(forEvents.values) + Array(forStatus.values) }
  }

  private let contents = Mutex(Contents())

  var count: Int { contents.withLock { $0.forEvents.count + $0.forStatus.count } }
  var isEmpty: Bool { count == 0 }

  /// Adds a listener, which is forgotten when the subscription goes.
  func subscribe(toEvents: Bool) -> Subscription {
    let mailbox = Mailbox()
    let number = contents.withLock { contents in
      contents.next += 1
      if contents.hasEnded { mailbox.end() }
      if toEvents { contents.forEvents[contents.next] = mailbox } else { contents.forStatus[contents.next] = mailbox }
      return contents.next
    }
    return Subscription(mailbox, self, number)
  }

  fileprivate func forget(_ number: UInt64) {
    contents.withLock { contents in
      contents.forEvents[number] = nil
      contents.forStatus[number] = nil
    }
  }

  /// An event, which also changes the status.
  func tell(_ event: ReplicatorEvent) {
    contents.withLock { contents in
      for mailbox in contents.forEvents.values { mailbox.put(event) }
      for mailbox in contents.forStatus.values { mailbox.knock() }
    }
  }

  /// The status has changed.
  func knock() {
    contents.withLock { contents in
      for mailbox in contents.forStatus.values { mailbox.knock() }
    }
  }

  func end() {
    contents.withLock { contents in
      contents.hasEnded = true
      for mailbox in contents.all { mailbox.end() }
    }
  }
}

final class Subscription: Sendable {
  let mailbox: Mailbox
  private let listeners: Listeners
  private let number: UInt64

  init(_ mailbox: Mailbox, _ listeners: Listeners, _ number: UInt64) {
    self.mailbox = mailbox
    self.listeners = listeners
    self.number = number
  }

  deinit { listeners.forget(number) }
}
