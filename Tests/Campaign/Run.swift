// One run: a time of faults, a time of healing, and the verdict.
//
// Invariants
// - After the faults everything works: links are whole, and all processes run. From then on nobody may need longer than a minute.
// - No process ends that was not told to, nor killed.

import Foundation
import TestSupport

final class Run {
  static let names = ["a", "b", "c", "d"]
  /// What nothing here may take, on however busy a machine.
  private static let patience = 60.0

  struct Failed: Error, CustomStringConvertible {
    var description: String
  }

  let seed: UInt64
  let path: String
  private let seconds: Double
  private var random: SeededGenerator
  private var tally = Tally()
  private var hub: Talker?
  private var replicas: [String: Talker] = [:]
  private var proxies: [String: Proxy] = [:]
  /// What is dead comes back then; the hub is "".
  private var returns: [String: ContinuousClock.Instant] = [:]
  /// What is frozen goes on then.
  private var frozen: [String: ContinuousClock.Instant] = [:]
  private var starts = 0
  private let began = ContinuousClock.now
  private(set) var story = ""

  init(seed: UInt64, _ options: Campaign.Options) {
    self.seed = seed
    random = SeededGenerator(seed: seed)
    seconds = options.seconds
    let isInMemory = FileManager.default.isWritableFile(atPath: "/dev/shm")
    let folder = options.folder ?? (isInMemory ? "/dev/shm" : NSTemporaryDirectory())
    path = "\(folder)/kvsync-campaign-\(seed)-\(UUID().uuidString.prefix(8))"
  }

  /// Leaves nothing behind, unless it throws.
  func perform() throws -> Tally {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer {
      for proxy in proxies.values { proxy.end() }
      for process in [hub].compactMap({ $0 }) + replicas.values { process.end(SIGKILL) }
    }
    do {
      for name in Self.names { proxies[name] = try Proxy() }
      try startHub()
      for name in Self.names { try start(name) }
      try fault()
      try heal()
      try close()
    } catch {
      // A process that ends by itself says why in its ledger.
      throw Failed(description: "\(error) \(wrongs)")
    }
    let verdict = Verdict(path, seed: seed)
    try verdict.check()
    tally.writes = verdict.writes
    tally.conflicts = verdict.conflicts
    tally.inFlight = verdict.inFlight
    try FileManager.default.removeItem(atPath: path)
    return tally
  }

  private func note(_ words: String) {
    story += "\(Int((ContinuousClock.now - began) / .milliseconds(1)))ms \(words); "
  }

  // MARK: Processes

  private static func executable(_ name: String) -> String {
    URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
      .appendingPathComponent(name).path
  }

  private func errorFile(_ name: String) -> String {
    starts += 1
    return "\(path)/\(name).\(starts).err"
  }

  private func startHub() throws {
    let arguments = ["serve", "\(path)/hub", "--listen", "127.0.0.1:0"]
    let hub = try Talker("the hub", Self.executable("kvsync"), arguments, errorFile: errorFile("hub"))
    self.hub = hub
    let words = try hub.next("listening", within: Self.patience)
    guard let port = words.last?.split(separator: ":").last.flatMap({ UInt16($0) }) else {
      throw Failed(description: "the hub said \(words)")
    }
    for proxy in proxies.values { proxy.lead(to: port) }
    note("hub starts")
  }

  private func start(_ name: String) throws {
    guard let port = proxies[name]?.port else { return }
    let arguments = [
      ReplicaProcess.command, "\(path)/\(name)", "kvsync://127.0.0.1:\(port)/space", name, "\(path)/\(name).ledger",
      "\(seed)",
    ]
    replicas[name] = try Talker(name, Self.executable("Campaign"), arguments, errorFile: errorFile(name))
    note("\(name) starts")
  }

  private func checkAlive() throws {
    for process in [hub].compactMap({ $0 }) + replicas.values where process.hasEnded {
      throw Failed(description: "\(process.name) ended with status \(process.wait()): \(process.messages)")
    }
  }

  private var wrongs: String {
    Self.names.flatMap { Ledger.Contents("\(path)/\($0).ledger").wrong }.joined(separator: "; ")
  }

  // MARK: Faults

  private func fault() throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < end {
      usleep(UInt32(random.below(100) * 1_000))
      try checkAlive()
      for (name, time) in returns.sorted(by: { $0.key < $1.key }) where time <= .now { try revive(name) }
      for (name, time) in frozen.sorted(by: { $0.key < $1.key }) where time <= .now { thaw(name) }
      let name = Self.names[random.below(Self.names.count)]
      switch random.below(100) {
      case 0..<22: try endReplica(name, gracefully: false)
      case 22..<30: try endReplica(name, gracefully: true)
      case 30..<37: try endHub(SIGKILL)
      case 37..<40: try endHub(SIGTERM)
      case 40..<46: freeze(name)
      case 46..<48: freeze("")
      case 48..<50:
        for name in Self.names { try endReplica(name, gracefully: false) }
        try endHub(SIGKILL)
      case 50..<80: turnWeather(random.chance(20) ? Self.names : [name])
      default:
        proxies[name]?.cut()
        tally.cuts += 1
        note("\(name) cut off")
      }
    }
  }

  private func revive(_ name: String) throws {
    returns[name] = nil
    if name.isEmpty { try startHub() } else { try start(name) }
  }

  private func endReplica(_ name: String, gracefully: Bool) throws {
    thaw(name)
    guard let replica = replicas.removeValue(forKey: name) else { return }
    if gracefully {
      note("\(name) is closed")
      try end(replica)
      tally.replicaRestarts += 1
    } else {
      replica.end(SIGKILL)
      tally.replicaKills += 1
      note("\(name) is killed")
    }
    returns[name] = .now + .milliseconds(random.below(400))
  }

  private func end(_ replica: Talker) throws {
    replica.tell("end")
    _ = try replica.next("closed", within: Self.patience / 2)
    let status = replica.wait()
    guard status == 0 else { throw Failed(description: "\(replica.name) ended with status \(status)") }
  }

  private func endHub(_ signal: Int32) throws {
    thaw("")
    guard let hub else { return }
    self.hub = nil
    note(signal == SIGKILL ? "hub is killed" : "hub is ended")
    let status = hub.end(signal)
    if signal == SIGKILL { tally.hubKills += 1 } else { tally.hubRestarts += 1 }
    guard signal == SIGKILL || status == 0 else {
      throw Failed(description: "the hub ended with status \(status) on SIGTERM: \(hub.messages)")
    }
    returns[""] = .now + .milliseconds(random.below(500))
  }

  /// Stops a process without ending it; its lease to replicate may be over when it goes on.
  private func freeze(_ name: String) {
    guard let process = name.isEmpty ? hub : replicas[name], frozen[name] == nil else { return }
    process.signal(SIGSTOP)
    frozen[name] = .now + .milliseconds(random.below(900))
    tally.freezes += 1
    note("\(process.name) is frozen")
  }

  private func thaw(_ name: String) {
    guard frozen.removeValue(forKey: name) != nil else { return }
    (name.isEmpty ? hub : replicas[name])?.signal(SIGCONT)
  }

  private func turnWeather(_ names: [String]) {
    var weather = Proxy.Weather()
    switch random.below(10) {
    case 0: weather.toHub = .held
    case 1: weather.toReplica = .held
    case 2: (weather.toHub, weather.toReplica) = (.held, .held)
    case 3: weather.toHub = .swallowed
    case 4: weather.toReplica = .swallowed
    case 5: weather.refuses = true
    default: break
    }
    for name in names {
      proxies[name]?.weather = weather
      note("\(name) \(weather.toHub)/\(weather.toReplica)\(weather.refuses ? "/refused" : "")")
    }
    tally.partitions += 1
  }

  // MARK: Healing

  private func heal() throws {
    note("healing")
    for proxy in proxies.values {
      proxy.weather = Proxy.Weather()
      proxy.cut(spoiled: true)
    }
    for name in frozen.keys { thaw(name) }
    if hub == nil { try revive("") }
    for name in Self.names where replicas[name] == nil { try revive(name) }
    let deadline = ContinuousClock.now + .seconds(Self.patience)
    var rounds = 0
    while true {
      var versions: Set<String> = []
      var isPending = false
      for replica in replicas.values { replica.tell("settle") }
      for name in Self.names {
        guard let words = try replicas[name]?.next("settled", within: Self.patience), words.count == 2 else {
          throw Failed(description: "\(name) settled without saying how")
        }
        versions.insert(words[0])
        if words[1] != "0" { isPending = true }
      }
      if versions.count == 1, !isPending { break }
      rounds += 1
      guard ContinuousClock.now < deadline else {
        throw Failed(description: "after \(rounds) rounds they are at \(versions), pending: \(isPending)")
      }
    }
    note("healed")
  }

  private func close() throws {
    try checkAlive()
    for name in Self.names { if let replica = replicas.removeValue(forKey: name) { try end(replica) } }
    guard let hub else { return }
    self.hub = nil
    let status = hub.end(SIGTERM)
    guard status == 0 else { throw Failed(description: "the hub ended with status \(status): \(hub.messages)") }
  }
}
