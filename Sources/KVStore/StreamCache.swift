// Log streams between two calls: the next call of the same peer goes on where its last one ended, without searching the
// segment for the place.

package import KVLog
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

  /// How much of the log lies between a stream that stands behind `version` and `limit`; nil when there is none, or when that
  /// is in another segment.
  func distance(after version: Version, to limit: LogPosition) -> UInt64? {
    streams.withLock { streams in streams.last { $0.version == version }?.distance(to: limit) }
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
  /// Whether what was written after `version` is little, durable and in memory, and a reader stands there: reading it takes a
  /// thread no longer than handing that to another one.
  package func isAtHand(after version: Version) -> Bool {
    let state = state
    guard let durable = try? durableVersion, durable >= state.version,
      let distance = streams.distance(after: version, to: state.position)
    else {
      return false
    }
    return distance <= StoreLimits.recentLogBytes
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
