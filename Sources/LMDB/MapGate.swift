// Keeps the map of an environment where it is while liblmdb looks at it.
//
// Invariants:
// - Nobody queues for the gate to be alone: it tries until nobody else is in. So whoever comes in never waits for one who
//   waits, whatever locks either holds.

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

@safe
final class MapGate: Sendable {
  nonisolated(unsafe) private let lock: UnsafeMutablePointer<pthread_rwlock_t>

  init() {
    unsafe lock = .allocate(capacity: 1)
    unsafe lock.initialize(to: pthread_rwlock_t())
    let answer = unsafe pthread_rwlock_init(lock, nil)
    precondition(answer == 0, "A lock could not be made.")
  }

  deinit {
    unsafe pthread_rwlock_destroy(lock)
    unsafe lock.deallocate()
  }

  func whileMapStays<R, E>(_ body: () throws(E) -> R) throws(E) -> R {
    unsafe pthread_rwlock_rdlock(lock)
    defer { unsafe pthread_rwlock_unlock(lock) }
    return try body()
  }

  /// Runs `body` while nobody is in `whileMapStays`.
  func alone<R, E>(_ body: () throws(E) -> R) throws(E) -> R {
    while unsafe pthread_rwlock_trywrlock(lock) != 0 { usleep(200) }
    defer { unsafe pthread_rwlock_unlock(lock) }
    return try body()
  }
}
