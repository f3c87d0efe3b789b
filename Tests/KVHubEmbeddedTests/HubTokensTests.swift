// The list of tokens: what it grants, what it keeps, and that it fails closed.

import Foundation
import KVHub
import KVStore
import Synchronization
import TestSupport
import Testing

@testable import KVHubEmbedded

@Suite(.timeLimit(.minutes(1))) struct HubTokensTests {
  private let scratch: Scratch
  private var directory: String { scratch.path("hub") }
  private var file: URL { URL(fileURLWithPath: "\(directory)/tokens") }

  init() throws { scratch = try Scratch() }

  private static func isRefused(_ decision: Hub.Decision, _ reason: String) -> Bool {
    if case .refused(let text) = decision { text.contains(reason) } else { false }
  }

  @Test func `everybody is admitted until there is a token, and then nobody without one`() throws {
    let tokens = try HubTokens(directory: directory)
    #expect(tokens.isEmpty)
    #expect(tokens.decide("notes", []) == .granted(Hub.Grant(principal: nil, right: .admin)))
    // Another process creates it.
    let (text, token) = try HubTokens(directory: directory).create(for: "alice", right: .write)
    #expect(!tokens.isEmpty)
    #expect(Self.isRefused(tokens.decide("notes", []), "without a token"))
    #expect(
      tokens.decide("notes", Array(text.utf8))
        == .granted(Hub.Grant(principal: "alice", right: .write, mayCreateSpace: false)))
    #expect(try tokens.list() == [token])
  }

  @Test func `a token opens its spaces, for its time, until it is revoked`() throws {
    let now = Mutex<UInt64>(1_000_000)
    let tokens = try HubTokens(directory: directory) { now.withLock { $0 } }
    let (text, token) = try tokens.create(
      for: "alice", spaces: ["notes", "lists"], right: .write, lifetime: .seconds(10))
    let granted = Hub.Decision.granted(Hub.Grant(principal: "alice", right: .write, mayCreateSpace: true))
    #expect(tokens.decide("notes", Array(text.utf8)) == granted)
    #expect(tokens.decide("lists", Array(text.utf8)) == granted)
    #expect(Self.isRefused(tokens.decide("other", Array(text.utf8)), "not for space"))
    now.withLock { $0 += 9_999 }
    #expect(tokens.decide("notes", Array(text.utf8)) == granted)
    now.withLock { $0 += 1 }
    #expect(Self.isRefused(tokens.decide("notes", Array(text.utf8)), "has expired"))
    let (second, other) = try tokens.create(for: "alice", right: .admin)
    #expect(
      tokens.decide("other", Array(second.utf8)) == .granted(Hub.Grant(principal: "alice", right: .admin)))
    #expect(try tokens.revoke(other.id)?.revoked == 1_010_000)
    #expect(Self.isRefused(tokens.decide("other", Array(second.utf8)), "was revoked"))
    #expect(try tokens.revoke("nonsense") == nil)
    #expect(try tokens.list().map { $0.state(at: 1_010_000) } == [.expired, .revoked])
    #expect(try tokens.list().map(\.id) == [token.id, other.id])
  }

  @Test func `what is not a token, or not quite, opens nothing`() throws {
    let tokens = try HubTokens(directory: directory)
    let (text, token) = try tokens.create(for: "alice", right: .admin)
    let bytes = Array(text.utf8)
    #expect(bytes.count == 80 && text.hasPrefix("kvsync_\(token.id)_"))
    for index in bytes.indices {
      var other = bytes
      other[index] ^= 1
      #expect(Self.isRefused(tokens.decide("notes", other), "does not know"))
    }
    // The right id, and another secret.
    var random = SeededGenerator()
    for _ in 0..<2_000 {
      let secret = (0..<64).map { _ in
        UInt8(ascii: "0123456789abcdef".unicodeScalars.randomElement(using: &random) ?? "0")
      }
      let other = bytes.prefix(16) + secret
      #expect(Self.isRefused(tokens.decide("notes", Array(other)), "does not know"), "seed \(random.seed)")
    }
    for other in [Array(bytes.dropLast()), bytes + [0x30], [0], [UInt8](repeating: 0xFF, count: 80), bytes + bytes] {
      #expect(Self.isRefused(tokens.decide("notes", other), "does not know"))
    }
  }

  @Test func `the secret is nowhere on disk, and the list is its owner's alone`() throws {
    let tokens = try HubTokens(directory: directory)
    let secrets = try (0..<20).map { _ in try tokens.create(for: "alice").text }
    #expect(Set(secrets.map { $0.suffix(64) }).count == 20)
    let names = try FileManager.default.subpathsOfDirectory(atPath: directory)
    for name in names {
      let text = String(decoding: FileManager.default.contents(atPath: "\(directory)/\(name)") ?? Data(), as: UTF8.self)
      for secret in secrets { #expect(!text.contains(secret.suffix(64))) }
    }
    let mode = try FileManager.default.attributesOfItem(atPath: file.path)[.posixPermissions] as? NSNumber
    #expect(mode?.intValue == 0o600)
  }

  @Test func `a list that is damaged or gone admits nobody, and is not written over`() throws {
    let tokens = try HubTokens(directory: directory)
    let (text, _) = try tokens.create(for: "alice", right: .admin)
    let good = try Data(contentsOf: file)
    for bad in [Data(), Data("[]x".utf8), good.dropLast(10), Data("[{}]".utf8)] {
      try bad.write(to: file)
      #expect(Self.isRefused(tokens.decide("notes", Array(text.utf8)), "damaged"))
      #expect(Self.isRefused(tokens.decide("notes", []), "damaged"))
      let error = #expect(throws: StoreError.self) { try tokens.create(for: "bob") }
      #expect(error?.code == .corrupt)
      #expect(try Data(contentsOf: file) == bad)
    }
    try FileManager.default.removeItem(at: file)
    #expect(Self.isRefused(tokens.decide("notes", []), "gone"))
    // A hub that is started then has never seen it.
    let restarted = try HubTokens(directory: directory)
    #expect(Self.isRefused(restarted.decide("notes", []), "gone") && !restarted.isEmpty)
    #expect(#expect(throws: StoreError.self) { try restarted.list() }?.message.contains("tokens.required") == true)
    try good.write(to: file)
    #expect(!Self.isRefused(tokens.decide("notes", Array(text.utf8)), ""))
  }

  @Test func `several who change the list at the same time lose nothing of each other`() async throws {
    let directory = directory
    _ = try HubTokens(directory: directory)
    await withTaskGroup { group in
      for writer in 0..<4 {
        group.addTask {
          await withCheckedContinuation { continuation in
            Thread {
              for number in 0..<10 {
                // Each as a process of its own would.
                do {
                  _ = try HubTokens(directory: directory).create(for: "\(writer)-\(number)")
                } catch { Issue.record(error) }
              }
              continuation.resume()
            }.start()
          }
        }
      }
    }
    #expect(Set(try HubTokens(directory: directory).list().map(\.principal)).count == 40)
  }

  @Test func `what a token cannot be made of is refused with the rule`() throws {
    let tokens = try HubTokens(directory: directory)
    for (name, spaces) in [
      ("", nil), ("a\tb", nil), (String(repeating: "x", count: 129), nil), ("alice", []), ("alice", ["../etc"]),
      ("alice", [".hidden"]), ("alice", [String](repeating: "notes", count: 257)),
    ] as [(String, [String]?)] {
      let error = #expect(throws: HubError.self) { try tokens.create(for: name, spaces: spaces) }
      #expect(error?.code == .invalidToken)
    }
    #expect(tokens.isEmpty)
  }
}
