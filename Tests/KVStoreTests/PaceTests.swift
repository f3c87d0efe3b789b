// A writer that is faster than the folder waits often and little, and never for a whole fold.

import Foundation
import TestSupport
import Testing

@testable import KVStore

@Suite struct PaceTests {
  @Test(
    "A writer ahead of a slow folder waits often and for a small part of a fold, and never meets the limit of what may wait",
    arguments: SeededGenerator.seeds(4, fresh: 4))
  func oftenAndLittle(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    // A fold takes a second, in so many steps; a group is that part of what may wait, and takes so long to write.
    let step = 1 / Double(100 + random.below(500))
    let group = 1 / Double(600 + random.below(1_400))
    let writing = 1e-4 * Double(1 + random.below(4))
    var waiting = 0.0
    var pace = Pace(folding: 0, done: 0)
    var now = 0.0
    var (waits, longest, waited, most) = (0, 0.0, 0.0, 0.0)
    /// Lets time pass for the folder, which takes half of what may wait at a time, at most.
    func pass(_ seconds: Double) {
      now += seconds
      pace.done += seconds
      guard pace.done >= 1 else { return }
      waiting -= pace.folding
      pace = Pace(folding: min(waiting, 0.5), done: 0)
    }
    while now < 6 {
      let before = now
      while pace.isExceeded(by: waiting) { pass(step) }
      if now > before {
        waits += 1
        longest = max(longest, now - before)
        waited += now - before
      }
      pass(writing)
      waiting += group
      most = max(most, waiting)
    }
    #expect(waits > 300 && waited > 2, "the folder is what is slow: \(waits) waits, \(waited) s")
    #expect(most <= 1 + group)
    #expect(longest < 0.05, "of a fold of one second")
  }

  @Test("A group that is ahead of a fold which does not get on waits for a while, and goes on all the same")
  func bounded() throws {
    let scratch = try Scratch(inMemory: true)
    var options = Store.Options()
    options.generationBytes = 256 << 10
    let store = try Store.openBlocking(at: scratch.path("store"), options: options)
    let core = try store.core()
    var number = 0
    func write() throws {
      number += 1
      let number = number
      try store.writeBlocking { transaction in
        for key in 0..<200 { try transaction.put([UInt8](repeating: 7, count: 100), for: "\(number) \(key)") }
      }
    }
    // Nobody folds, though what all processes share says that somebody does.
    let other = try FileLock(core.locks.folding.path)
    try other.lock()
    while core.memory.generations.sealedCount < StoreLimits.sealedGenerations / 2 { try write() }
    #expect(try !core.tail.isAheadOfFold(0))
    core.memory.fold = .init(generations: 1, done: 0)
    #expect(try core.tail.isAheadOfFold(0))
    let start = monotonicMilliseconds()
    try write()
    #expect(Double(monotonicMilliseconds() - start) >= 900 * StoreLimits.longestPauseSeconds)
    core.memory.fold.done = 1
    #expect(try !core.tail.isAheadOfFold(0))
    try write()
    core.memory.fold = .init(generations: 0, done: 0)
    other.unlock()
    #expect(try store.count() == 200 * number)
    try store.closeBlocking()
  }
}
