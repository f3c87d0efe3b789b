// The progress bar of work whose progress is told from other threads.

import Synchronization

final class FileProgress: Sendable {
  private let bar = Mutex(ProgressBar())
  private let noun: String

  init(_ noun: String) { self.noun = noun }

  func update(_ done: Int, _ total: Int) {
    bar.withLock { $0.update(done: done, total: total, items: done, noun: noun) }
  }

  func finish() { bar.withLock { $0.finish() } }
}
