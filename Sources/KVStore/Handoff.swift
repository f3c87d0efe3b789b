// Starts a thread that holds the core while it works, and no longer: when it reports its end, its reference is gone, so
// that a store can be opened again as soon as it is closed.

import Foundation
import Synchronization

final class Handoff: Sendable {
  private let core: Mutex<StoreCore?>

  init(_ core: StoreCore) {
    self.core = Mutex(core)
  }

  func start(
    threadNamed name: String, _ work: @escaping @Sendable (StoreCore) -> Void, ended: @escaping @Sendable () -> Void
  ) {
    let thread = Thread { [self] in
      run(work)
      ended()
    }
    thread.name = name
    // Transactions run on the writer's stack, and user code likes the usual size.
    thread.stackSize = 8 << 20
    thread.start()
  }

  private func run(_ work: (StoreCore) -> Void) {
    if let core = core.withLock({ $0.take() }) { work(core) }
  }
}
