// What a session has to say, on its way to the connection: at once while nothing waits, one after the other when the socket
// is slower than the session.
//
// Invariants:
// - Messages leave in the order in which they are posted; those of several threads, in the order that these agree on among
//   themselves.
// - So many wait at most; who posts more is told that the other side does not read.

import Synchronization

package import KVProtocol

package final class Outbox: Sendable {
  package enum Posted: Sendable {
    /// It is on its way.
    case sent
    /// `run` will send it, and say so.
    case waiting
    /// Too many wait: it will never be sent.
    case dropped
  }

  /// A session keeps far below it with another side that reads.
  static let maximumWaitingMessages = 1_024

  private let connection: Connection
  /// The one that is being sent included.
  private let waitingCount = Atomic(0)
  private let (waiting, end) = AsyncStream<Message>.makeStream(
    bufferingPolicy: .bufferingOldest(maximumWaitingMessages))

  package init(of connection: Connection) {
    self.connection = connection
  }

  /// Takes a message. By one thread at a time; sends at once only on the connection's executor.
  package func post(_ message: Message) -> Posted {
    if waitingCount.load(ordering: .acquiring) == 0, connection.sendAtOnce(message) { return .sent }
    waitingCount.add(1, ordering: .relaxed)
    if case .dropped = end.yield(message) { return .dropped }
    return .waiting
  }

  /// Nothing more is sent than what waits.
  package func finish() { end.finish() }

  /// Sends what waits, and says of each that it is on its way, until `finish` was called and nothing waits any more.
  package func run(_ sent: (Message) -> Void) async throws(TransportError) {
    for await message in waiting {
      try await connection.send(message)
      waitingCount.subtract(1, ordering: .releasing)
      sent(message)
    }
  }
}
