// What the other side sends, as an asynchronous sequence.

import NIOCore

package import KVProtocol

/// The messages of a connection. Ends without an error when the other side closed between two messages; throws a
/// `TransportError` otherwise. It has one iterator; a reader that pauses stops the socket.
package struct InboundMessages: AsyncSequence, Sendable {
  package typealias Element = Message

  let base: InboundProducer

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(base: base.makeAsyncIterator())
  }

  package struct AsyncIterator: AsyncIteratorProtocol {
    var base: InboundProducer.AsyncIterator

    package mutating func next() async throws -> Message? {
      // NIO's iterator may run elsewhere than its caller, who waits for it and so has it to itself all the same.
      nonisolated(unsafe) let base = base
      do {
        return try await unsafe base.next()
      } catch is CancellationError {
        throw TransportError.cancelled
      }
    }
  }
}
