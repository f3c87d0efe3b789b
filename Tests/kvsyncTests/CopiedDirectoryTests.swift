// Directories that are copied around, with the tool as it is used: hubs and replicas that are restored to an older state, and
// replicas of which two go on. Nothing is lost, nothing comes twice, and what happened is told.

import Foundation
import TestSupport
import Testing

/// Some stores and a hub, whose directories can be copied and put back.
private final class Harbour {
  let place: Workplace
  private var hub: Hub?
  private var address = "127.0.0.1:0"

  init() throws { place = try Workplace(inMemory: true) }

  func up() async throws -> Hub {
    if let hub { return hub }
    let hub = try await Hub(place, listen: address)
    address = hub.address
    self.hub = hub
    return hub
  }

  func down() async {
    if let hub { #expect(await hub.end() == 0) }
    hub = nil
  }

  var complaints: String { hub?.process.messages ?? "" }

  /// What was at the target is gone.
  func copy(_ source: String, to target: String) async throws {
    if source.hasPrefix("hub") || target.hasPrefix("hub") { await down() }
    let outcome = try await place.shell(
      #"rm -rf "$2" && cp -a "$1" "$2""#, place.file(source), place.file(target))
    #expect(outcome.status == 0, "\(outcome.messages)")
  }

  /// Makes the store if there is none.
  func put(_ store: String, _ rows: (String, String)...) async throws {
    try await make(store)
    for (key, value) in rows { #expect(try await place.run("put", place.file(store), key, value).status == 0) }
  }

  private func make(_ store: String) async throws {
    if !FileManager.default.fileExists(atPath: place.file(store)) { _ = try await place.store(store) }
  }

  /// The summary; `repairs` are the causes in it.
  @discardableResult
  func sync(_ store: String, _ options: String...) async throws -> (summary: [String: Any], repairs: [String]) {
    let url = try await up().url()
    try await make(store)
    let outcome = try await place.run(Workplace.tool, ["sync", place.file(store), url, "--json"] + options, input: [])
    #expect(outcome.status == 0, "\(store): \(outcome.messages)")
    let summary = try outcome.object()
    let repairs = try #require(summary["repairs"] as? [[String: Any]])
    return (summary, repairs.compactMap { $0["cause"] as? String })
  }

  /// The causes that `status` shows.
  func repairs(_ store: String) async throws -> [String] {
    let status = try await place.run("status", place.file(store), "--json").object()
    return try #require(status["repairs"] as? [[String: Any]]).compactMap { $0["cause"] as? String }
  }

  func incarnation(_ store: String) async throws -> String {
    try #require(try await place.run("info", place.file(store), "--json").object()["incarnation"] as? String)
  }

  /// Synchronises until nobody has anything left for anybody, and compares; the rows that all have then.
  func settle(_ stores: [String], _ comment: String = "") async throws -> [String: String] {
    for round in 0... {
      var moved = 0
      for store in stores {
        let summary = try await sync(store).summary
        for name in ["pushed", "pulled", "pending"] { moved += try #require(summary[name] as? Int) }
      }
      if moved == 0 { break }
      try #require(round < 12, "it does not come to rest. \(comment)")
    }
    let url = try await up().url()
    let dumps = try await stores.asyncMap { try await self.place.run("dump", self.place.file($0)) }
    for (store, dump) in zip(stores, dumps) {
      #expect(dump.output == dumps[0].output, "\(store). \(comment)")
      let verified = try await place.run("verify", place.file(store), "--hub", url)
      #expect(verified.status == 0, "\(store): \(verified.text)\(verified.messages). \(comment)")
    }
    var rows: [String: String] = [:]
    for row in try dumps[0].objects() {
      rows[try #require(row["key"] as? String)] = try #require(row["value"] as? String)
    }
    return rows
  }

  /// How often the log of a directory has each put, KEY=VALUE, and each deletion, KEY-.
  func history(_ directory: String = "hub/spaces/space") async throws -> [String: Int] {
    if directory.hasPrefix("hub") { await down() }
    var counts: [String: Int] = [:]
    for change in try await place.run("log", place.file(directory), "--json").objects() {
      let key = try #require(change["key"] as? String)
      counts[(change["value"] as? String).map { "\(key)=\($0)" } ?? "\(key)-", default: 0] += 1
    }
    return counts
  }
}

extension Array {
  fileprivate func asyncMap<Result>(_ transform: (Element) async throws -> Result) async rethrows -> [Result] {
    var results: [Result] = []
    for element in self { results.append(try await transform(element)) }
    return results
  }
}

@Suite("Directories copied around", .serialized, .timeLimit(.minutes(10)))
struct CopiedDirectoryTests {
  private let harbour: Harbour
  private var place: Workplace { harbour.place }

  init() throws { harbour = try Harbour() }

  private func isOnce(_ history: [String: Int]) -> [String: Int] { history.filter { $0.value != 1 } }

  @Test("A replica whose sync is killed again and again goes on where it was: nothing is missing, nothing comes twice")
  func resume() async throws {
    var random = SeededGenerator()
    let rows = (0..<4_000).map { (key: Array("key/\($0)".utf8), value: [UInt8](repeating: 0x61, count: 300)) }
    let store = try await place.store("a", rows)
    let url = try await harbour.up().url()
    for _ in 0..<6 {
      let victim = try place.start("sync", store, url)
      try await Task.sleep(for: .milliseconds(random.below(200)))
      victim.kill(SIGKILL)
      _ = await victim.wait()
    }
    #expect(try await harbour.settle(["a", "b"]).count == 4_000)
    for name in ["a", "b"] { #expect(try await harbour.repairs(name).isEmpty) }
    let history = try await harbour.history()
    #expect(history.count == 4_000 && isOnce(history).isEmpty, "seed \(random.seed)")
  }

  @Test(
    "A hub that is put back to an older copy gets everything back, once, by whoever comes first, and it is told",
    arguments: [(["a", "b", "c"], "copied"), (["b", "a", "c"], "copied"), (["c", "b", "a"], "backed up")])
  func hubRestored(_ order: [String], _ how: String) async throws {
    try await harbour.put("a", ("kept", "1"), ("deleted", "1"))
    for name in ["a", "b", "c"] { try await harbour.sync(name) }
    if how == "copied" {
      try await harbour.copy("hub/spaces/space", to: "saved")
    } else {
      // Of a space that is being served.
      #expect(try await place.run("backup", place.file("hub/spaces/space"), place.file("saved")).status == 0)
    }
    try await harbour.put("a", ("of/a", "lost"), ("overwritten", "2"))
    #expect(try await place.run("rm", place.file("a"), "deleted").status == 0)
    try await harbour.sync("a")
    try await harbour.sync("b")
    try await harbour.put("b", ("overwritten", "3"), ("of/b", "lost"))
    try await harbour.sync("b")
    try await harbour.put("a", ("of/a/pending", "new"))

    try await harbour.copy("saved", to: "hub/spaces/space")
    // Somebody who knows of nothing writes before anybody comes who does.
    try await harbour.put("c", ("of/c", "new"))
    #expect(try await harbour.sync("c").repairs.isEmpty)
    var told: [String] = []
    for name in order {
      let (summary, repairs) = try await harbour.sync(name)
      if repairs.isEmpty { continue }
      told.append(name)
      #expect(repairs == ["hubRestored"], "\(name)")
      let repair = try #require((summary["repairs"] as? [[String: Any]])?.first)
      #expect(repair["serverThrough"] is Int || repair["localThrough"] is Int, "\(repair)")
      #expect(try await harbour.repairs(name) == ["hubRestored"])
      let text = try await place.run("status", place.file(name)).text
      #expect(text.contains("mended") && text.contains("the hub was restored to an older state"), "\(text)")
    }
    #expect(told.first == order.first { $0 != "c" } && !told.contains("c"))
    // A backup that is written to is another store, and its epoch another one by itself.
    #expect(how == "backed up" || harbour.complaints.contains("a new epoch begins"))
    let rows = try await harbour.settle(order)
    #expect(
      rows == [
        "kept": "1", "of/a": "lost", "overwritten": "3", "of/b": "lost", "of/a/pending": "new", "of/c": "new",
      ])
    for name in order { #expect(try await place.run("conflicts", place.file(name)).lines.isEmpty, "\(name)") }
    let history = try await harbour.history()
    #expect(isOnce(history).isEmpty, "\(history)")
  }

  @Test("A hub is put back to an older copy while its replicas are live and write: they find out by themselves")
  func hubRestoredLive() async throws {
    try await harbour.put("a", ("kept", "1"))
    for name in ["a", "b"] { try await harbour.sync(name) }
    try await harbour.copy("hub", to: "hub-saved")
    let url = try await harbour.up().url()
    let live = try ["a", "b"].map { try place.start("sync", place.file($0), url, "--continuous", "--json") }
    var expected = ["kept": "1"]
    for round in 0..<9 {
      for name in ["a", "b"] {
        try await harbour.put(name, ("of/\(name)/\(round)", "\(round)"))
        expected["of/\(name)/\(round)"] = "\(round)"
      }
      if round == 5 {
        try await harbour.copy("hub-saved", to: "hub")
        _ = try await harbour.up()
      }
    }
    let deadline = ContinuousClock.now + .seconds(30)
    while ContinuousClock.now < deadline, !live[0].messages.contains("hubRestored") {
      try await Task.sleep(for: .milliseconds(20))
    }
    for process in live {
      process.kill(SIGTERM)
      #expect(await process.wait().status == 0, "\(process.messages)")
    }
    #expect(live[0].messages.contains(#"{"event":"hubRestored","localFrom":"#), "\(live[0].messages)")
    #expect(try await harbour.settle(["a", "b", "c"]) == expected)
    let history = try await harbour.history()
    #expect(isOnce(history).isEmpty, "\(history)")
  }

  @Test("A replica that is put back to an older copy takes a new name, gets what the hub has of it, and says so")
  func replicaRestored() async throws {
    for key in 0..<4 { try await harbour.put("a", ("key/\(key)", "old")) }
    try await harbour.sync("a")
    try await harbour.put("a", ("unsent", "then"))
    try await harbour.copy("a", to: "saved")
    for key in 2..<6 { try await harbour.put("a", ("key/\(key)", "new")) }
    try await harbour.sync("a")
    let former = try await harbour.incarnation("a")
    try await harbour.copy("saved", to: "a")
    try await harbour.put("a", ("after", "restored"), ("key/5", "restored"))
    let (summary, repairs) = try await harbour.sync("a")
    #expect(repairs == ["becameNewIncarnation"])
    let incarnation = try await harbour.incarnation("a")
    #expect((summary["repairs"] as? [[String: Any]])?.first?["incarnation"] as? String == incarnation)
    #expect(incarnation != former)
    #expect(try await harbour.repairs("a") == ["becameNewIncarnation"])
    let rows = try await harbour.settle(["a", "b"])
    #expect(
      rows == [
        "key/0": "old", "key/1": "old", "key/2": "new", "key/3": "new", "key/4": "new", "key/5": "restored",
        "unsent": "then", "after": "restored",
      ])
    let history = try await harbour.history()
    #expect(isOnce(history).isEmpty, "\(history)")
    #expect(try await place.run("conflicts", place.file("a"), "--json").objects().count == 1)
  }

  @Test("A replica's directory is copied, and both go on, pass by pass: no write of either is dropped or applied twice")
  func bothGoOn() async throws {
    try await harbour.put("a", ("shared", "1"))
    try await harbour.sync("a")
    try await harbour.put("a", ("unsent", "1"))
    try await harbour.copy("a", to: "copy")
    var expected = ["shared": "1", "unsent": "1"]
    var told: [String] = []
    for round in 0..<3 {
      for name in ["a", "copy"] {
        try await harbour.put(name, ("of/\(name)/\(round)", "\(round)"))
        expected["of/\(name)/\(round)"] = "\(round)"
        if try await !harbour.sync(name).repairs.isEmpty { told.append(name) }
      }
    }
    #expect(told == ["copy"])
    #expect(try await harbour.settle(["a", "copy", "b"]) == expected)
    let history = try await harbour.history()
    #expect(isOnce(history).isEmpty, "\(history)")
  }

  @Test("A replica's directory is copied, and both go on, live at the same time: each write arrives once at the other")
  func bothGoOnLive() async throws {
    try await harbour.put("a", ("shared", "1"))
    try await harbour.sync("a")
    try await harbour.put("a", ("unsent", "1"))
    try await harbour.copy("a", to: "copy")
    let url = try await harbour.up().url()
    let live = try ["a", "copy"].map { try place.start("sync", place.file($0), url, "--continuous", "--json") }
    var expected = ["shared": "1", "unsent": "1"]
    for round in 0..<10 {
      for name in ["a", "copy"] {
        try await harbour.put(name, ("of/\(name)/\(round)", "\(round)"))
        expected["of/\(name)/\(round)"] = "\(round)"
      }
    }
    for process in live {
      process.kill(SIGTERM)
      #expect(await process.wait().status == 0, "\(process.messages)")
    }
    let news = live.map(\.messages)
    #expect(news.filter { $0.contains(#"{"event":"becameNewIncarnation","incarnation":""#) }.count == 1, "\(news)")
    #expect(try await harbour.settle(["a", "copy", "b"]) == expected)
    let history = try await harbour.history()
    #expect(isOnce(history).isEmpty, "\(history)")
  }

  @Test("A copy of a copy, and a copy that is put back while another one is live: all go on, each with its own name")
  func copiesOfCopies() async throws {
    try await harbour.put("a", ("shared", "1"))
    try await harbour.sync("a")
    try await harbour.copy("a", to: "b")
    try await harbour.put("b", ("of/b/0", "0"))
    try await harbour.copy("b", to: "c")
    try await harbour.put("c", ("of/c/0", "0"))
    let url = try await harbour.up().url()
    let live = try place.start("sync", place.file("a"), url, "--continuous")
    try await harbour.put("a", ("of/a/0", "0"))
    for name in ["c", "b"] { try await harbour.sync(name) }
    try await harbour.put("b", ("of/b/1", "1"))
    try await harbour.sync("b")
    // Back to before it had a name of its own.
    try await harbour.copy("c", to: "b")
    try await harbour.put("b", ("of/b/2", "2"))
    try await harbour.put("c", ("of/c/2", "2"))
    for name in ["c", "b", "c"] { try await harbour.sync(name) }
    live.kill(SIGTERM)
    #expect(await live.wait().status == 0)
    let rows = try await harbour.settle(["a", "b", "c", "d"])
    var expected = ["shared": "1"]
    for name in ["a/0", "b/0", "b/1", "b/2", "c/0", "c/2"] { expected["of/\(name)"] = String(name.suffix(1)) }
    #expect(rows == expected)
    let names = try await ["a", "b", "c"].asyncMap { try await harbour.incarnation($0) }
    #expect(Set(names).count == 3)
    let history = try await harbour.history()
    #expect(isOnce(history).isEmpty, "\(history)")
  }

  @Test("A hub is put back and a copy comes first, so that the original takes a new name: nothing comes twice")
  func copyBeforeOriginal() async throws {
    try await harbour.put("a", ("day/0", "a"), ("overwritten", "0"), ("overwritten", "1"))
    try await harbour.sync("a")
    try await harbour.copy("hub", to: "hub-saved")
    try await harbour.put("a", ("day/1", "a"), ("overwritten", "2"))
    try await harbour.put("b", ("of/b", "1"))
    for name in ["a", "b", "a"] { try await harbour.sync(name) }
    try await harbour.copy("a", to: "copy")
    try await harbour.put("copy", ("of/copy", "1"))
    try await harbour.put("a", ("of/a", "1"))
    try await harbour.copy("hub-saved", to: "hub")
    #expect(try await harbour.sync("copy").repairs == ["hubRestored"])
    #expect(try await harbour.sync("a").repairs.contains("becameNewIncarnation"))
    let rows = try await harbour.settle(["a", "copy", "b"])
    #expect(rows == ["day/0": "a", "day/1": "a", "overwritten": "2", "of/b": "1", "of/copy": "1", "of/a": "1"])
    let history = try await harbour.history()
    #expect(isOnce(history).isEmpty, "\(history)")
  }

  @Test("Hub and replica are both put back, to the same day or to different ones: what anybody holds comes back")
  func bothRestored() async throws {
    try await harbour.put("a", ("day/0", "a"))
    for name in ["a", "b"] { try await harbour.sync(name) }
    try await harbour.copy("hub", to: "hub-saved")
    try await harbour.put("a", ("day/1/a", "a"))
    try await harbour.put("b", ("day/1/b", "b"))
    for name in ["a", "b", "a"] { try await harbour.sync(name) }
    try await harbour.copy("a", to: "a-saved")
    try await harbour.put("a", ("day/2/a", "a"))
    for name in ["a", "b"] { try await harbour.sync(name) }
    try await harbour.copy("hub-saved", to: "hub")
    try await harbour.copy("a-saved", to: "a")
    try await harbour.put("a", ("day/3/a", "a"))
    let first = try await harbour.sync("a").repairs
    #expect(first == ["hubRestored"], "\(first)")
    let second = try await harbour.sync("b").repairs
    #expect(second == ["hubRestored"], "\(second)")
    let rows = try await harbour.settle(["a", "b", "c"])
    #expect(rows == ["day/0": "a", "day/1/a": "a", "day/1/b": "b", "day/2/a": "a", "day/3/a": "a"])
    let history = try await harbour.history()
    #expect(isOnce(history).isEmpty, "\(history)")
    // Told, and not forgotten by a pass in which nothing happened.
    #expect(try await harbour.repairs("b") == ["hubRestored"])
  }

  @Test("Copied, put back, killed and written in any order: all come to the same, and nothing anybody held is missing")
  func anyOrder() async throws {
    var seeds = SeededGenerator()
    for number in 0..<(Int(ProcessInfo.processInfo.environment["KVSYNC_COPIES"] ?? "") ?? 1) {
      let seed = number == 0 ? seeds.seed : seeds.next()
      try await run(try Harbour(), SeededGenerator(seed: seed))
    }
  }

  private func run(_ harbour: Harbour, _ generator: SeededGenerator) async throws {
    var random = generator
    let place = harbour.place
    var names = ["a", "b"]
    for name in names { try await harbour.sync(name) }
    var saved: Set<String> = []
    var restored: Set<String> = []
    for step in 0..<30 {
      let name = names[random.below(names.count)]
      switch random.below(100) {
      case 0..<45: try await harbour.put(name, ("unique/\(step)", name), ("contested/\(random.below(4))", "\(step)"))
      case 45..<72: try await harbour.sync(name)
      case 72..<78:
        let victim = try place.start("sync", place.file(name), try await harbour.up().url())
        try await Task.sleep(for: .milliseconds(random.below(40)))
        victim.kill(SIGKILL)
        _ = await victim.wait()
      case 78..<86:
        let source = random.chance(50) ? "hub" : name
        try await harbour.copy(source, to: "\(source).saved")
        saved.insert(source)
      case 86..<94:
        let target = random.chance(50) ? "hub" : name
        guard saved.contains(target), restored.insert(target).inserted else { break }
        try await harbour.copy("\(target).saved", to: target)
      default:
        guard names.count < 3 else { break }
        try await harbour.copy(name, to: "c")
        names.append("c")
      }
    }
    var held: Set<String> = []
    for name in names {
      let keys = try await place.run("ls", place.file(name), "--prefix", "unique/", "--json").objects()
      held.formUnion(keys.compactMap { $0["key"] as? String })
    }
    let rows = try await harbour.settle(names.shuffled(using: &random) + ["fresh"], "seed \(random.seed)")
    #expect(held.subtracting(rows.keys).isEmpty, "lost \(held.subtracting(rows.keys)), seed \(random.seed)")
    await harbour.down()
  }
}
