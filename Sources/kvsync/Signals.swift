// Runs a service until SIGINT or SIGTERM asks it to end, and then lets it end in order.

import Logging
import ServiceLifecycle
import UnixSignals

enum Signals {
  static func run(_ service: some Service) async throws {
    let group = ServiceGroup(
      configuration: ServiceGroupConfiguration(
        services: [.init(service: service, successTerminationBehavior: .gracefullyShutdownGroup)],
        gracefulShutdownSignals: [.sigint, .sigterm],
        // The commands report for themselves.
        logger: Logger(label: "kvsync", factory: { _ in SwiftLogNoOpLogHandler() })))
    try await group.run()
  }
}
