// The two sequences that a replicator gives: of what happens, and of how it stands.

extension Replicator {
  /// What happens, from the moment at which the sequence was asked for. It never queues: of each kind at most one event
  /// waits, into which later ones are merged.
  ///
  /// Each one asked for is a listener of its own, with one iterator. It ends when the store is closed, when the replicator
  /// goes, and when its task is cancelled.
  public struct Events: AsyncSequence, Sendable {
    public typealias Element = ReplicatorEvent
    public typealias Failure = Never

    let subscription: Subscription

    /// The one iterator.
    public func makeAsyncIterator() -> Iterator { Iterator(subscription) }

    /// Goes over what happens.
    public struct Iterator: AsyncIteratorProtocol {
      private let subscription: Subscription
      private var signals: AsyncStream<Void>.Iterator

      init(_ subscription: Subscription) {
        self.subscription = subscription
        signals = subscription.mailbox.signals()
      }

      /// The next event, for which it suspends; nil at the end.
      public mutating func next() async -> ReplicatorEvent? {
        while true {
          if let event = subscription.mailbox.take() { return event }
          if await signals.next(isolation: #isolation) == nil { return subscription.mailbox.take() }
        }
      }
    }
  }

  /// How the replicator stands: first as it is, then each time that something has changed, at most some ten times a
  /// second. A listener that comes late gets the latest only.
  ///
  /// Each one asked for is a listener of its own, with one iterator. It ends as ``Events`` does.
  public struct Statuses: AsyncSequence, Sendable {
    public typealias Element = ReplicatorStatus
    public typealias Failure = Never

    let subscription: Subscription
    let board: StatusBoard

    /// The one iterator.
    public func makeAsyncIterator() -> Iterator { Iterator(subscription, board) }

    /// Goes over how the replicator stands.
    public struct Iterator: AsyncIteratorProtocol {
      private let subscription: Subscription
      private let board: StatusBoard
      private var signals: AsyncStream<Void>.Iterator
      private var hasBegun = false

      init(_ subscription: Subscription, _ board: StatusBoard) {
        self.subscription = subscription
        self.board = board
        signals = subscription.mailbox.signals()
      }

      /// The next status, for which it suspends; nil at the end.
      public mutating func next() async -> ReplicatorStatus? {
        if hasBegun, await signals.next(isolation: #isolation) == nil { return nil }
        hasBegun = true
        return board.status
      }
    }
  }
}
