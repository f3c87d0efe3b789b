// A process of its own that uses a store, for tests of several processes: told by its arguments what to do, it says on its
// standard output, line by line, what it has done.

import Foundation
import KVLog
import KVStore
import Synchronization
import TestSupport

@main
struct StoreProcess {
  static func main() async throws {
    let arguments = Array(CommandLine.arguments.dropFirst())
    guard arguments.count >= 2 else { fatalError("usage: StoreProcess COMMAND STORE [ARGUMENT…]") }
    var options = Store.Options()
    // So small that segments and generations come and go all the time, and the index's map grows.
    options.indexMapBytes = 1 << 20
    options.segmentBytes = 16 << 10
    options.generationBytes = 192 << 10
    options.leaseMilliseconds = 500
    let files = DyingFileSystem()
    options.fileSystem = files
    if arguments[0] == "compact" {
      try Store.compact(at: arguments[1])
      return
    }
    if arguments[0] == "decisions" {
      say("open")
      try await decisions(at: arguments[1], counts: arguments.dropFirst(2).map { Int($0)! })
      say("closed")
      return
    }
    let store: Store
    do {
      store = try await Store.open(at: arguments[1], options: options)
    } catch let error as StoreError {
      say("refused \(error.code) \(error)")
      return
    }
    say("open")
    let rest = Array(arguments.dropFirst(2))
    switch arguments[0] {
    case "write":
      read(store, name: rest[0])
      try write(store, name: rest[0], from: Int(rest[1])!, relaxed: rest.count > 2)
    case "die":
      files.die(after: Int(rest[2])!)
      try write(store, name: rest[0], from: Int(rest[1])!, relaxed: false)
    case "fail":
      files.isBroken.store(true, ordering: .relaxed)
      say(code { try store.putBlocking("outcome unknown", for: "key") })
    case "equal": try equal(store)
    case "fill": try fill(store, changes: Int(rest[0])!)
    case "put": try store.putBlocking(rest[1], for: rest[0])
    case "backup": try store.backupBlocking(to: rest[0])
    case "memory": try await memory(store, rows: rest.map { Int($0)! })
    case "echo": try echo(store)
    case "follow": try await follow(store)
    case "hold": try hold(store)
    case "session": try await session(store)
    case "fork": try fork(store)
    default: fatalError("unknown command \(arguments[0])")
    }
    say(await closing(store))
  }

  static func closing(_ store: Store) async -> String {
    do { try await store.close() } catch { return "failed to close: \(error)" }
    return "closed"
  }

  /// Writes for ever, a transaction at a time: a row of its own, and two that must always be equal. Says what returned, and
  /// how long it took when that was long.
  static func write(_ store: Store, name: String, from first: Int, relaxed: Bool) throws {
    var number = first
    while true {
      let value = "\(number)"
      let start = ContinuousClock.now
      try store.writeBlocking(durability: relaxed ? .relaxed : .durable) { transaction in
        try transaction.put(value, for: "left/\(name)")
        try transaction.put(value, for: "row/\(name)/\(value)")
        try transaction.put(value, for: "right/\(name)")
      }
      let took = Int((ContinuousClock.now - start) / .milliseconds(1))
      say(took > 500 ? "\(number) \(took)" : "\(number)")
      number += 1
    }
  }

  /// Reads for ever on a thread of its own, and nearly always holds a snapshot: a process that is killed leaves readers.
  static func read(_ store: Store, name: String) {
    Thread.detachNewThread {
      while true {
        try? store.read { snapshot in
          var count = 0
          for row in try snapshot.scan(prefix: "row/\(name)/", reversed: true).prefix(20) { count += row.value.count }
          usleep(20_000)
        }
      }
    }
  }

  /// Writes for ever: in each transaction forty keys get the same value, and some others none that matters.
  static func equal(_ store: Store) throws {
    var generator = SeededGenerator(seed: 3)
    for number in 0..<Int.max {
      let others = (0..<30).map { _ in "other/\(generator.next() % 1_000)" }
      try store.writeBlocking(durability: .relaxed) { transaction in
        for key in 0..<40 { try transaction.put("\(number)", for: "equal/\(key)") }
        for key in others { try transaction.put("\(number)", for: key) }
      }
      say(number)
    }
  }

  /// Writes large transactions.
  static func fill(_ store: Store, changes: Int) throws {
    var generator = SeededGenerator(seed: 7)
    let value = [UInt8](repeating: 0x61, count: 100)
    for _ in 0..<changes / 1_000 {
      let keys = (0..<1_000).map { _ in "fill/\(generator.next() % 100_000)" }
      try store.writeBlocking { transaction in
        for key in keys { try transaction.put(value, for: key) }
      }
    }
    say("filled")
  }

  /// For each key on a line of the standard input: its value.
  static func echo(_ store: Store) throws {
    while let key = readLine() {
      let value = try store.value(for: key)
      say(value.map { String(decoding: $0, as: UTF8.self) } ?? "none")
    }
  }

  /// Says each change and when it came; then, at the key "end", how much processor time, in microseconds, and how many
  /// voluntary switches to another thread this process has needed since the key "quiet".
  static func follow(_ store: Store) async throws {
    let version = store.counters().localVersion
    say("following")
    var before = rusage()
    for try await change in store.changes(after: version) {
      let now = monotonicMicroseconds()
      say("\(change.keyText) \(now)")
      if change.keyText == "quiet" { unsafe getrusage(rusageSelf, &before) }
      if change.keyText == "end" { break }
    }
    var usage = rusage()
    unsafe getrusage(rusageSelf, &usage)
    func microseconds(_ usage: rusage) -> Int {
      (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1_000_000
        + Int(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
    }
    say("\(microseconds(usage) - microseconds(before)) \(usage.ru_nvcsw - before.ru_nvcsw)")
  }

  /// Holds a snapshot until a line comes in; says whether it still shows what it showed.
  static func hold(_ store: Store) throws {
    try store.read { snapshot in
      let before = try contents(snapshot)
      say("holding")
      _ = readLine()
      say(try contents(snapshot) == before ? "same" : "changed")
    }
  }

  static func contents(_ snapshot: Snapshot) throws -> Int {
    var hasher = Hasher()
    for row in try snapshot.scan() { hasher.combine(row) }
    return hasher.finalize()
  }

  /// Holds the lease until a line comes in, then records an acknowledgement.
  static func session(_ store: Store) async throws {
    do {
      try await store.beginSession()
    } catch let error as StoreError {
      say("refused \(error.code)")
      return
    }
    say("session")
    while readLine() != nil {
      do {
        let state = store.replicaState()
        _ = try await store.acknowledge(
          Acknowledgement(through: state.local.version, exceptions: [], head: 1), digest: state.local.digest,
          localChanges: state.pendingChanges, localBytes: state.pendingBytes, epoch: Identity(high: 1, low: 1))
        say("acknowledged")
      } catch let error as StoreError {
        say("refused \(error.code)")
      }
    }
    store.endSession()
  }

  /// Says what a forked child gets to see, and that the parent goes on.
  static func fork(_ store: Store) throws {
    typealias Fork = @convention(c) () -> pid_t
    let fork = unsafe unsafeBitCast(dlsym(nil, "fork"), to: Fork.self)
    try store.putBlocking("before", for: "fork")
    let child = fork()
    if child == 0 {
      let read = code { _ = try store.value(for: "fork") }
      let write = code { try store.putBlocking("child", for: "fork") }
      let open = code { _ = try Store.openBlocking(at: store.path) }
      var readOnly = Store.Options()
      readOnly.readOnly = true
      let view = code { _ = try Store.openBlocking(at: store.path, options: readOnly) }
      let other = code { _ = try Store.openBlocking(at: store.path + "-another") }
      say("child \(read) \(write) \(open) \(view) \(other)")
      say(message { _ = try store.value(for: "fork") })
      say(message { _ = try Store.openBlocking(at: store.path) })
      _exit(0)
    }
    var status: Int32 = 0
    unsafe waitpid(child, &status, 0)
    try store.putBlocking("after", for: "fork")
    say("parent \(String(decoding: try store.value(for: "fork") ?? [], as: UTF8.self)) \(status)")
  }
}

func code(_ body: () throws -> Void) -> String {
  do { try body() } catch { return (error as? StoreError)?.code.rawValue ?? "\(error)" }
  return "none"
}

func message(_ body: () throws -> Void) -> String {
  do { try body() } catch { return (error as? StoreError)?.message ?? "\(error)" }
  return "none"
}

/// A line on the standard output, at once: the process may be killed after it.
func say(_ text: some CustomStringConvertible) {
  let line = Array("\(text)\n".utf8)
  unsafe line.withUnsafeBytes { _ = unsafe Foundation.write(1, $0.baseAddress, $0.count) }
}

#if canImport(Glibc)
  let rusageSelf = __rusage_who_t(RUSAGE_SELF.rawValue)
#else
  let rusageSelf = RUSAGE_SELF
#endif
