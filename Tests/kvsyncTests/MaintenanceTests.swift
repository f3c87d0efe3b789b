// Backup, compaction and removal from the command line, and verify of what is damaged.

import Foundation
import TestSupport
import Testing

@Suite("Maintenance")
struct MaintenanceTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  private func rows(_ count: Int) -> [(key: [UInt8], value: [UInt8])] {
    (0..<count).map { (Array("key \($0)".utf8), Array("value of \($0)".utf8)) }
  }

  private func damage(_ file: String, at place: Int) throws {
    var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
    for offset in 0..<64 { bytes[place + offset] ^= 0x5A }
    try Data(bytes).write(to: URL(fileURLWithPath: file))
  }

  @Test("backup copies a store that can be read as it is; a place that is taken is refused, and changed by nothing")
  func backup() async throws {
    let store = try await place.store("s", rows(50))
    let outcome = try await place.run("backup", store, place.file("copy"), "--json")
    let object = try outcome.object()
    #expect(outcome.status == 0 && object["keys"] as? Int == 50 && object["path"] as? String == place.file("copy"))
    let info = try await place.run("info", place.file("copy"), "--json").object()
    #expect(info["identity"] as? String == object["identity"] as? String)
    let dump = try await place.run("dump", place.file("copy"))
    #expect(try await place.run("dump", store).output == dump.output && dump.lines.count == 50)
    let again = try await place.run("backup", store, place.file("copy"))
    #expect(again.status == 1 && again.messages.contains("already") && again.output.isEmpty)
    #expect(try await place.run("verify", place.file("copy")).status == 0)
    // Written to, it is another store.
    #expect(try await place.run("put", place.file("copy"), "k", "v").status == 0)
    let other = try await place.run("info", place.file("copy"), "--json").object()
    #expect(other["identity"] as? String != object["identity"] as? String && other["keys"] as? Int == 51)
    #expect(try await place.run("verify", place.file("copy")).status == 0)
    #expect(try await place.run("backup", place.file("none"), place.file("x")).status == 10)
    #expect(try await place.run("backup", store, place.file("no/x")).status == 10)
  }

  @Test("compact and destroy work on stores that nobody has open, and on nothing else")
  func compactAndDestroy() async throws {
    let store = try await place.store("s", rows(2_000))
    for key in ["key 1", "key 2"] { _ = try await place.run("rm", store, key) }
    let compacted = try await place.run("compact", store, "--json")
    #expect(compacted.status == 0)
    #expect(try compacted.object()["freedBytes"] as? Int != nil)
    #expect(try await place.run("verify", store).status == 0)
    #expect(try await place.run("ls", store).lines.count == 1_998)

    let loading = try place.start("load", store)
    loading.write(Array("{\"key\":\"a\",\"value\":\"b\"}\n".utf8))
    let deadline = ContinuousClock.now + .seconds(30)
    while !FileManager.default.fileExists(atPath: "\(store)/tail/shared"), ContinuousClock.now < deadline {
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(try await place.run("compact", store).status == 11)
    #expect(try await place.run("destroy", store).status == 11)
    loading.closeInput()
    _ = await loading.wait()

    try place.write([1], to: "s/mine")
    let destroyed = try await place.run("destroy", store, "--json")
    #expect(destroyed.status == 0)
    #expect(try destroyed.object()["left"] as? String == place.file("s/mine"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: store) == ["mine"])
    #expect(try await place.run("destroy", store).status == 10)
    #expect(try await place.run("destroy", place.file("none")).status == 10)
  }

  @Test("verify survives whatever happens to the process that reads the store, and says what can be got out of it")
  func damagedStructure() async throws {
    let store = try await place.store("s", rows(500))
    let index = "\(store)/index.mdb"
    let intact = try Data(contentsOf: URL(fileURLWithPath: index))
    for page in 2..<min(intact.count / 4_096, 12) {
      try intact.write(to: URL(fileURLWithPath: index))
      try damage(index, at: page * 4_096)
      let outcome = try await place.run("verify", store)
      #expect(outcome.status == 0 || outcome.status == 14, "\(page): \(outcome.messages)")
      if outcome.status == 14 {
        #expect(
          outcome.messages.contains("--from-log") && outcome.messages.contains("can be read"), "\(outcome.messages)")
        let json = try await place.run("verify", store, "--json")
        let error = try #require(
          try JSONSerialization.jsonObject(with: Data(json.messages.utf8)) as? [String: Any])
        #expect(json.status == 14 && error["exitStatus"] as? Int == 14 && json.output.isEmpty)
      }
    }
    for page in 2..<intact.count / 4_096 { try damage(index, at: page * 4_096) }
    #expect(try await place.run("verify", store).status == 14)
    #expect(try await place.run("get", store, "key 7").status == 14)
    #expect(try await place.run("compact", store, "--from-log").status == 0)
    #expect(try await place.run("get", store, "key 7").text == "value of 7")
    #expect(try await place.run("verify", store).status == 0)
  }

  @Test("A process that dies while it reads is damage when its signal says so, and a failure otherwise")
  func readerDies() async throws {
    let store = try await place.store("s", rows(20_000))
    for (signal, status) in [(SIGSEGV, 14), (SIGABRT, 14), (SIGBUS, 14), (SIGKILL, 1)] as [(Int32, Int32)] {
      // The process may have ended before it is struck: then again.
      for _ in 0..<20 {
        let verify = try place.start("verify", store)
        let children = "/proc/\(verify.identifier)/task/\(verify.identifier)/children"
        var child: pid_t?
        while child == nil, FileManager.default.fileExists(atPath: children) {
          let text = (try? String(contentsOfFile: children, encoding: .utf8)) ?? ""
          child = text.split(separator: " ").first.flatMap { pid_t($0) }
        }
        if let child { kill(child, signal) }
        let ended = await verify.wait()
        if ended.status == 0 { continue }
        #expect(ended.status == status, "\(signal): \(verify.messages)")
        #expect(verify.messages.contains("signal \(signal)"))
        break
      }
    }
    #expect(try await place.run("verify", store).status == 0)
  }
}
