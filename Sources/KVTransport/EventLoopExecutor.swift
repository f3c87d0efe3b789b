// Runs tasks on the event loop of a connection, so that what they have to say and what they are told crosses no thread.
//
// Each hand-over to a thread that sleeps costs tens of microseconds, and a change that goes live from one store through a
// hub to another one would pass a dozen of them.

import NIOCore

package final class EventLoopExecutor: TaskExecutor {
  private let loop: any EventLoop

  init(_ loop: any EventLoop) {
    self.loop = loop
  }

  /// Whether the caller runs there.
  package var isCurrent: Bool { loop.inEventLoop }

  /// Lets the loop look at its other sockets before the caller goes on: it does so only when no task is left that could run.
  package func yield() async {
    try? await loop.scheduleTask(in: .microseconds(50)) {}.futureResult.get()
  }

  package func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    loop.execute { [self] in unsafe job.runSynchronously(on: asUnownedTaskExecutor()) }
  }
}
