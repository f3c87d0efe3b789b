// Ctrl-C ends a run with the rows that are done, and without the gigabytes that were under way.

import Foundation
import Synchronization

public enum Interruption {
  private static let raised = Atomic(false)
  // Sound: `watch` alone writes it, once, on the first thread, and nobody reads it. It keeps the sources alive.
  private nonisolated(unsafe) static var sources: [any DispatchSourceSignal] = []

  public static var isRaised: Bool { raised.load(ordering: .relaxed) }

  /// Watches from now on; to be called once, on the first thread.
  public static func watch() {
    for number in [SIGINT, SIGTERM] {
      // On Linux the source's own handler replaces the default action, a moment later: a child that was started in that
      // moment would ignore the signal for good.
      #if canImport(Darwin)
        signal(number, SIG_IGN)
      #endif
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
