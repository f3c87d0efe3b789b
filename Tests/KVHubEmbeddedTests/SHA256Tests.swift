// The hash of tokens, held against what others compute.

import Foundation
import TestSupport
import Testing

@testable import KVHubEmbedded

@Suite struct SHA256Tests {
  private func hex(_ bytes: [UInt8]) -> String {
    bytes.map { (($0 < 16) ? "0" : "") + String($0, radix: 16) }.joined()
  }

  @Test(
    "The examples of FIPS 180-4 come out as they stand there",
    arguments: [
      ("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
      (
        "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
        1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
      ),
      ("a", 100_000, "6d1cf22d7cc09b085dfc25ee1a1f3ae0265804c607bc2074ad253bcc82fd81ee"),
    ])
  func examples(text: String, times: Int, digest: String) {
    #expect(hex(SHA256.hash(Array(String(repeating: text, count: times).utf8))) == digest)
  }

  @Test func `every length around a block comes out as sha256sum has it`() throws {
    var random = SeededGenerator()
    let scratch = try Scratch(inMemory: true)
    let messages = (0...130).map { random.bytes($0) }
    for (number, message) in messages.enumerated() {
      try Data(message).write(to: URL(fileURLWithPath: scratch.path("\(1_000 + number)")))
    }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", "sha256sum \(scratch.path)/*"]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    let digests = output.split(separator: "\n").map { String($0.prefix(64)) }
    #expect(digests == messages.map { hex(SHA256.hash($0)) }, "seed \(random.seed)")
  }
}
