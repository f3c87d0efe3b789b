// kvsync conflicts and the policies of kvsync sync, with a hub.

import Foundation
import Testing

@Suite("conflicts") struct ConflictCommandTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  /// A replica that found conflicts of its values with those of another one.
  private func conflicts(_ keys: [String], _ options: String...) async throws -> String {
    let hub = try await Hub(place)
    let theirs = try await place.store("theirs", keys.map { (Array($0.utf8), Array("theirs".utf8)) })
    let mine = try await place.store("mine", keys.map { (Array($0.utf8), Array("mine".utf8)) })
    #expect(try await place.run("sync", theirs, hub.url()).status == 0)
    let outcome = try await place.run(Workplace.tool, ["sync", mine, hub.url()] + options, input: [])
    let waits = outcome.messages.contains("to decide")
    #expect(outcome.status == (waits ? 3 : 0), "\(outcome.messages)")
    await hub.end()
    return mine
  }

  @Test("A policy for each prefix, the longest counts; manual leaves the decision to the user, who makes it once")
  func manual() async throws {
    let mine = try await conflicts(
      ["a=1", "b/1", "b/c/1", "d"], "--policy", "remoteWins", "--policy=a==localWins", "--policy", "b/=manual",
      "--policy", "b/c=localWins")
    let list = try await place.run("conflicts", "list", mine)
    #expect(list.status == 3 && list.messages.contains("1 conflict waits"))
    let winners = list.lines.map { $0.split(separator: "\t").dropFirst().joined(separator: " ") }
    #expect(winners.sorted() == ["local a=1", "local b/c/1", "remote d", "undecided b/1"])
    let open = try await place.run("conflicts", "list", mine, "--unresolved", "--json").objects()
    #expect(
      open.count == 1 && open[0]["localValue"] as? String == "mine" && open[0]["remoteValue"] as? String == "theirs")
    let id = try #require(open[0]["id"] as? String)
    let shown = try await place.run("conflicts", "show", mine, id)
    #expect(shown.status == 0 && shown.text.contains("mine") && shown.text.contains("theirs"))
    #expect(try await place.run("get", mine, "b/1").text == "theirs")
    let resolved = try await place.run("conflicts", "resolve", mine, id, "--with", "local", "--json").object()
    #expect(resolved["resolved"] as? Int == 1 && resolved["unresolved"] as? Int == 0)
    #expect(try await place.run("get", mine, "b/1").text == "mine")
    #expect(try await place.run("conflicts", "resolve", mine, id, "--with", "local").status == 1)
    #expect(try await place.run("conflicts", mine).status == 0)
    #expect(try await place.run("info", mine, "--json").object()["pendingChanges"] as? Int == 1)
  }

  @Test("resolve --all, with a value or a deletion; revert writes what lost, and says under which version")
  func resolveAndRevert() async throws {
    let mine = try await conflicts(["a", "b"], "--policy", "manual")
    #expect(try await place.run("conflicts", "resolve", mine, "--all", "--value", "both").status == 0)
    #expect(try await place.run("get", mine, "b").text == "both")
    let objects = try await place.run("conflicts", "list", mine, "--json").objects()
    let ids = objects.compactMap { $0["id"] as? String }
    let reverted = try await place.run("conflicts", "revert", mine, ids[0], ids[1], "--json").objects()
    #expect(reverted.map { $0["id"] as? String } == ids)
    #expect(try await place.run("get", mine, "a").text == "mine")
    let shown = try await place.run("conflicts", "show", mine, ids[0], "--json").object()
    #expect(shown["reverted"] as? Bool == true)
    #expect(shown["decidedVersion"] as? Int == reverted[0]["version"] as? Int)
    #expect(try await place.run("conflicts", "revert", mine, ids[0]).status == 1)
  }

  @Test(
    "What cannot be is wrong usage",
    arguments: [
      ["conflicts", "show", "s", "1"], ["conflicts", "resolve", "s", "1.0"],
      ["conflicts", "resolve", "s", "--with", "local"],
      ["conflicts", "resolve", "s", "1.0", "--with", "local", "--value", "v"],
      ["conflicts", "resolve", "s", "1.0", "--with", "x"],
      ["conflicts", "revert", "s"], ["sync", "s", "kvsync://h:1/s", "--policy", "a=coin"],
      ["sync", "s", "kvsync://h:1/s", "--policy", "=manual"],
      ["sync", "s", "kvsync://h:1/s", "--policy", "manual", "--policy", "localWins"],
    ])
  func usage(_ arguments: [String]) async throws {
    let outcome = try await place.run(Workplace.tool, arguments, input: [])
    #expect(outcome.status == 64 && outcome.output.isEmpty, "\(outcome.messages)")
  }

  @Test("A conflict that is not there: status 1, with its number")
  func absent() async throws {
    let store = try await place.store("s")
    for arguments in [
      ["show", store, "7.0"], ["resolve", store, "7.0", "--with", "local"], ["revert", store, "7.0"],
    ] {
      let outcome = try await place.run(Workplace.tool, ["conflicts"] + arguments, input: [])
      #expect(outcome.status == 1 && outcome.messages.contains("7.0"), "\(outcome.messages)")
    }
  }
}
