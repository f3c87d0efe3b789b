// Who is measured.

import BenchmarkSupport

enum Contender: String, CaseIterable, Codable, CodingKeyRepresentable, Sendable, ReportedContender {
  case kvsync
  /// In the one direction that the work needs, as the peers do; `kvsync` goes both ways, as it does by default.
  case kvsyncOneWay = "kvsync-one-way"
  /// Ships every commit, also those that were overwritten later.
  case kvsyncEvery = "kvsync-every"
  /// Without the obstacle that the row puts in the way.
  case kvsyncUnhindered = "kvsync-unhindered"
  case redis
  /// Redis whose replica synchronises its file before it acknowledges.
  case redisDurable = "redis-durable"
  case postgreSQL = "postgresql"
  /// No engine: what the disk and the network would allow.
  case limit

  var name: String {
    switch self {
    case .kvsync: "kvsync"
    case .kvsyncOneWay: "kvsync, one way"
    case .kvsyncEvery: "kvsync, history: .every"
    case .kvsyncUnhindered: "kvsync, unhindered"
    case .redis: "Redis"
    case .redisDurable: "Redis, durable"
    case .postgreSQL: "PostgreSQL"
    case .limit: "physical limit"
    }
  }

  /// Whose columns the table has; the others are variants and stand in the column of their engine.
  static let columns: [Contender] = [.kvsync, .redis, .postgreSQL, .limit]

  var column: Contender {
    switch self {
    case .kvsync, .kvsyncOneWay, .kvsyncEvery, .kvsyncUnhindered: .kvsync
    case .redis, .redisDurable: .redis
    case .postgreSQL, .limit: self
    }
  }

  /// Which versions are measured, and how they are set up.
  static var peers: [String: String] {
    [
      "Redis":
        "\(RedisServer.version), one process each, the replica stopped while the rows are written and then continued, until "
        + "WAIT returns; in memory only (durable: the replica appends to a file and synchronises it before it acknowledges)",
      "PostgreSQL":
        "\(PostgreSQLServer.version), logical replication between two clusters, the subscription disabled while the rows "
        + "are written and then enabled, until the publisher's slot is confirmed through the last of them",
    ]
  }
}
