// The table: every row that the store is measured by, with its goals.

import BenchmarkSupport

/// One kind of work, done by several contenders, in the same run and on the same data.
struct Row: Sendable {
  struct Part: Sendable {
    var name: String
    var goals: [Goal] = []
    /// How long it takes, instead of how many a second.
    var isDuration = false
  }

  /// For the command line.
  var id: String
  var parts: [Part]
  var contenders: [Contender]
  /// Takes minutes: has fewer runs.
  var isLarge = false
  var measure: any Measure

  /// The whole table, with a million and ten million changes times `scale`.
  static func all(scale: Double) -> [Row] {
    let million = max(10, Int(1_000 * scale)) * 1_000
    let tenMillion = 10 * million
    let seconds = 2 * min(1, max(0.1, scale))
    let small = Dataset(count: million, perCommit: Loads.perCommit)
    let large = Dataset(count: tenMillion, perCommit: 1)
    let peers: [Contender] = [.lmdb, .rocksDB, .sqlite, .limit]
    return writes(million, seconds) + reads(small, large, peers) + openings(million, large)
  }

  private static func writes(_ million: Int, _ seconds: Double) -> [Row] {
    let singles = WorkLimit(changes: 10_000_000, seconds: seconds)
    let (one, ten, twenty) = (count(million), count(10 * million), count(20 * million))
    return [
      Row(
        id: "put",
        parts: [
          Part(
            name: "durable put, 1 change per commit, one writer",
            goals: [.times(1.2, .rocksDB), .times(3, .lmdb)])
        ],
        contenders: [.kvsync, .lmdb, .rocksDB, .rocksDBRecycling, .sqlite, .limit], measure: Puts(limit: singles)),
      Row(
        id: "put-64",
        parts: [
          Part(
            name: "durable put, 64 concurrent writers of 1 change",
            goals: [
              .times(10, .kvsyncAlone), .times(1, .rocksDB), .times(10, .kvsyncAlone, subject: .kvsyncTasks),
              .times(1, .rocksDB, subject: .kvsyncTasks),
            ])
        ],
        contenders: [.kvsync, .kvsyncTasks, .kvsyncAlone, .lmdb, .rocksDB, .sqlite, .limit],
        measure: Puts(writers: 64, limit: singles)),
      Row(
        id: "load",
        parts: [
          Part(
            name: "durable, 1,000 changes per commit, \(one)", goals: [.times(1.8, .rocksDB), .times(6, .lmdb)]),
          Part(name: "the same, until all is folded (peers: flushed, checkpointed)"),
        ],
        contenders: [.kvsync, .lmdb, .rocksDB, .sqlite, .limit],
        measure: Loads(sizes: [million], atMostSeconds: 10 * seconds)),
      Row(
        id: "load-large",
        parts: [
          Part(name: "durable, 1,000 changes per commit, \(ten)"),
          Part(name: "the same, until all is folded (RocksDB: flushed)", goals: [.times(1.3, .rocksDB)]),
          Part(name: "durable, 1,000 changes per commit, \(twenty)"),
          Part(
            name: "the same, until all is folded (RocksDB: flushed)",
            goals: [.times(1.3, .rocksDB), .slope(.rocksDB, from: 1)]),
        ],
        contenders: [.kvsync, .rocksDB, .limit], isLarge: true,
        measure: Loads(sizes: [10 * million, 20 * million])),
      Row(
        id: "put-relaxed",
        parts: [Part(name: "relaxed put, 1 change per commit", goals: [.times(1.5, .rocksDB)])],
        contenders: [.kvsync, .lmdb, .rocksDB, .sqlite, .limit],
        measure: Puts(durability: .relaxed, limit: singles)),
      Row(
        id: "load-ordered",
        parts: [
          Part(name: "durable, 1,000 changes per commit, time-ordered keys, \(ten)"),
          Part(name: "the same, until all is folded (peers: flushed)", goals: [.times(2, .rocksDB)]),
        ],
        contenders: [.kvsync, .lmdb, .rocksDB, .limit], isLarge: true,
        measure: Loads(order: .timeOrdered, sizes: [10 * million], atMostSeconds: 30 * seconds)),
    ]
  }

  private static func reads(_ small: Dataset, _ large: Dataset, _ peers: [Contender]) -> [Row] {
    let gets = min(500_000, small.count)
    let getGoals: [Goal] = [.times(0.85, .lmdb), .times(2, .rocksDB)]
    let quiet = "random get, \(count(small.count)) keys, the store at rest"
    return [
      Row(
        id: "get", parts: [Part(name: "random get, \(count(small.count)) keys, Tail empty", goals: getGoals)],
        contenders: [.kvsync] + peers, measure: Gets(dataset: small, count: gets)),
      Row(
        id: "get-large", parts: [Part(name: "random get, \(count(large.count)) keys, Tail empty", goals: getGoals)],
        contenders: [.kvsync, .lmdb, .rocksDB, .limit], measure: Gets(dataset: large, count: gets)),
      Row(
        id: "get-writing",
        parts: [
          Part(name: quiet),
          Part(
            name: "random get, \(count(small.count)) keys, while a thread writes at full speed",
            goals: [.times(0.5, .kvsync, peerPart: 0)]),
        ],
        contenders: [.kvsync] + peers, measure: Gets(dataset: small, count: gets, whileWriting: true)),
      Row(
        id: "scan", parts: [Part(name: "full scan, \(count(small.count)) keys", goals: [.times(0.8, .lmdb)])],
        contenders: [.kvsync] + peers, measure: Walks(dataset: small, path: .rows)),
      Row(
        id: "scan-large", parts: [Part(name: "full scan, \(count(large.count)) keys", goals: [.times(0.8, .lmdb)])],
        contenders: [.kvsync, .lmdb, .rocksDB, .limit], measure: Walks(dataset: large, path: .rows)),
      Row(
        id: "log",
        parts: [
          Part(
            name: "reading the log from the start, \(count(small.count)) changes, 1,000 per commit",
            goals: [.ratePerSecond(5e6), .times(0.8, .rocksDB)])
        ],
        contenders: [.kvsync, .kvsyncChanges, .rocksDB, .sqlite, .limit], measure: Walks(dataset: small, path: .log)),
      Row(
        id: "log-singles",
        parts: [
          Part(
            name: "reading the log from the start, \(count(large.count)) changes, 1 per commit",
            goals: [.times(0.8, .rocksDB)])
        ],
        contenders: [.kvsync, .rocksDB, .limit], measure: Walks(dataset: large, path: .log)),
    ]
  }

  private static func openings(_ million: Int, _ large: Dataset) -> [Row] {
    [
      Row(
        id: "open",
        parts: [
          Part(
            name: "opening a clean store of \(count(large.count)) keys and as many commits, to the first get",
            goals: [.seconds(0.05)], isDuration: true)
        ],
        contenders: [.kvsync, .lmdb, .rocksDB, .limit], measure: CleanOpening(dataset: large)),
      Row(
        id: "open-killed",
        parts: [
          Part(
            name: "opening after kill -9 with a full Tail, to the first get", goals: [.seconds(3)], isDuration: true)
        ],
        contenders: [.kvsync, .rocksDB, .limit],
        measure: OpeningAfterKill(atLeast: million * 3 / 2, atMost: million * 4)),
    ]
  }

  /// "1 M", "10 M", "50 k".
  private static func count(_ value: Int) -> String {
    value % 1_000_000 == 0 ? "\(value / 1_000_000) M" : "\(value / 1_000) k"
  }
}
