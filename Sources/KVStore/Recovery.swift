// Applies to a tail what the log has and the index does not.
//
// Invariants
// - Blocks are applied in order, many of them in one transaction, each wholly or not at all.
// - `state` is that of the tail, in which the blocks are that `apply` took before the last `finish`.

import KVLog
import LMDB

struct Recovery {
  let tail: Tail
  private(set) var state: StoreState
  /// Records of the blocks that wait for their transaction, and where the last of them ends.
  private var records: [UInt8] = []
  private var end: LogPosition?

  init(tail: Tail, state: StoreState) {
    self.tail = tail
    self.state = state
  }

  mutating func apply(_ block: borrowing Block) throws {
    block.withRecords { records.append($0) }
    end = block.end
    if records.count >= StoreLimits.recoveredBytes { try finish() }
  }

  /// Applies what is left.
  mutating func finish() throws {
    guard let end else { return }
    while true {
      do {
        try apply(through: end)
        break
      } catch let error as LMDBError where error.code == .mapFull {
        // A generation that took nothing is followed by a larger one. What the log has must be shown, room or not.
        do {
          try tail.roll(room: records.count)
        } catch let error where StoreError.isFull(error) {
          try tail.roll(room: records.count, isPressed: true)
        }
      }
    }
    records.removeAll(keepingCapacity: records.capacity <= 2 * StoreLimits.recoveredBytes)
    self.end = nil
  }

  private mutating func apply(through end: LogPosition) throws {
    let generation = try tail.live()
    var writer = try generation.environment.beginWrite()
    var next = state
    let applier = LogApplier(tables: generation.tables)
    try applier.apply(records.bytes, to: &writer, state: &next)
    next.position = end
    try writer.put(state: next, in: generation.tables)
    try writer.commit()
    generation.markFilled()
    state = next
  }
}
