// How much one pass may cost.

extension Replicator {
  /// What ``Replicator/syncOnce(_:budget:)`` may spend. It then ends where everything that was begun is decided and durable.
  ///
  /// However small the budget, each direction that has something to do comes forward by a commit at least: repeated passes
  /// get everything done.
  public struct Budget: Sendable, Hashable {
    /// Bytes of commits, sent and received together; nil: any number. Exceeded by one message in each direction at most,
    /// of 128 KiB or a single larger commit; handshake, acknowledgements and headers come in addition.
    public var bytes: Int?
    /// Time from the call on; nil: any. What is on its way by then is waited for, and recorded.
    public var duration: Duration?

    /// A budget; without arguments, none.
    public init(bytes: Int? = nil, duration: Duration? = nil) {
      self.bytes = bytes
      self.duration = duration
    }
  }
}
