// PostgreSQL: a subscription that was disabled is enabled, with a backlog of the same rows.

import BenchmarkSupport
import Foundation

final class PostgreSQLServer {
  private let daemon: Daemon
  private let port: Int
  private let password: String
  private let programs: String

  /// A new cluster in `directory`. The server refuses to be root: then it is its own user's.
  init(_ directory: String, password: String) throws {
    guard let programs = PostgreSQLServer.programs else {
      throw BenchmarkError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    }
    self.programs = programs
    self.password = password
    port = try Socket.freePort()
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let secret = directory + "/password"
    try writePrivate(password, to: secret)
    let user = try PostgreSQLServer.user(owning: [directory, secret])
    let data = directory + "/data"
    let making = try Child(
      program: "/usr/bin/env",
      user + [
        programs + "/initdb", "--pgdata", data, "--username", "bench", "--auth", "scram-sha-256", "--pwfile", secret,
        "--encoding", "UTF8", "--no-locale", "--no-sync",
      ])
    while making.nextLine() != nil {}
    let outcome = making.release()
    guard making.succeeded else { throw BenchmarkError("initdb of PostgreSQL \(outcome)") }
    let settings = [
      "listen_addresses=127.0.0.1", "port=\(port)", "unix_socket_directories=", "wal_level=logical",
      // No checkpoint in the middle, and the acknowledgement of what is durable without delay.
      "max_wal_size=16GB", "checkpoint_timeout=1h", "wal_receiver_status_interval=1s",
      // A subscription that is enabled begins at once.
      "wal_retrieve_retry_interval=100ms", "client_min_messages=warning",
    ]
    daemon = try Daemon(
      ["/usr/bin/env"] + user + [programs + "/postgres", "-D", data] + settings.flatMap { ["-c", $0] },
      log: directory + "/log", signal: "QUIT")
    do {
      try daemon.waitUntilReady { try checkReady() }
    } catch {
      daemon.stop()
      throw error
    }
  }

  func stop() { daemon.stop() }

  static var version: String {
    guard let programs, let line = Daemon.firstLine(of: programs + "/postgres", ["--version"]) else {
      return "not installed"
    }
    // "postgres (PostgreSQL) 15.18 (Debian …)"
    return line.split(separator: " ").dropFirst(2).first.map(String.init) ?? "unknown version"
  }

  /// The folder with initdb and postgres; Debian keeps it off the path.
  private static var programs: String? {
    let versions = ((try? FileManager.default.contentsOfDirectory(atPath: "/usr/lib/postgresql")) ?? [])
      .sorted { (Int($0) ?? 0) > (Int($1) ?? 0) }
    return Daemon.program(versions.map { "/usr/lib/postgresql/\($0)/bin/initdb" } + ["initdb"])
      .map { String($0.dropLast("/initdb".count)) }
  }

  /// What goes before a command so that it does not run as root.
  private static func user(owning paths: [String]) throws -> [String] {
    guard getuid() == 0 else { return [] }
    guard let entry = unsafe getpwnam("postgres") else {
      throw BenchmarkError("PostgreSQL does not run as root, and there is no user postgres")
    }
    let (user, group) = unsafe (entry.pointee.pw_uid, entry.pointee.pw_gid)
    for path in paths where unsafe chown(path, user, group) != 0 {
      throw BenchmarkError("cannot give \(path) to the user postgres")
    }
    return ["setpriv", "--reuid=\(user)", "--regid=\(group)", "--clear-groups"]
  }

  /// Writes the backlog while the subscription is disabled, enables it, and waits until all is confirmed.
  static func drain(_ backlog: Backlog, _ place: Place) throws -> Measurement {
    let password = "\(UInt64.random(in: 0...UInt64.max))"
    let publisher = try PostgreSQLServer(place.scratch + "/publisher", password: password)
    defer { publisher.stop() }
    let subscriber = try PostgreSQLServer(place.scratch + "/subscriber", password: password)
    defer { subscriber.stop() }
    for server in [publisher, subscriber] {
      _ = try server.query("CREATE TABLE rows (key bytea PRIMARY KEY, value bytea NOT NULL)")
    }
    _ = try publisher.query("CREATE PUBLICATION bench FOR TABLE rows")
    let connection = "host=127.0.0.1 port=\(publisher.port) user=bench dbname=postgres password=\(password)"
    _ = try subscriber.query(
      "CREATE SUBSCRIPTION bench CONNECTION '\(connection)' PUBLICATION bench WITH (copy_data = false)")
    _ = try subscriber.query("ALTER SUBSCRIPTION bench DISABLE")
    try publisher.load(backlog, seed: place.seed)
    _ = try publisher.query("CHECKPOINT")
    let end = try publisher.query("SELECT pg_current_wal_lsn()")
    sync()
    let stopwatch = Stopwatch()
    _ = try subscriber.query("ALTER SUBSCRIPTION bench ENABLE")
    _ = try publisher.query(
      """
      DO $$ BEGIN
        WHILE NOT (SELECT confirmed_flush_lsn >= '\(end)' FROM pg_replication_slots WHERE slot_name = 'bench') LOOP
          PERFORM pg_sleep(0.01);
        END LOOP;
      END $$
      """)
    let seconds = stopwatch.seconds
    let rows = try subscriber.query("SELECT count(*) FROM rows")
    guard rows == "\(backlog.changes)" else { throw BenchmarkError("the subscriber has \(rows) rows") }
    return Measurement(values: [.rate: Double(backlog.changes) / seconds])
  }

  /// As many rows to a transaction as our own backlog has.
  private func load(_ backlog: Backlog, seed: Int) throws {
    let workload = Workload(seed: seed, order: backlog.order)
    let client = try client(["--output", "/dev/null"])
    let begin = Array("COPY rows FROM STDIN;\n".utf8)
    let end = Array("\\.\n".utf8)
    var change = Change()
    for start in stride(from: 0, to: backlog.changes, by: backlog.perCommit) {
      var text = begin
      for index in start..<min(start + backlog.perCommit, backlog.changes) {
        workload.fill(&change, index)
        text.append(hexadecimal: change.key)
        text.append(UInt8(ascii: "\t"))
        text.append(hexadecimal: change.value)
        text.append(UInt8(ascii: "\n"))
      }
      text += end
      try client.write(text)
    }
    let outcome = client.release()
    guard client.succeeded else { throw BenchmarkError("psql \(outcome)") }
  }

  private func checkReady() throws {
    let check = try Child(program: programs + "/pg_isready", ["--quiet", "--host", "127.0.0.1", "--port", "\(port)"])
    let outcome = check.release()
    guard check.succeeded else { throw BenchmarkError("PostgreSQL is not ready: pg_isready \(outcome)") }
  }

  /// What the statement gives, as text.
  private func query(_ statement: String) throws -> String {
    let client = try client(["--command", statement])
    let line = client.nextLine()
    let outcome = client.release()
    guard client.succeeded else { throw BenchmarkError("psql \(outcome) at \"\(statement.prefix(60))\"") }
    return line ?? ""
  }

  private func client(_ arguments: [String]) throws -> Child {
    let psql = Daemon.program([programs + "/psql", "psql"]) ?? "psql"
    return try Child(
      program: psql,
      ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
        + ["--host", "127.0.0.1", "--port", "\(port)", "--username", "bench", "--dbname", "postgres"] + arguments,
      environment: ["PGPASSWORD": password])
  }
}

extension [UInt8] {
  /// As COPY reads bytes: `\\x` and two digits each.
  fileprivate mutating func append(hexadecimal bytes: [UInt8]) {
    append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "\\"), UInt8(ascii: "x")])
    for byte in bytes {
      for digit in [byte >> 4, byte & 15] { append(digit < 10 ? 48 + digit : 87 + digit) }
    }
  }
}
