// Log streams between two calls: the next call of the same peer goes on where its last one ended, without searching the
// segment for the place.

import KVLog
import Synchronization

final class StreamCache: Sendable {
  // A stream is used by one caller at a time: it is taken out, and put back afterwards.
  private let streams = Mutex<[CommitStream]>([])

  func take(after version: Version) -> CommitStream? {
    streams.withLock { streams in
      guard let index = streams.lastIndex(where: { $0.version == version }) else { return nil }
      return streams.remove(at: index)
    }
  }

  /// Keeps the stream; the one that was not used for longest makes room.
  func put(_ stream: CommitStream) {
    streams.withLock { streams in
      streams.append(stream)
      if streams.count > StoreLimits.cachedStreams { streams.removeFirst() }
    }
  }

  func removeAll() { streams.withLock { $0 = [] } }
}

extension Store {
  /// What this process knows to be published, if that is durable: nothing is waited for, and no other process asked.
  var stateAtHand: StoreState? {
    guard case .writable(let core)? = try? backing() else { return nil }
    let state = core.publication.state
    return core.memory.durableVersion >= state.version ? state : nil
  }

  /// A stream behind `version`, if there is one and little of the log lies before it: what it reads is in memory, and takes a
  /// thread no longer than handing that to another one. It is the caller's, who puts it back.
  func streamAtHand(after version: Version, _ state: StoreState) -> CommitStream? {
    guard let stream = streams.take(after: version) else { return nil }
    if let distance = stream.distance(to: state.position), distance <= StoreLimits.atHandLogBytes { return stream }
    streams.put(stream)
    return nil
  }

  /// Runs `body` with a stream that stands behind `version`.
  func withStream<Result>(
    after version: Version, through limit: LogPosition, _ body: (inout CommitStream) throws -> Result
  ) throws -> Result {
    var stream =
      try streams.take(after: version)
      ?? CommitStream(configuration, after: version, through: limit)
    let result = try body(&stream)
    streams.put(stream)
    return result
  }
}
