// Compaction, removal, and what can be got out of a damaged store.

import Foundation
import KVLog
import TestSupport
import Testing

@testable import KVStore

@Suite struct MaintenanceTests {
  let scratch: Scratch
  let path: String

  init() throws {
    scratch = try Scratch()
    path = scratch.path("store")
  }

  private func code(_ body: () throws -> Void) -> StoreError.Code? {
    do {
      try body()
      return nil
    } catch { return (error as? StoreError)?.code }
  }

  private func openReadOnly(_ path: String) throws -> Store {
    var options = Store.Options()
    options.readOnly = true
    return try Store.openBlocking(at: path, options: options)
  }

  private func bytes(_ file: String) throws -> Int {
    try Int(#require(FileManager.default.attributesOfItem(atPath: file)[.size] as? UInt64))
  }

  private func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: scratch.path(name)) }

  /// A store that was ten times as large once.
  private func makeSparse() throws -> [[UInt8]: [UInt8]] {
    let store = try Store.openBlocking(at: path)
    let value = [UInt8](repeating: 9, count: 1_000)
    for round in 0..<20 {
      try store.writeBlocking { for index in 0..<100 { try $0.put(value, for: "\(round) \(index)") } }
    }
    try store.closeBlocking()
    let again = try Store.openBlocking(at: path)
    for round in 0..<18 { try again.writeBlocking { for index in 0..<100 { try $0.delete("\(round) \(index)") } } }
    let rows = try contents(again)
    try again.closeBlocking()
    return rows
  }

  @Test("Compacting gives disk space back and changes nothing that anybody can read")
  func compacts() throws {
    let rows = try makeSparse()
    let before = try bytes(path + "/index.mdb")
    let report = try Store.verify(at: path)
    let freed = try Store.compact(at: path)
    #expect(freed > before / 2)
    #expect(try bytes(path + "/index.mdb") == before - freed)
    #expect(try Store.verify(at: path) == report)
    let store = try Store.openBlocking(at: path)
    #expect(try contents(store) == rows)
    try store.putBlocking("v", for: "k")
    try store.closeBlocking()
    #expect(try Store.verify(at: path).keys == rows.count + 1)
  }

  @Test("What lies in the log alone, after a crash, is there after compacting")
  func compactsAfterACrash() throws {
    let store = try Store.openBlocking(at: path)
    try store.putBlocking("old", for: "k")
    try store.closeBlocking()
    let again = try Store.openBlocking(at: path)
    try again.putBlocking("new", for: "k")
    try FileManager.default.copyItem(atPath: path, toPath: scratch.path("crashed"))
    try Store.compact(at: scratch.path("crashed"))
    #expect(text(try openReadOnly(scratch.path("crashed")).value(for: "k")) == "new")
    // One that nobody has ever folded.
    try FileManager.default.removeItem(atPath: scratch.path("crashed"))
    let fresh = try Store.openBlocking(at: scratch.path("fresh"))
    try fresh.putBlocking("v", for: "k")
    try FileManager.default.copyItem(atPath: scratch.path("fresh"), toPath: scratch.path("crashed"))
    try Store.compact(at: scratch.path("crashed"))
    #expect(text(try openReadOnly(scratch.path("crashed")).value(for: "k")) == "v")
  }

  @Test("A compaction that ends early leaves the store as it was, and nothing beside it")
  func compactionEndsEarly() async throws {
    let rows = try makeSparse()
    #expect(throws: CancellationError.self) { try Store.compact(at: path) { _ in throw CancellationError() } }
    #expect(!exists("store/index.mdb.compact"))
    await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String] in
      try Store.compact(at: path) { _ in kill(getpid(), SIGKILL) }
    }
    #expect(exists("store/index.mdb.compact"))
    #expect(try contents(openReadOnly(path)) == rows)
    try Store.openBlocking(at: path).closeBlocking()
    #expect(!exists("store/index.mdb.compact") && !exists("store/index.mdb.compact-lock"))
    #expect(try Store.verify(at: path).keys == rows.count)
  }

  @Test("A store that is open, here or elsewhere, to write or to read, is neither compacted nor removed")
  func refusesOpenStores() async throws {
    let rows = try makeSparse()
    let store = try Store.openBlocking(at: path)
    #expect(code { try Store.compact(at: path) } == .inUse)
    #expect(code { try Store.destroy(at: path) } == .inUse)
    #expect(code { try Store.rebuildIndex(at: path) } == .inUse)
    try store.closeBlocking()
    let view = try openReadOnly(path)
    #expect(code { try Store.compact(at: path) } == .inUse)
    #expect(code { try Store.destroy(at: path) } == .inUse)
    #expect(code { try Store.rebuildIndex(at: path) } == .inUse)
    #expect(try contents(view) == rows)
    await #expect(processExitsWith: .success) { [path = path as String] in
      // In another process, in which nothing of it is open.
      func code(_ body: () throws -> Void) -> StoreError.Code? {
        do { try body() } catch { return (error as? StoreError)?.code }
        return nil
      }
      #expect(code { try Store.compact(at: path) } == .inUse)
      #expect(code { try Store.destroy(at: path) } == .inUse)
    }
    try view.closeBlocking()
    #expect(try contents(openReadOnly(path)) == rows)
    #expect(code { try Store.compact(at: scratch.path("none")) } == .noStore)
  }

  @Test("Destroying removes a store and its directory, and a new one can be made there")
  func destroys() throws {
    _ = try makeSparse()
    #expect(try Store.destroy(at: path) == [])
    #expect(!exists("store"))
    #expect(code { try Store.destroy(at: path) } == .noStore)
    try Store.openBlocking(at: path).closeBlocking()
    // A damaged one too.
    try Data("?".utf8).write(to: URL(fileURLWithPath: path + "/index.mdb"))
    try Data("?".utf8).write(to: URL(fileURLWithPath: path + "/kvsync.store"))
    #expect(try Store.destroy(at: path) == [])
    #expect(!exists("store"))
  }

  @Test("Destroying removes nothing that is not a store's")
  func destroysNothingElse() throws {
    for name in ["notes", "notes/log", "notes/tail"] {
      try FileManager.default.createDirectory(atPath: scratch.path(name), withIntermediateDirectories: false)
      try Data("mine".utf8).write(to: URL(fileURLWithPath: scratch.path(name + "/index.mdb")))
    }
    #expect(code { try Store.destroy(at: scratch.path("notes")) } == .foreign)
    #expect(code { try Store.destroy(at: scratch.path("notes/index.mdb")) } == .foreign)
    #expect(code { try Store.destroy(at: scratch.path) } == .foreign)
    #expect(exists("notes/index.mdb") && exists("notes/log/index.mdb"))

    try Store.openBlocking(at: path).closeBlocking()
    let mine = ["log/notes.txt", "mine.txt", "mine/log"]
    try FileManager.default.createDirectory(atPath: path + "/mine", withIntermediateDirectories: false)
    for name in mine { try Data("mine".utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)")) }
    #expect(try Store.destroy(at: path) == ["\(path)/log/notes.txt", "\(path)/mine", "\(path)/mine.txt"])
    #expect(mine.allSatisfy { exists("store/\($0)") })
    #expect(
      try FileManager.default.subpathsOfDirectory(atPath: path).sorted()
        == ["log", "log/notes.txt", "mine", "mine.txt", "mine/log"])
    #expect(code { try Store.destroy(at: path) } == .foreign)
  }

  @Test("A removal that is cut off anywhere is gone on with, and what is left is no store")
  func removalIsCutOff() throws {
    for step in 0..<7 {
      try Store.openBlocking(at: path).closeBlocking()
      try Data("mine".utf8).write(to: URL(fileURLWithPath: path + "/mine"))
      // In the order in which the files go.
      let order = ["log", "index.mdb", "index.mdb-lock", "reserve", "kvsync.store.creating", "lock"]
      try FileManager.default.moveItem(atPath: path + "/kvsync.store", toPath: path + "/kvsync.store.creating")
      for name in order.prefix(step) { try FileManager.default.removeItem(atPath: "\(path)/\(name)") }
      #expect(code { _ = try openReadOnly(path) } != nil, "\(step)")
      if step < 5 { #expect(try Store.destroy(at: path) == [path + "/mine"]) }
      for name in try FileManager.default.contentsOfDirectory(atPath: path) where name.hasPrefix("lock") {
        try FileManager.default.removeItem(atPath: "\(path)/\(name)")
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: path) == ["mine"])
      try FileManager.default.removeItem(atPath: path)
    }
  }

  @Test("Of a store with a damaged index the log gives everything back, if it reaches back to the first version")
  func rebuilds() async throws {
    let store = try Store.openBlocking(at: path)
    for index in 0..<200 { try store.putBlocking("value of \(index)", for: "k\(index % 50)") }
    let rows = try contents(store)
    try store.closeBlocking()
    let intact = try Store.salvage(at: path)
    #expect(intact.logVersions == [1...200] && intact.logDamage == nil && intact.indexDamage == nil)
    #expect(intact.wholeRows >= 50 && intact.counters?.localVersion == 200 && intact.undelivered == 1...200)

    let index = URL(fileURLWithPath: path + "/index.mdb")
    var bytes = [UInt8](try Data(contentsOf: index))
    // Everything but the meta pages moves by one page.
    bytes.removeSubrange(8_192..<12_288)
    try Data(bytes).write(to: index)
    #expect(code { _ = try Store.verify(at: path) } == .corrupt)
    #expect(code { _ = try openReadOnly(path) } == .corrupt)
    let report = try Store.salvage(at: path)
    #expect(report.indexDamage != nil && report.canRebuildIndex)
    try Store.rebuildIndex(at: path)
    #expect(try contents(openReadOnly(path)) == rows)
    try Store.openBlocking(at: path).closeBlocking()
    #expect(try Store.verify(at: path).keys == 50)
  }

  @Test("Of a store with a damaged log it is said which versions can be read; its index is not thrown away for it")
  func salvagesADamagedLog() throws {
    var options = Store.Options()
    options.segmentBytes = 16 << 10
    options.logRetention = .all
    let store = try Store.openBlocking(at: path, options: options)
    for index in 0..<200 { try store.putBlocking([UInt8](repeating: 1, count: 300), for: "k\(index)") }
    try store.closeBlocking()
    let segments = try FileManager.default.contentsOfDirectory(atPath: path + "/log").sorted()
    try #require(segments.count > 3)
    let second = URL(fileURLWithPath: "\(path)/log/\(segments[1])")
    var bytes = [UInt8](try Data(contentsOf: second))
    bytes[bytes.count / 2] ^= 4
    try Data(bytes).write(to: second)
    let report = try Store.salvage(at: path)
    #expect(report.logDamage != nil && report.indexDamage == nil && !report.canRebuildIndex)
    #expect(report.logVersions.count == 2)
    #expect(report.logVersions.first?.lowerBound == 1 && report.logVersions.last?.upperBound == 200)
    #expect(report.wholeRows == 200)
    #expect(code { try Store.rebuildIndex(at: path) } == .corrupt)
    #expect(try contents(openReadOnly(path)).count == 200)
  }
}
