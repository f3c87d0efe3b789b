// Tells the hub's operator of failures of the storage, through the logger.

import Logging
import Synchronization

final class HubAlarm: Sendable {
  private let logger: Logger
  private let began = ContinuousClock.now
  private let alarm = Mutex(StorageAlarm())

  init(logger: Logger) {
    self.logger = logger
  }

  /// An error of the storage ended a session.
  func failed(_ error: HubStorageError, in space: String, bytes: Int) {
    let isNews = alarm.withLock { $0.failed(error, in: space, bytes: bytes, now: ContinuousClock.now - began) }
    guard isNews else { return }
    let metadata: Logger.Metadata = ["space": "\(space)"]
    switch error {
    case .full(let reason):
      logger.error(
        "no space left: pushes are refused until there is room, and replicas try again by themselves. \(reason)",
        metadata: metadata)
    case .corrupt(let reason):
      logger.error("the store of a space is damaged: \(reason)", metadata: metadata)
    case .failed(let reason):
      logger.error("the storage of a space failed: \(reason)", metadata: metadata)
    default: break
    }
  }

  func stored(in space: String, bytes: Int) {
    if alarm.withLock({ $0.stored(in: space, bytes: bytes) }) {
      logger.warning("pushes are stored again", metadata: ["space": "\(space)"])
    }
  }
}
