// What a feed would bring a replica, read from the feed itself.

package import KVLog
package import KVProtocol

extension HubSpace {
  /// Looks through the feed from where the request says, as far as its limits allow. Blocks like `feed`.
  package func preview(_ request: PreviewRequest, excluding replica: Identity) throws -> Preview {
    if let interval = request.interval { return try preview(snapshotOf: interval, wantsKeys: request.wantsKeys) }
    var preview = Preview(through: request.after, head: 0)
    var candidates: [(version: Version, key: Preview.Key)] = []
    let limit =
      request.wantsKeys ? ProtocolLimits.previewedBytesWithKeys : ProtocolLimits.previewedBytes
    var bytes = 0
    while bytes < limit,
      let run = try feed(
        FeedRequest(after: preview.through, excluding: replica), maximumBytes: ProtocolLimits.segmentBytes)
    {
      bytes += run.records.count
      preview.through = run.through
      if !run.records.isEmpty { preview.segments += 1 }
      try preview.add(run, to: &candidates, wantsKeys: request.wantsKeys)
    }
    preview.head = max(try head().version, preview.through)
    if !candidates.isEmpty {
      let newest = try versions(of: candidates.map(\.key.key))
      preview.keys = zip(candidates, newest).compactMap { $0.version == $1 ? $0.key : nil }
    }
    return preview
  }
}

extension HubSpace {
  private func preview(snapshotOf interval: KeyInterval, wantsKeys: Bool) throws -> Preview {
    let limit = wantsKeys ? ProtocolLimits.previewedBytesWithKeys : ProtocolLimits.previewedBytes
    let page = try page(of: interval, for: .zero, deletions: false, maximumBytes: limit)
    var preview = Preview(through: page.position.version, head: page.position.version)
    if page.interval.end != interval.end { preview.end = page.interval.end }
    guard let commit = try page.commit() else { return preview }
    let bytes = page.record.bytes
    preview.changes = commit.header.changeCount
    preview.segments = 1 + page.record.count / ProtocolLimits.segmentBytes
    var changes = ChangeCursor(commit)
    while let change = try changes.next(in: bytes) {
      preview.bytes += change.key.count + change.value.count
      guard wantsKeys else { continue }
      preview.keys.append(
        Preview.Key(
          key: bytes.extracting(change.key).copied(), hash: checksum128(bytes.extracting(change.value)),
          isDeletion: false))
    }
    return preview
  }
}

extension Preview {
  fileprivate mutating func add(
    _ run: CommitSegment, to candidates: inout [(version: Version, key: Key)], wantsKeys: Bool
  ) throws {
    let span = unsafe run.records.span.bytes
    var records = RecordCursor(over: span)
    while let record = try records.next(in: span) {
      let commit = try CommitView(payload: record.payload, in: span)
      commits += 1
      changes += commit.header.changeCount
      bytes += commit.changes.count - commit.header.changeCount * ChangeEncoding.headerByteCount
      guard wantsKeys else { continue }
      // Of a key that a commit changes twice the last change counts.
      var places: [[UInt8]: Int] = [:]
      var cursor = ChangeCursor(commit)
      while let change = try cursor.next(in: span) {
        let key = Key(
          key: Array(run.records[change.key]), hash: checksum128(span.extracting(change.value)),
          isDeletion: change.isDeletion)
        if let place = places.updateValue(candidates.count, forKey: key.key) {
          places[key.key] = place
          candidates[place].key = key
        } else {
          candidates.append((commit.header.version, key))
        }
      }
    }
  }
}
