// Locks between processes: flock on small empty files of the store. The kernel gives a lock up when its holder dies.
//
// Invariants
// - Order, where several are held: opening, presence, writing, folding.
// - A lock is used by one thread at a time.

import Foundation

/// One lock file; nothing is locked until somebody asks.
final class FileLock: Sendable {
  let path: String
  private let descriptor: Int32

  init(_ path: String) throws(StoreError) {
    self.path = path
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
    guard descriptor >= 0 else {
      let number = errno
      throw StoreError(.init(errno: number), "cannot open a lock of the store: \(describe(errno: number)).", path: path)
    }
  }

  /// Closing alone would leave the lock with a child process that has been forked and not yet executed.
  deinit {
    guard descriptor >= 0 else { return }
    flock(descriptor, LOCK_UN)
    Foundation.close(descriptor)
  }

  /// Waits for the lock, without end.
  func lock() throws(StoreError) {
    while flock(descriptor, LOCK_EX) != 0 {
      if errno != EINTR { throw failure(errno) }
    }
  }

  /// Waits for the lock; false when somebody else still has it after `seconds`.
  func lock(within seconds: Double) throws(StoreError) -> Bool {
    let deadline = Deadline(secondsFromNow: seconds)
    while !(try tryLock()) {
      if deadline.isOver { return false }
      usleep(5_000)
    }
    return true
  }

  func tryLock() throws(StoreError) -> Bool { try attempt(LOCK_EX | LOCK_NB) }

  /// Shares the lock with others that share it; an exclusive lock held here becomes a shared one. Must not have to wait.
  func share() throws(StoreError) {
    guard try attempt(LOCK_SH | LOCK_NB) else { throw failure(EWOULDBLOCK) }
  }

  func unlock() { flock(descriptor, LOCK_UN) }

  /// The file itself, however it is spelled.
  func identity() throws(StoreError) -> [UInt64] {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { throw failure(errno) }
    return [UInt64(truncatingIfNeeded: status.st_dev), UInt64(truncatingIfNeeded: status.st_ino)]
  }

  private func attempt(_ operation: Int32) throws(StoreError) -> Bool {
    while flock(descriptor, operation) != 0 {
      if errno == EWOULDBLOCK { return false }
      if errno != EINTR { throw failure(errno) }
    }
    return true
  }

  private func failure(_ number: Int32) -> StoreError {
    StoreError(.init(errno: number), "cannot lock the store: \(describe(errno: number)).", path: path)
  }
}
