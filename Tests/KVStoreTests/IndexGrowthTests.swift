// The index has no size that anybody sets: what it is mapped with grows while stores are open, in all processes.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite struct IndexGrowthTests {
  @Test(
    "An index grows far beyond what it was opened with, under snapshots, and beside a process that reads and writes")
  func growsWhileOpen() async throws {
    let scratch = try Scratch()
    let path = scratch.path("store")
    var options = Store.Options()
    options.segmentBytes = 1 << 20
    options.generationBytes = 192 << 10
    options.indexMapBytes = 1 << 20
    let store = try await Store.open(at: path, options: options)
    try await store.put("first", for: "a")
    // Both open the store with a map of 1 MiB, too.
    let holder = try ChildProcess("hold", path)
    #expect(try await holder.line() == "open")
    #expect(try await holder.line() == "holding")
    let writer = try ChildProcess("write", path, "w", "0", "relaxed")
    #expect(try await writer.line() == "open")
    let echo = try ChildProcess("echo", path)
    #expect(try await echo.line() == "open")
    var before: Scan? = try store.read { try $0.scan(prefix: "a") }
    for round in 0..<100 {
      let value = [UInt8](repeating: UInt8(round), count: 20_000)
      try await store.write(durability: .relaxed) { transaction in
        for row in 0..<10 { try transaction.put(value, for: "large/\(round * 10 + row)") }
      }
      if round % 10 == 9 {
        try echo.send("a")
        #expect(try await echo.line() == "first")
        #expect(try store.value(for: "large/\(round * 5)")?.count == 20_000)
      }
    }
    await writer.kill()
    let written = writer.takeLines().compactMap { $0.split(separator: " ").first }.compactMap { Int($0) }
    #expect(written.count > 10)
    #expect(before?.map(\.value) == [Array("first".utf8)])
    before = nil
    try holder.send("")
    #expect(try await holder.line() == "same")
    #expect(try await holder.line() == "closed")
    try echo.endInput()
    #expect(try await echo.line() == "closed")
    try await store.close()
    let bytes = try FileManager.default.attributesOfItem(atPath: path + "/index.mdb")[.size] as? Int
    #expect(try #require(bytes) > 16 << 20, "otherwise this shows nothing")
    let report = try Store.verify(at: path, options: options)
    #expect(report.keys >= 1_003 + written.count - 1)
  }
}
