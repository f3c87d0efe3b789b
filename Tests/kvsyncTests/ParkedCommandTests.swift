// kvsync parked: what the hub refused, from the command line.

import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

@Suite("parked") struct ParkedCommandTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  /// A store with three parked commits, of codes 1, 2 and 2.
  private func parked() async throws -> String {
    let path = try await place.store("s")
    let store = try await Store.open(at: path)
    try await store.write { transaction in
      try transaction.put("one\tand a tab", for: "a")
      try transaction.delete("b")
    }
    try await store.put([0xFF, 0x00], for: "c")
    try await store.put("three", for: "d")
    try await store.put("applied", for: "e")
    let state = store.replicaState()
    let exceptions = [(1, 1, "too large"), (2, 2, "no"), (3, 2, "no")].map { version, code, message in
      CommitException(version: Version(version), reason: .refused(code: UInt16(code), message: message))
    }
    _ = try await store.acknowledge(
      Acknowledgement(through: 4, exceptions: exceptions, head: 1), digest: state.local.digest, localChanges: 5,
      localBytes: state.pendingBytes, epoch: Identity(high: 1, low: 1))
    try await store.put("newer", for: "d")
    try await store.close()
    return path
  }

  @Test("list has a line for each, and status 3 as long as there are some; info counts them")
  func list() async throws {
    let path = try await parked()
    let text = try await place.run("parked", "list", path)
    let status = try await place.run("status", path, "--json").object()
    #expect(status["parkedCommits"] as? Int == 3 && status["parkedBytes"] as? Int == 24)
    #expect(try await place.run("status", path).text.contains("3 commits"))
    #expect(text.status == 3 && text.lines == ["1\t1\t2\t15\ttoo large", "2\t2\t1\t3\tno", "3\t2\t1\t6\tno"])
    let objects = try await place.run("parked", "list", path, "--json").objects()
    #expect(objects.map { $0["version"] as? Int } == [1, 2, 3])
    #expect(objects.map { $0["code"] as? Int } == [1, 2, 2])
    #expect(objects[0]["reason"] as? String == "too large" && objects[0]["changes"] as? Int == 2)
    #expect(objects[0]["time"] is String && objects[0]["parkedTime"] is String && objects[0]["bytes"] as? Int == 15)
    let info = try await place.run("info", path, "--json").object()
    #expect(info["parkedCommits"] as? Int == 3 && info["parkedBytes"] as? Int == 24)
    let empty = try await place.store("empty")
    let none = try await place.run("parked", "list", empty)
    #expect(none.status == 0 && none.output.isEmpty)
  }

  @Test("show has each change, and whether it is what the key has")
  func show() async throws {
    let path = try await parked()
    let text = try await place.run("parked", "show", path, "1")
    #expect(text.status == 0 && text.lines.dropFirst() == ["current\ta\tone\\tand a tab", "current\tb\t(deleted)"])
    #expect(text.lines.first?.contains("too large") == true)
    let json = try await place.run("parked", "show", path, "3", "--json").object()
    let changes = try #require(json["changes"] as? [[String: Any]])
    #expect(changes.count == 1 && changes[0]["current"] as? Bool == false && changes[0]["value"] as? String == "three")
    for arguments in [["show", path, "4"], ["retry", path, "4"], ["drop", path, "4"], ["export", path, "4"]] {
      let absent = try await place.run(Workplace.tool, ["parked"] + arguments, input: [])
      #expect(absent.status == 1 && absent.messages.contains("version 4"), "\(absent.messages)")
    }
  }

  @Test("export prints whole commits whose changes load takes, and changes nothing")
  func export() async throws {
    let path = try await parked()
    let all = try await place.run("parked", "export", path, "--all")
    #expect(all.status == 0)
    let objects = try all.objects()
    #expect(objects.map { $0["version"] as? Int } == [1, 2, 3])
    var lines = Data()
    for change in objects.flatMap({ $0["changes"] as? [[String: Any]] ?? [] }) {
      lines += try JSONSerialization.data(withJSONObject: change) + [UInt8(ascii: "\n")]
    }
    let copy = try await place.store("copy")
    #expect(try await place.run("load", copy, input: Array(lines)).status == 0)
    #expect(try await place.run("get", copy, "a").text == "one\tand a tab")
    #expect(try await place.run("get", copy, "c").output == [0xFF, 0x00])
    #expect(try await place.run("get", copy, "d").text == "three")
    let alone = try await place.run("parked", "export", path, "--all", "--changes")
    #expect(alone.lines.count == objects.reduce(0) { $0 + (($1["changes"] as? [Any])?.count ?? 0) })
    let second = try await place.store("second")
    #expect(try await place.run("load", second, input: alone.output).status == 0)
    #expect(try await place.run("dump", second).output == place.run("dump", copy).output)
    let some = try await place.run("parked", "export", path, "--code", "2", "--json").objects()
    #expect(some.map { $0["version"] as? Int } == [2, 3])
    #expect(try await place.run("info", path, "--json").object()["parkedCommits"] as? Int == 3)
  }

  @Test("retry and drop decide about those that are named, those with a code, or all")
  func decide() async throws {
    let path = try await parked()
    let dropped = try await place.run("parked", "drop", path, "3", "1", "--json").object()
    #expect(dropped["dropped"] as? Int == 2 && dropped["rowsLeft"] as? Int == 2 && dropped["parked"] as? Int == 1)
    let none = try await place.run("parked", "retry", path, "--code", "1", "--json").object()
    #expect(none["retried"] as? Int == 0 && none["parked"] as? Int == 1)
    let retried = try await place.run("parked", "retry", path, "--all", "--json").object()
    #expect(retried["retried"] as? Int == 1 && retried["parked"] as? Int == 0)
    #expect(try await place.run("info", path, "--json").object()["pendingChanges"] as? Int == 2)
    for arguments in [["retry", path], ["drop", path, "1", "--all"], ["export", path], ["retry", path, "x"]] {
      let outcome = try await place.run(Workplace.tool, ["parked"] + arguments, input: [])
      #expect(outcome.status == 64 && outcome.output.isEmpty, "\(arguments): \(outcome.messages)")
    }
  }
}
