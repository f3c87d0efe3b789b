// A process that writes is killed with SIGKILL at random moments, again and again. What the tool has acknowledged before
// is there afterwards, and every transaction is there whole or not at all.
//
// The oracle is this process: it knows what it sent and what was acknowledged. Commit n writes the four keys of slot
// n % 40, with contents that follow from n and the size of the round's commits; so the store must equal the model after
// commits 1…v for exactly one v, at least the last acknowledged commit and at most the last one sent.
//
// In every tenth round the commits are large, so that generations of the tail are sealed and folded while it writes.

import Dispatch
import Foundation
import KVStore
import Synchronization
import TestSupport
import Testing

@Suite("kill -9")
struct KillTests {
  static let kills = 200
  static let slots = 40
  static let keysInCommit = 4

  /// What has been sent and found so far.
  struct Model {
    /// The newest commit in the store.
    var last = 0
    /// The commits of up to `last` that were large.
    var large: Set<Int> = []
    /// Whether the commits after `last` are.
    var isLarge = false

    func isLarge(_ number: Int) -> Bool { number > last ? isLarge : large.contains(number) }

    mutating func advance(to version: Int) {
      if isLarge { large.formUnion(last + 1..<version + 1) }
      last = version
    }
  }

  let place: Workplace

  init() throws { place = try Workplace() }

  /// The value of a key of commit `number`; nil: the commit deletes it.
  private static func value(_ number: Int, _ key: Int, _ model: Model) -> String? {
    if number % 7 == 0, key >= 2 { return nil }
    let length = model.isLarge(number) ? 20_000 : number % 29 == 0 ? 9000 : number % 97
    return "\(number) " + String(repeating: Character(Unicode.Scalar(UInt8(97 + number % 26))), count: length)
  }

  private static func name(_ slot: Int, _ key: Int) -> String { "slot/\(slot)/\(key)" }

  private static func lines(_ number: Int, _ model: Model) -> [UInt8] {
    var text = ""
    for key in 0..<keysInCommit {
      let name = name(number % slots, key)
      if let value = value(number, key, model) {
        text += "{\"key\":\"\(name)\",\"value\":\"\(value)\"}\n"
      } else {
        text += "{\"key\":\"\(name)\",\"deleted\":true}\n"
      }
    }
    return Array(text.utf8)
  }

  /// What a store must hold after commits 1…`last`.
  private static func rows(after last: Int, _ model: Model) -> [String: String] {
    var rows: [String: String] = [:]
    for slot in 0..<slots {
      // The newest commit of the slot.
      let number = last - (last % slots - slot + slots) % slots
      guard number > 0 else { continue }
      for key in 0..<keysInCommit { if let value = value(number, key, model) { rows[name(slot, key)] = value } }
    }
    return rows
  }

  /// The first key whose value is not the expected one.
  private static func difference(_ rows: [String: String], _ expected: [String: String]) -> String? {
    Set(rows.keys).union(expected.keys).sorted().first { rows[$0] != expected[$0] }.map {
      "\($0): \(rows[$0]?.prefix(20) ?? "absent"), not \(expected[$0]?.prefix(20) ?? "absent")"
    }
  }

  private func contents(_ path: String) throws -> (version: Int, rows: [String: String]) {
    var options = Store.Options()
    options.readOnly = true
    let store = try Store.openBlocking(at: path, options: options)
    defer { try? store.closeBlocking() }
    return try store.read { snapshot in
      var rows: [String: String] = [:]
      for row in try snapshot.scan() { rows[row.keyText] = row.valueText }
      return (Int(try snapshot.version), rows)
    }
  }

  @Test("No acknowledged commit is lost and none is torn, in 200 kills", .timeLimit(.minutes(10)))
  func kill() async throws {
    var random = SeededGenerator()
    let store = try await place.store("s")
    var model = Model()
    var acknowledgedInAll = 0
    var unacknowledgedButThere = 0
    var foldsUnderWay = 0
    for round in 0..<Self.kills {
      model.isLarge = round % 10 == 9
      let last = model.last
      let (sent, acknowledged) = try await oneKill(store, model, &random)
      if generations(of: store) > 1 { foldsUnderWay += 1 }
      let (version, rows) = try contents(store)
      let comment: Comment =
        "round \(round), seed \(random.seed): \(last) + \(acknowledged) acknowledged, sent \(sent), found \(version)"
      #expect(version >= last + acknowledged, comment)
      #expect(version <= sent, comment)
      #expect(Self.difference(rows, Self.rows(after: version, model)) == nil, comment)
      guard version >= last + acknowledged, version <= sent else { return }
      acknowledgedInAll += acknowledged
      unacknowledgedButThere += version - last - acknowledged
      model.advance(to: version)
    }
    // The kills hit writing processes: else this test would say nothing.
    #expect(acknowledgedInAll > 10 * Self.kills, "seed \(random.seed)")
    #expect(unacknowledgedButThere > 0, "seed \(random.seed)")
    #expect(foldsUnderWay >= Self.kills / 40, "seed \(random.seed)")
    #expect(try await place.run("verify", store).status == 0)
    let log = try await place.run("log", store)
    #expect(log.lines.count == model.last * Self.keysInCommit, "seed \(random.seed)")
  }

  /// How many generations the writer had when it died; all but one were sealed, and being folded or about to be.
  private func generations(of store: String) -> Int {
    // Opening makes the directory anew.
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(store)/tail")) ?? []
    return names.count { $0.hasSuffix(".mdb") }
  }

  /// Starts a writer, kills it, and returns the last commit sent and how many were acknowledged.
  private func oneKill(
    _ store: String, _ model: Model, _ random: inout SeededGenerator
  ) async throws -> (sent: Int, acknowledged: Int) {
    let last = model.last
    enum Moment { case opening, writing, closing, folding }
    let moment =
      model.isLarge ? .folding : [Moment.opening, .writing, .closing].randomElement(using: &random) ?? .writing
    let longest: UInt32 = moment == .opening ? 120_000 : moment == .folding ? 2_000 : 15_000
    let microseconds = UInt32.random(in: 0..<longest, using: &random)
    let acknowledgedBefore =
      switch moment {
      case .opening: 0
      case .writing, .closing: Int.random(in: 1...80, using: &random)
      case .folding: 1
      }
    let commits =
      switch moment {
      case .opening, .writing: 2000
      case .closing: acknowledgedBefore
      case .folding: 80
      }

    let writer = try place.start("load", store, "--batch", "\(Self.keysInCommit)", "--json")
    let sent = Mutex(last)
    let acknowledged = Mutex(0)
    let feeding = DispatchGroup()
    DispatchQueue.global().async(group: feeding) {
      for number in last + 1...last + commits {
        // Counted before it is written: what the writer saw of it is not known.
        sent.withLock { $0 = number }
        guard writer.write(Self.lines(number, model)) else { return }
      }
      writer.closeInput()
    }
    let enough = DispatchSemaphore(value: 0)
    DispatchQueue.global().async(group: feeding) {
      var line: [UInt8] = []
      while true {
        let some = writer.readSome()
        if some.isEmpty { break }
        for byte in some {
          line.append(byte)
          guard byte == UInt8(ascii: "\n") else { continue }
          // The summary at the end has no version.
          let isCommit = line.starts(with: Array("{\"version\":".utf8))
          line.removeAll()
          guard isCommit else { continue }
          let count = acknowledged.withLock { count in
            count += 1
            return count
          }
          if count == acknowledgedBefore { enough.signal() }
        }
      }
      enough.signal()
    }
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      DispatchQueue.global().async {
        if acknowledgedBefore > 0 { enough.wait() }
        if moment == .folding {
          // Half a megabyte fills the first generation, and two more the second one.
          for _ in 0..<500 {
            if generations(of: store) > 1 { break }
            usleep(100)
          }
        }
        usleep(microseconds)
        writer.kill(SIGKILL)
        _ = writer.waitBlocking()
        feeding.wait()
        continuation.resume()
      }
    }
    return (sent.withLock { $0 }, acknowledged.withLock { $0 })
  }
}
