// The table: every row that replication is measured by, with its goals.

import BenchmarkSupport

/// One kind of work, done by several contenders, in the same run and with the same rows.
struct Row: Sendable {
  struct Part: Sendable {
    var name: String
    /// The first is what the row is about.
    var shows: [Quantity]
    var goals: [Goal]
  }

  /// For the command line.
  var id: String
  var parts: [Part]
  var contenders: [Contender]
  /// Takes minutes: has fewer runs.
  var isLarge = false
  var scenario: any Scenario

  /// What replica and hub may hold of anonymous memory, each, in bytes.
  static let memoryGoal = 64e6
  /// How far the peaks of a flat curve may lie apart.
  static let flatness = 1.25

  /// The whole table, with a million and ten million changes times `scale`.
  static func all(scale: Double) -> [Row] {
    let million = max(10, Int(1_000 * scale)) * 1_000
    return drains(million) + links(million, scale: scale) + [memory(million)]
  }

  private static func drains(_ million: Int) -> [Row] {
    let ten = 10 * million
    let drained: [Quantity] = [.rate, .longestStall, .replicaMemory, .hubMemory]
    return [
      Row(
        id: "drain",
        parts: [
          Part(
            name: "drain of \(count(million)) changes, random keys, until acknowledged", shows: drained,
            goals: [.atLeast(250_000), .times(1, .redis), .times(1, .redisDurable), .times(1, .postgreSQL)])
        ],
        contenders: [.kvsync, .kvsyncOneWay, .redis, .redisDurable, .postgreSQL, .limit],
        scenario: Drain(backlog: Backlog(changes: million))),
      Row(
        id: "drain-large",
        parts: [
          Part(
            name: "drain of \(count(ten)), random keys", shows: drained,
            goals: [.atLeast(180_000), .neverAbove(1, .longestStall)])
        ],
        contenders: [.kvsync, .limit], isLarge: true, scenario: Drain(backlog: Backlog(changes: ten))),
      Row(
        id: "drain-ordered",
        parts: [
          Part(
            name: "drain of \(count(ten)), time-ordered keys", shows: drained,
            goals: [.atLeast(400_000), .neverAbove(1, .longestStall)])
        ],
        contenders: [.kvsync, .limit], isLarge: true,
        scenario: Drain(backlog: Backlog(changes: ten, order: .timeOrdered))),
      Row(
        id: "overwritten",
        parts: [
          Part(
            name: "drain of \(count(ten)), 1 change per commit, of which 90 % were overwritten later", shows: drained,
            goals: [.times(5, .kvsyncEvery)])
        ],
        contenders: [.kvsync, .kvsyncEvery], isLarge: true,
        scenario: Overwritten(backlog: Backlog(changes: ten, perCommit: 1, keys: million))),
      Row(
        id: "bootstrap",
        parts: [
          Part(
            name: "bootstrap of a new replica, \(count(ten)) keys",
            shows: [.rate, .rateToTenth, .rateToHalf, .rateToEnd, .longestStall, .replicaMemory, .hubMemory],
            goals: [
              .atLeast(400_000),
              .share(.rateToEnd, of: .rateToTenth, atLeast: 0.9, "no slope: the second half ≥ 0.90x the first tenth"),
            ])
        ],
        contenders: [.kvsync, .limit], isLarge: true, scenario: Bootstrap(keys: ten)),
    ]
  }

  private static func links(_ million: Int, scale: Double) -> [Row] {
    let replicas = max(4, Int(200 * min(1, scale * 10)))
    // Far more than a window, or nothing is learnt.
    let resumed = max(million, 300_000)
    let resent: [Quantity] = [.resentBytes, .windowBytes]
    let atMostWindow = Goal.share(.resentBytes, of: .windowBytes, atMost: 1, "≤ the window and a segment")
    return [
      Row(
        id: "latency",
        parts: [
          Part(
            name: "put on A until visible on B (durable on A, hub and B), idle system",
            shows: [.latencyP50, .latencyP99, .latencyGoal],
            goals: [.share(.latencyP50, of: .latencyGoal, atMost: 1, "p50 ≤ 3x fdatasync + 1 ms")])
        ],
        contenders: [.kvsync], scenario: LiveLatency(puts: max(50, Int(1_000 * min(1, scale))))),
      Row(
        id: "slow-link",
        parts: [
          Part(
            name: "drain of \(count(10 * million)), 200 ms round trip, 1 % of round trips cut the connection",
            shows: [.rate, .allowedRate, .cuts, .longestStall],
            goals: [.windowShare(0.8, .kvsyncUnhindered), .neverAbove(10, .longestStall)])
        ],
        contenders: [.kvsync, .kvsyncUnhindered], isLarge: true,
        scenario: SlowLink(backlog: Backlog(changes: 10 * million))),
      Row(
        id: "idle",
        parts: [
          Part(
            name: "hub with \(replicas) connected idle replicas, until a put has reached all",
            shows: [.reachP50, .reachWorst, .hubMemory],
            goals: [.atMost(0.25, .reachP50), .neverAbove(memoryGoal, .hubMemory)])
        ],
        contenders: [.kvsync], scenario: IdleReplicas(replicas: replicas, puts: 20)),
      Row(
        id: "resume",
        parts: [
          Part(
            name: "link cut at 50 % of \(count(resumed)): bytes sent again", shows: resent, goals: [atMostWindow]),
          Part(name: "the same, the replica killed", shows: resent, goals: [atMostWindow]),
          Part(name: "the same, the hub killed", shows: resent, goals: [atMostWindow]),
        ],
        contenders: [.kvsync], scenario: Resume(backlog: Backlog(changes: resumed))),
    ]
  }

  private static func memory(_ million: Int) -> Row {
    let sizes = [million / 10, 10 * million, 30 * million]
    let goals = [Goal.neverAbove(memoryGoal, .replicaMemory), .neverAbove(memoryGoal, .hubMemory)]
    let flat = [Goal.flat(.replicaMemory, within: flatness), .flat(.hubMemory, within: flatness)]
    return Row(
      id: "memory",
      parts: sizes.map { size in
        Part(
          name: "peak anonymous memory, backlog of \(count(size))", shows: [.replicaMemory, .hubMemory, .rate],
          goals: goals + (size == sizes.last ? flat : []))
      },
      contenders: [.kvsync], isLarge: true, scenario: MemoryCurve(sizes: sizes))
  }

  /// "1 M", "10 M", "50 k".
  private static func count(_ value: Int) -> String {
    value % 1_000_000 == 0 ? "\(value / 1_000_000) M" : "\(value / 1_000) k"
  }
}
