// The lock that gives a directory to one process alone.

import Foundation
import Synchronization

/// An advisory lock on a file (flock), held until it is released or this object goes; the kernel gives it up when a process dies.
package final class StoreLock: Sendable {
  private let descriptor: Int32
  private let isReleased = Mutex(false)

  package init(_ path: String, store: String) throws(StoreError) {
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
    guard descriptor >= 0 else {
      let number = errno
      throw StoreError(.init(errno: number), "cannot open the store's lock: \(describe(errno: number)).", path: path)
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      // Everything is initialised, so throwing ends in `deinit`, which closes the descriptor.
      let number = errno
      if number == EWOULDBLOCK {
        throw StoreError(
          .inUse, "the store is open elsewhere. Close it there first.", path: store)
      }
      throw StoreError(.init(errno: number), "cannot lock the store: \(describe(errno: number)).", path: path)
    }
  }

  deinit { release() }

  /// Gives the lock up before the object goes; a second call does nothing.
  package func release() {
    isReleased.withLock { released in
      if !released, descriptor >= 0 {
        // Closing alone would leave the lock with a child process that has been forked and not yet executed.
        flock(descriptor, LOCK_UN)
        Foundation.close(descriptor)
      }
      released = true
    }
  }
}
