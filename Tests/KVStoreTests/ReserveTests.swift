// What is set aside for a full disk: each part is there for its own purpose, and comes back whole.

import Foundation
import TestSupport
import Testing

@testable import KVStore

@Suite struct ReserveTests {
  private let scratch: Scratch
  private let reserve: Reserve

  init() throws {
    scratch = try Scratch()
    reserve = Reserve(StoreDirectory(path: scratch.path))
  }

  private func size() throws -> Int {
    try FileManager.default.attributesOfItem(atPath: reserve.path)[.size] as? Int ?? 0
  }

  @Test("Either part is given up once, without the other, in any order, and set aside again")
  func parts() throws {
    let orders: [[Reserve.Parts]] = [[.log, .tail], [.tail, .log], [.all], [.log, .all], [.tail, .all]]
    #expect(!reserve.release(.all))
    for order in orders {
      #expect(reserve.restore())
      var left = Reserve.Parts.all.byteCount
      #expect(try size() == left)
      for parts in order {
        #expect(reserve.release(parts))
        left -= parts == .all ? left : parts.byteCount
        #expect(try size() == left)
        #expect(!reserve.release(parts))
        #expect(try size() == left)
      }
      #expect(left == 0)
    }
    for parts in [Reserve.Parts.log, .tail] {
      #expect(reserve.restore() && reserve.release(parts) && reserve.restore())
      #expect(try size() == Reserve.Parts.all.byteCount)
    }
  }

  @Test(
    "A file that was not written to its end is given up as a whole, for whatever it is needed, or completed",
    arguments: [
      1, StoreLimits.reservedLogBytes - 1, StoreLimits.reservedTailBytes + 4_096, Reserve.Parts.all.byteCount - 1,
    ])
  func unfinished(bytes: Int) throws {
    for parts in [Reserve.Parts.log, .tail, .all] {
      try Data(count: bytes).write(to: URL(filePath: reserve.path))
      #expect(reserve.release(parts))
      #expect(try size() == 0)
    }
    try Data(count: bytes).write(to: URL(filePath: reserve.path))
    #expect(reserve.restore())
    #expect(try size() == Reserve.Parts.all.byteCount)
  }
}
