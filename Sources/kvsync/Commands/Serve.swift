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
      it says so, once, and goes on when there is room. The connections are not
      encrypted: serve on a trusted network, or through a tunnel.

      Example: kvsync serve hub-data --listen 127.0.0.1:7447
      """)

  @Argument(help: ArgumentHelp("The hub's directory; made if it is absent.", valueName: "dir"), completion: .directory)
  var directory: String
  @Option(
    help: ArgumentHelp("Where to listen; port 0 lets the system choose.", valueName: "HOST:PORT"),
    transform: Endpoint.init(_:))
  var listen: Endpoint
  @OptionGroup var output: OutputOptions

  func validate() throws {
    try ArgumentBytes.checkPath(directory, of: "the hub's directory")
  }

  func execute() async throws -> ExitStatus {
    let logger = Logger(label: "kvsync.hub", factory: { StreamLogHandler.standardError(label: $0) })
    var options = Hub.Options(host: listen.host, port: listen.port, logger: logger)
    options.logger.logLevel = .warning
    let hub = Hub(storage: try EmbeddedHubStorage(directory: directory), options: options)
    let service = AnnouncedHub(hub: hub, json: output.json)
    try await Signals.run(service)
    return .ok
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
