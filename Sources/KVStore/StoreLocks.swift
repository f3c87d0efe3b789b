// Who has a store open: the locks of one process on it, from opening to closing.
//
// Invariants
// - Every process that has the store open for writing shares the presence lock; whoever gets it alone is the first to
//   open the store, or the last to close it. One that wants the store for itself keeps it alone.
// - Openings and closings happen one at a time, under the opening lock.
// - A process has a store open once: a second handle would share the locks of the first.

import Foundation
import Synchronization

final class StoreLocks: Sendable {
  let writing: FileLock
  let folding: FileLock
  private let opening: FileLock
  private let presence: FileLock
  private let store: String
  private let identity: [UInt64]
  private let isHeld = Mutex(true)
  /// Whether no other process may open the store for writing.
  let isExclusive: Bool

  private static let openHere = Mutex<Set<[UInt64]>>([])

  /// Claims the store for this process. Throws ``StoreError``: `inUse` when this process has it open already.
  init(_ directory: StoreDirectory, isExclusive: Bool = false) throws(StoreError) {
    store = directory.path
    self.isExclusive = isExclusive
    opening = try FileLock(directory.lock + ".opening")
    presence = try FileLock(directory.lock)
    writing = try FileLock(directory.lock + ".writing")
    folding = try FileLock(directory.lock + ".folding")
    identity = try presence.identity()
    guard StoreLocks.openHere.withLock({ $0.insert(identity).inserted }) else {
      isHeld.withLock { $0 = false }
      throw StoreError(
        .inUse,
        "this process has the store open, or a read of it has yet to end. Use that handle, or let the read end.",
        path: directory.path)
    }
  }

  deinit { release() }

  /// Runs `body` while no other process opens or closes the store. `isAlone` says whether none has it open; if so none
  /// can open it before `body` has returned. Afterwards this process shares the store with others, unless it is exclusive.
  func whileOpening<Result>(_ body: (_ isAlone: Bool) throws -> Result) throws -> Result {
    try exclusively {
      let isAlone = try presence.tryLock()
      guard isAlone || !isExclusive else {
        throw StoreError(.inUse, "another process has the store open. Close it there first.", path: store)
      }
      let result = try body(isAlone)
      if isExclusive { return result }
      do throws(StoreError) {
        try presence.share()
      } catch {
        throw StoreError(
          .inUse, "another process has the store for itself. Wait until it is done.", path: store)
      }
      return result
    }
  }

  /// Runs `body` while no other process opens or closes the store, with whether none but this one has it open; `release`
  /// is to follow.
  func whileClosing(_ body: (_ isLast: Bool) throws -> Void) throws {
    try exclusively {
      try body(try presence.tryLock())
      presence.unlock()
    }
  }

  private func exclusively<Result>(_ body: () throws -> Result) throws -> Result {
    guard try opening.lock(within: StoreLimits.openingSeconds) else {
      throw StoreError(
        .inUse, "another process has been opening or closing the store for a long time. Try again, or end it.",
        path: store)
    }
    defer { opening.unlock() }
    return try body()
  }

  /// Gives the store up; a second call does nothing.
  func release() {
    let wasHeld = isHeld.withLock { isHeld in
      defer { isHeld = false }
      return isHeld
    }
    guard wasHeld else { return }
    presence.unlock()
    StoreLocks.openHere.withLock { _ = $0.remove(identity) }
  }
}
