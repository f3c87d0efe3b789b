// A hub as a process, and clients that mean it no good.
//
// KVSYNC_FRAMES says how many hostile frames are sent; `tools/test --long` sends a million.

import Foundation
import KVLog
import KVProtocol
import Synchronization
import TestSupport
import Testing

import struct HubTestSupport.TestReplica

@Suite("Hostile clients", .serialized, .timeLimit(.minutes(120)))
struct HostileClientTests {
  let place: Workplace

  init() throws { place = try Workplace() }

  private static let frames = ProcessInfo.processInfo.environment["KVSYNC_FRAMES"].flatMap { Int($0) } ?? 3_000

  /// Anonymous memory of a process, in bytes.
  private static func memory(_ process: ChildProcess) -> Int {
    let status = (try? String(contentsOfFile: "/proc/\(process.identifier)/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") } ?? ""
    return (Int(line.filter(\.isNumber)) ?? 0) << 10
  }

  /// Sends frames from several threads; each begins again when the hub hangs up. Gives how many were sent, and how many
  /// connections that took.
  private static func storm(_ port: UInt16, frames: Int, _ random: SeededGenerator) async -> (frames: Int, links: Int) {
    let threads = 3
    var random = random
    let seeds = (0..<threads).map { _ in random.next() }
    return await withTaskGroup(of: (Int, Int).self) { group in
      for seed in seeds {
        group.addTask {
          await withCheckedContinuation { continuation in
            Thread {
              var hostile = HostileFrames(random: SeededGenerator(seed: seed))
              var (sent, links) = (0, 0)
              while sent < frames / threads {
                let client = HostileClient(port: port)
                links += 1
                client.send(hostile.greeting())
                sent += 1
                for _ in 0..<12 where client.isOpen {
                  client.send(hostile.next())
                  sent += 1
                  // Time enough to be hung up on: what comes after that is not looked at.
                  client.receive(milliseconds: 1)
                }
              }
              continuation.resume(returning: (sent, links))
            }.start()
          }
        }
      }
      return await group.reduce(into: (0, 0)) { $0 = ($0.0 + $1.0, $0.1 + $1.1) }
    }
  }

  @Test("Random and mutated frames stop no hub: it serves on, in the memory it had")
  func storm() async throws {
    var random = SeededGenerator()
    let seed = random.seed
    let hub = try await Hub(place, options: ["--max-spaces", "8"])
    let store = try await place.store("s", (0..<500).map { (Array("key/\($0)".utf8), random.bytes(50)) })
    #expect(try await place.run("sync", store, hub.url()).status == 0)

    _ = await Self.storm(hub.port, frames: Self.frames / 3, random)
    let before = Self.memory(hub.process)
    _ = random.next()
    let (frames, links) = await Self.storm(hub.port, frames: Self.frames - Self.frames / 3, random)
    let after = Self.memory(hub.process)
    print("\(frames) frames over \(links) links: \(before >> 10) KiB before, \(after >> 10) KiB after, seed \(seed)")
    #expect(after < before + (24 << 20), "seed \(seed): \(before >> 10) KiB became \(after >> 10) KiB")

    try await place.run("put", store, "after", "the storm")
    let sync = try await place.run("sync", store, hub.url())
    #expect(sync.status == 0, "seed \(seed): \(sync.messages)")
    let verified = try await place.run("verify", store, "--hub", hub.url())
    #expect(verified.status == 0, "seed \(seed): \(verified.messages)")
    #expect(await hub.end() == 0, "seed \(seed): \(hub.process.messages.suffix(2_000))")
  }

  @Test("The name of a space leads nowhere but to a space")
  func names() async throws {
    let hub = try await Hub(place)
    let before = try FileManager.default.subpathsOfDirectory(atPath: place.path).filter { !$0.hasPrefix("hub/") }
    for name in [
      "../outside", "..", ".", "a/b", "/etc/kvsync", "a\\..\\b", ".hidden", "a\0b", "%2e%2e%2f", "A", "a b", "ü", "",
      String(repeating: "a", count: 65), String(repeating: "../", count: 20) + "tmp/kvsync",
    ] {
      for mode in [SessionMode.push, .pull, .compare] {
        let client = HostileClient(port: hub.port)
        client.send(Message.hello(TestReplica().hello(mode, space: name)).encoded().frames())
        let answer = client.receive(milliseconds: 5_000)
        // A refusal (kind 3) because of the name (code 2), or not even that.
        #expect(answer.isEmpty || answer[4] == MessageKind.refuse.rawValue && answer[12] == 2, "\(name)")
        #expect(client.isHungUp(within: 10), "\(name)")
      }
    }
    // What is not UTF-8 is no name either.
    let bytes = Message.hello(TestReplica().hello(.push, space: "zz")).encoded().head
    var payload = Array(bytes)
    let name = try #require(payload.firstRange(of: Array("zz".utf8)))
    payload.replaceSubrange(name, with: [0xFF, 0xFE])
    let client = HostileClient(port: hub.port)
    client.send(unsafe FrameHeader(.hello, hasMore: false, payload: payload.span.bytes).encoded + payload)
    #expect(client.isHungUp(within: 10))
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.file("hub/spaces")).isEmpty)
    let after = try FileManager.default.subpathsOfDirectory(atPath: place.path).filter { !$0.hasPrefix("hub/") }
    #expect(after.sorted() == before.sorted())
    let store = try await place.store("s", [([1], [2])])
    #expect(try await place.run("sync", store, hub.url()).status == 0)
    #expect(await hub.end() == 0)
  }
}
