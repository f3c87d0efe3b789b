// Ctrl-C ends a run with the rows that are done, and without the gigabytes that were under way.

import Foundation
import Synchronization

public enum Interruption {
  private static let raised = Atomic(false)
  /// Kept for as long as the process lives.
  private nonisolated(unsafe) static var sources: [any DispatchSourceSignal] = []

  public static var isRaised: Bool { raised.load(ordering: .relaxed) }

  /// Watches from now on; to be called once, on the first thread.
  public static func watch() {
    for number in [SIGINT, SIGTERM] {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler {
        raised.store(true, ordering: .relaxed)
        Child.killAll()
      }
      source.resume()
      unsafe sources.append(source)
    }
  }
}
