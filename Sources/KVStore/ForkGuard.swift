// Finds out that the process was forked: a store's threads, locks and maps belong to the process that opened it.

import Foundation
import Synchronization

enum ForkGuard {
  private static let count = Atomic<UInt64>(0)
  private static let isInstalled: Void = {
    _ = pthread_atfork(nil, nil) { ForkGuard.forked() }
  }()

  private static func forked() { count.add(1, ordering: .relaxed) }

  /// The number of forks between the first process and this one.
  static var generation: UInt64 { count.load(ordering: .relaxed) }

  static func install() { isInstalled }

  /// Throws ``StoreError`` `inUse` in a child of a process that has opened a store, whichever store is to be opened now:
  /// threads, the queues of Dispatch among them, do not survive a fork.
  static func refuse(_ path: String) throws(StoreError) {
    install()
    guard generation > 0 else { return }
    throw StoreError(
      .inUse,
      "this process is a forked child of one that had a store open, and has none of its threads. Open the store in a process that executes a program of its own.",
      path: path)
  }
}
