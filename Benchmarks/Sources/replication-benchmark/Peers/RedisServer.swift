// Redis: a replica that was stopped goes on, with a backlog of the same rows.

import BenchmarkSupport
import Foundation

final class RedisServer {
  private let daemon: Daemon
  private let port: Int
  private let password: String
  let client: RedisClient

  /// A server in `directory`, in memory only unless `appends`, and a replica of `master` if there is one.
  init(_ directory: String, replicating master: RedisServer? = nil, backlogBytes: Int, appends: Bool = false) throws {
    guard let program = Daemon.program(["redis-server"]) else {
      throw BenchmarkError("redis-server is not installed (Debian: apt-get install redis-server)")
    }
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let port = try Socket.freePort()
    // Whoever else is on this machine has no business here.
    let password = master?.password ?? "\(UInt64.random(in: 0...UInt64.max))"
    var settings = [
      "bind 127.0.0.1", "port \(port)", "dir \(directory)", "save \"\"", "requirepass \(password)",
      "masterauth \(password)", "repl-backlog-size \(backlogBytes)", "client-output-buffer-limit replica 0 0 0",
      "repl-timeout 36000", "repl-diskless-sync-delay 0", "maxmemory 0",
      appends ? "appendonly yes" : "appendonly no", "appendfsync always",
    ]
    if let master { settings.append("replicaof 127.0.0.1 \(master.port)") }
    let file = directory + "/redis.conf"
    try writePrivate(settings.joined(separator: "\n"), to: file)
    daemon = try Daemon([program, file], log: directory + "/log", signal: "KILL")
    self.port = port
    self.password = password
    do {
      client = try daemon.waitUntilReady { try RedisClient(port: port, password: password) }
    } catch {
      daemon.stop()
      throw error
    }
  }

  func stop() { daemon.stop() }

  static var version: String {
    guard let program = Daemon.program(["redis-server"]) else { return "not installed" }
    // "Redis server v=7.0.15 sha=…"
    let line = Daemon.firstLine(of: program, ["--version"]) ?? ""
    return line.split(separator: " ").first { $0.hasPrefix("v=") }.map { String($0.dropFirst(2)) } ?? "unknown version"
  }

  /// Stops a replica, writes the backlog, and lets the replica go on until it has acknowledged all.
  static func drain(_ backlog: Backlog, _ place: Place, isDurable: Bool) throws -> Measurement {
    let backlogBytes = backlog.changes * 200 + 64 << 20
    let master = try RedisServer(place.scratch + "/master", backlogBytes: backlogBytes)
    defer { master.stop() }
    let replica = try RedisServer(
      place.scratch + "/replica", replicating: master, backlogBytes: backlogBytes, appends: isDurable)
    defer { replica.stop() }
    let connecting = Stopwatch()
    while try !replica.client.information("replication").contains("master_link_status:up") {
      guard connecting.seconds < 20 else { throw BenchmarkError("the replica of Redis does not connect") }
      usleep(20_000)
    }
    guard let process = try replica.client.value("process_id", of: "server").flatMap({ Int32($0) }) else {
      throw BenchmarkError("Redis does not tell its process")
    }
    kill(process, SIGSTOP)
    try master.client.load(backlog, seed: place.seed)
    sync()
    let memory = MemoryProbe(process: process)
    let stopwatch = Stopwatch()
    kill(process, SIGCONT)
    guard try master.client.command(["WAIT", "1", "3600000"]) == ":1" else {
      throw BenchmarkError("the replica of Redis did not catch up")
    }
    let seconds = stopwatch.seconds
    var measurement = Measurement(values: [.rate: Double(backlog.changes) / seconds])
    measurement[.replicaMemory] = Double(memory.stop())
    guard try replica.client.command(["DBSIZE"]) == ":\(backlog.changes)" else {
      throw BenchmarkError("the replica of Redis has not all rows")
    }
    return measurement
  }
}

/// Just enough of the protocol, over one connection.
final class RedisClient {
  private let socket: Socket
  private var received: ArraySlice<UInt8> = []
  private var buffer = [UInt8](repeating: 0, count: 64 << 10)

  init(port: Int, password: String) throws {
    socket = try Socket.connect(port: port)
    guard try command(["AUTH", password]) == "+OK" else { throw BenchmarkError("Redis is not ready") }
  }

  /// Each change a SET, a thousand sent at a time.
  func load(_ backlog: Backlog, seed: Int) throws {
    let workload = Workload(seed: seed, order: backlog.order)
    let set = Array("*3\r\n$3\r\nSET\r\n$\(Workload.keyBytes)\r\n".utf8)
    let value = Array("\r\n$\(Workload.valueBytes)\r\n".utf8)
    let end = Array("\r\n".utf8)
    var change = Change()
    var pipeline: [UInt8] = []
    for start in stride(from: 0, to: backlog.changes, by: 1_000) {
      let indices = start..<min(start + 1_000, backlog.changes)
      pipeline.removeAll(keepingCapacity: true)
      for index in indices {
        workload.fill(&change, index)
        pipeline += set
        pipeline += change.key
        pipeline += value
        pipeline += change.value
        pipeline += end
      }
      try socket.send(pipeline)
      for _ in indices {
        guard try line() == "+OK" else { throw BenchmarkError("Redis took a row not") }
      }
    }
  }

  /// The first line of the answer, or what follows it.
  func command(_ words: [String]) throws -> String {
    let text = "*\(words.count)\r\n" + words.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
    try socket.send(Array(text.utf8))
    let first = try line()
    guard first.hasPrefix("$"), let count = Int(first.dropFirst()), count >= 0 else { return first }
    while received.count < count + 2 { try receive() }
    defer { received = received.dropFirst(count + 2) }
    return String(decoding: received.prefix(count), as: UTF8.self)
  }

  func information(_ section: String) throws -> String { try command(["INFO", section]) }

  func value(_ name: String, of section: String) throws -> String? {
    try information(section).split(whereSeparator: \.isNewline).first { $0.hasPrefix(name + ":") }
      .map { String($0.dropFirst(name.count + 1)) }
  }

  private func line() throws -> String {
    while true {
      if let end = received.firstIndex(of: UInt8(ascii: "\r")), end + 1 < received.endIndex {
        defer { received = received[(end + 2)...] }
        return String(decoding: received[..<end], as: UTF8.self)
      }
      try receive()
    }
  }

  private func receive() throws {
    let count = try socket.receive(into: &buffer)
    guard count > 0 else { throw BenchmarkError("Redis closed the connection") }
    received = received + buffer[..<count]
  }
}
