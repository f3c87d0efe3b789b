// What the other side sends, as an asynchronous sequence.

import NIOCore

package import KVProtocol

/// The messages of a connection. Ends without an error when the other side closed between two messages; throws a
/// `TransportError` otherwise. It has one iterator; a reader that pauses stops the socket. However many have come, other
/// connections of the event loop have their turn in between.
package struct InboundMessages: AsyncSequence, Sendable {
  package typealias Element = Message

  let base: InboundProducer
  let executor: EventLoopExecutor

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(base: base.makeAsyncIterator(), executor: executor)
  }

  package struct AsyncIterator: AsyncIteratorProtocol {
    var base: InboundProducer.AsyncIterator
    let executor: EventLoopExecutor
    /// Messages given since others had their turn.
    private var count = 0

    init(base: InboundProducer.AsyncIterator, executor: EventLoopExecutor) {
      self.base = base
      self.executor = executor
    }

    package mutating func next() async throws -> Message? {
      count += 1
      if count > ProtocolLimits.messagesPerTurn {
        count = 1
        await executor.yield()
      }
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
