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
}
