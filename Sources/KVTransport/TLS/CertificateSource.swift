// The hub's certificate, as its files have it at present: renewed without a restart.
//
// Invariants:
// - A connection is served with what the files held when they last made sense. New files that do not are reported once,
//   and the former ones stay in use.
// - Certificate and key are two files that nobody replaces in one step: between the two they do not fit together. They
//   are read again when either has changed again.

import NIOSSL
import Synchronization

package final class CertificateSource: Sendable {
  package enum News: Sendable {
    case renewed
    /// The new files are of no use: the former certificate stays.
    case kept(TransportError)
  }

  private struct State {
    var context: NIOSSLContext
    var stamps: [FileStamp?]
  }

  private let files: ServerTLS
  private let report: @Sendable (News) -> Void
  private let state: Mutex<State>

  /// Reads the files. `report` is told when they have changed; it must not block.
  package init(_ files: ServerTLS, report: @escaping @Sendable (News) -> Void) throws(TransportError) {
    self.files = files
    self.report = report
    let stamps = files.files.map(FileStamp.init)
    state = Mutex(State(context: try files.context(), stamps: stamps))
  }

  /// What the next connection is served with. Looks at the files' times, which costs microseconds beside a handshake.
  func current() -> NIOSSLContext {
    let stamps = files.files.map(FileStamp.init)
    let (context, news) = state.withLock { state -> (NIOSSLContext, News?) in
      guard stamps != state.stamps else { return (state.context, nil) }
      state.stamps = stamps
      do throws(TransportError) {
        state.context = try files.context()
        return (state.context, .renewed)
      } catch {
        return (state.context, .kept(error))
      }
    }
    if let news { report(news) }
    return context
  }
}
