// A directory for one test, and the tool run in it.

import Dispatch
import Foundation
import TestSupport
import Testing

/// What a run of the tool gave.
struct Outcome: Sendable {
  var status: Int32
  var output: [UInt8]
  var messages: String

  var text: String { String(decoding: output, as: UTF8.self) }
  var lines: [String] { text.split(separator: "\n").map(String.init) }

  /// Standard output as one JSON object.
  func object() throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(output)) as? [String: Any])
  }

  /// Each line of standard output as a JSON object.
  func objects() throws -> [[String: Any]] {
    try lines.map { try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]) }
  }
}

final class Workplace: Sendable {
  /// The tool is built beside the bundle of the tests.
  static let tool: String = {
    let bundle = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
    var folders = [bundle.deletingLastPathComponent()]
    folders += Bundle.allBundles.filter { $0.bundlePath.hasSuffix(".xctest") }
      .map { $0.bundleURL.deletingLastPathComponent() }
    let paths = folders.map { $0.appendingPathComponent("kvsync").path }
    return paths.first { FileManager.default.isExecutableFile(atPath: $0) } ?? paths[0]
  }()

  private let scratch: Scratch
  var path: String { scratch.path }

  /// In memory, where there is such a place, nothing waits for a disk.
  init(inMemory: Bool = false) throws {
    // A child that dies while it is written to is an error of `write`, not the end of the tests.
    signal(SIGPIPE, SIG_IGN)
    scratch = try Scratch(inMemory: inMemory)
  }

  func file(_ name: String) -> String { scratch.path(name) }

  func write(_ bytes: [UInt8], to name: String) throws { try Data(bytes).write(to: URL(fileURLWithPath: file(name))) }

  /// Starts the tool with a pipe to its standard input.
  func start(_ arguments: String...) throws -> ChildProcess { try start(arguments) }

  func start(_ arguments: [String]) throws -> ChildProcess {
    try ChildProcess(Self.tool, arguments, errorFile: file("\(UUID().uuidString).err"))
  }

  /// Runs the tool to its end.
  @discardableResult
  func run(_ arguments: String..., input: [UInt8] = []) async throws -> Outcome {
    try await run(Self.tool, arguments, input: input)
  }

  /// Runs a shell command to its end; `$kvsync` is the tool.
  func shell(_ command: String, _ arguments: String...) async throws -> Outcome {
    try await run("/bin/sh", ["-c", "kvsync='\(Self.tool)'; \(command)", "sh"] + arguments, input: [])
  }

  func run(_ path: String, _ arguments: [String], input: [UInt8]) async throws -> Outcome {
    let name = UUID().uuidString
    try write(input, to: "\(name).in")
    let child = try ChildProcess(path, arguments, inputFile: file("\(name).in"), errorFile: file("\(name).err"))
    let output = await withCheckedContinuation { continuation in
      DispatchQueue.global().async { continuation.resume(returning: child.readAll()) }
    }
    let ended = await child.wait()
    let messages = try String(decoding: Data(contentsOf: URL(fileURLWithPath: file("\(name).err"))), as: UTF8.self)
    return Outcome(status: ended.status, output: output, messages: messages)
  }

  /// Makes a store and loads `rows` into it.
  func store(_ name: String, _ rows: [(key: [UInt8], value: [UInt8])] = []) async throws -> String {
    #expect(try await run("init", file(name)).status == 0)
    if !rows.isEmpty {
      var lines: [UInt8] = []
      for row in rows { lines += Self.line(row.key, row.value) }
      #expect(try await run("load", file(name), input: lines).status == 0)
    }
    return file(name)
  }

  /// One row as JSON, made by Foundation and not by the code under test.
  static func line(_ key: [UInt8], _ value: [UInt8]) -> [UInt8] {
    let object = ["keyBase64": Data(key).base64EncodedString(), "valueBase64": Data(value).base64EncodedString()]
    return Array((try? JSONSerialization.data(withJSONObject: object)) ?? Data()) + [UInt8(ascii: "\n")]
  }
}
