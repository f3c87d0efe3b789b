// Tells what is written to the store, by whatever process, for as long as somebody listens.
//
// Invariants
// - It looks at the store at most some fifty times a second, however much is written.
// - Whoever subscribes and then starts it is told of everything written after that.

import KVStore
import Synchronization

final class LocalFollower: Sendable {
  private static let interval = Duration.milliseconds(20)

  private let store: Store
  private let listeners: Listeners
  private let task = Mutex<Task<Void, Never>?>(nil)

  init(_ store: Store, _ listeners: Listeners) {
    self.store = store
    self.listeners = listeners
  }

  /// Follows from now on, unless it does so already.
  func start() {
    let start = store.localWork
    task.withLock { task in
      if task == nil { task = Task { await follow(from: start) } }
    }
  }

  func stop() { task.withLock { $0?.cancel() } }

  private func follow(from start: LocalWork) async {
    var known = start
    while isWanted {
      do {
        _ = try await store.advance(beyond: known.version)
      } catch {
        // Opened read-only, or poisoned: nothing will be written. Closed: nothing will happen at all.
        if (error as? StoreError)?.code == .closed { listeners.end() }
        return task.withLock { $0 = nil }
      }
      let work = store.localWork
      if work.changes > known.changes {
        listeners.tell(
          .added(versions: known.version + 1...work.version, changes: Int(clamping: work.changes - known.changes)))
      }
      known = work
      try? await Task.sleep(for: Self.interval)
    }
  }

  private var isWanted: Bool {
    task.withLock { task in
      if listeners.isEmpty || Task.isCancelled { task = nil }
      return task != nil
    }
  }
}
