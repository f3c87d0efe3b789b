// kvsync serve: a hub on this machine, until a signal ends it.

import ArgumentParser
import KVHub
import KVHubEmbedded
import Logging
import ServiceLifecycle

struct Serve: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Serve a hub whose spaces are directories in DIR.",
    discussion: """
      Prints one line when it takes connections: listening on HOST:PORT, with the
      port that the system chose if PORT is 0. SIGINT and SIGTERM end it cleanly;
      what it acknowledged is durable even when it is killed. When the disk is full
      it says so, once, and goes on when there is room.

      Where other machines can reach it, it wants a certificate and tokens (kvsync
      token); on 127.0.0.1 it does without. As soon as there is a token, nobody is
      admitted without one. A certificate that was replaced is used from the next
      connection on; revoking a token ends its sessions. With --tls-client-ca
      replicas must show a certificate of that authority as well.

      Example: kvsync serve hub-data --listen 127.0.0.1:7447
               kvsync serve hub-data --listen 0.0.0.0:7447 \\
                 --tls-certificate hub.pem --tls-key hub.key
      """)

  @Argument(help: ArgumentHelp("The hub's directory; made if it is absent.", valueName: "dir"), completion: .directory)
  var directory: String
  @Option(
    help: ArgumentHelp("Where to listen; port 0 lets the system choose.", valueName: "HOST:PORT"),
    transform: Endpoint.init(_:))
  var listen: Endpoint
  @OptionGroup(title: "Security options") var security: SecurityOptions
  @Option(
    help: ArgumentHelp(
      "Keep the log for so many days at least, then let it go: a replica away for longer gets a snapshot. Without: all of it.",
      valueName: "DAYS"))
  var retention: Double?
  @OptionGroup(title: "Limits") var limits: LimitOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    try ArgumentBytes.checkPath(directory, of: "the hub's directory")
    if let retention, !(0...36_500).contains(retention) { throw ValidationError("--retention is 0 to 36500 days.") }
  }

  func execute() async throws -> ExitStatus {
    let logger = Logger(label: "kvsync.hub", factory: { StreamLogHandler.standardError(label: $0) })
    var options = Hub.Options(host: listen.host, port: listen.port, logger: logger)
    options.logger.logLevel = .warning
    security.apply(to: &options)
    limits.apply(to: &options)
    options.access = .tokens(try HubTokens(directory: directory))
    SystemCall.raiseOpenFiles()
    let storage = try EmbeddedHubStorage(
      directory: directory, maximumSpaces: limits.maxSpaces,
      retention: retention.map { .seconds($0 * 86_400) })
    let hub = Hub(storage: storage, options: options)
    let service = AnnouncedHub(hub: hub, json: output.json)
    try await Signals.run(service)
    return .ok
  }
}

/// How the hub is protected.
struct SecurityOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("The hub's certificate, with those up to the authority's (PEM).", valueName: "FILE"),
    completion: .file())
  var tlsCertificate: String?
  @Option(help: ArgumentHelp("Its key (PEM).", valueName: "FILE"), completion: .file()) var tlsKey: String?
  @Option(
    name: .customLong("tls-client-ca"),
    help: ArgumentHelp("Ask replicas for a certificate of this authority (PEM).", valueName: "FILE"),
    completion: .file())
  var tlsClientAuthority: String?
  @Flag(help: "Serve other machines without TLS or tokens.") var insecure = false

  func validate() throws {
    guard (tlsCertificate == nil) == (tlsKey == nil) else {
      throw ValidationError("--tls-certificate and --tls-key go together.")
    }
    guard tlsClientAuthority == nil || tlsCertificate != nil else {
      throw ValidationError("--tls-client-ca goes with --tls-certificate.")
    }
  }

  func apply(to options: inout Hub.Options) {
    options.allowsInsecure = insecure
    guard let tlsCertificate, let tlsKey else { return }
    options.tls = Hub.TLS(
      certificateFile: tlsCertificate, keyFile: tlsKey, clientAuthorityFile: tlsClientAuthority)
  }
}

/// What the hub allows.
struct LimitOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Connections; more are refused as busy.", valueName: "N")) var maxConnections = 1_024
  @Option(help: ArgumentHelp("Spaces that replicas may make.", valueName: "N")) var maxSpaces = 256
  @Option(help: ArgumentHelp("Megabytes in flight, of all connections together.", valueName: "MB"))
  var maxInFlight = 160
  @Option(help: ArgumentHelp("Megabytes one connection may have in flight.", valueName: "MB")) var maxWindow = 4
  @Option(help: ArgumentHelp("Failed tries of one address before it has to wait.", valueName: "N"))
  var maxFailedTries = 20

  func validate() throws {
    for (option, value) in [
      ("max-connections", maxConnections), ("max-failed-tries", maxFailedTries), ("max-spaces", maxSpaces),
      ("max-in-flight", maxInFlight),
    ] {
      guard (1...65_536).contains(value) else { throw ValidationError("--\(option) is 1 to 65536.") }
    }
    guard (1...1_024).contains(maxWindow) else { throw ValidationError("--max-window is 1 to 1024.") }
  }

  func apply(to options: inout Hub.Options) {
    options.inFlightBytes = maxInFlight << 20
    options.windowBytes = maxWindow << 20
    options.maximumConnections = maxConnections
    options.failedTries = maxFailedTries
  }
}

/// A hub that says when it is ready.
private struct AnnouncedHub: Service {
  let hub: Hub
  let json: Bool

  func run() async throws {
    let address = try await hub.start()
    do {
      var out = Output()
      if json {
        out.beginObject()
        out.member("listening", address.description)
        out.endObject()
      } else {
        out.append("listening on \(address)\n")
      }
      try out.flush()
    } catch {
      // Nobody reads the line; that is no reason not to serve.
    }
    try? await gracefulShutdown()
    await hub.shutdown()
  }
}
