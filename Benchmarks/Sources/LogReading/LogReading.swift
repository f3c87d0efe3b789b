// Reads a store's replication log from its start, as the replicator and the hub do.

public import KVLog

/// Calls `body` with the key and the value of each change in the log in `directory`, oldest first; a deletion's value is
/// empty. Every block's checksum and every commit's digest is verified; the spans are valid until `body` returns.
public func forEachChange(
  ofLogIn directory: String, identity: Identity, _ body: (_ key: RawSpan, _ value: RawSpan) -> Void
) throws {
  var reader = try LogReader(LogConfiguration(directory: directory, identity: identity))
  // A block is let go of before the next one, so that the reader uses its buffer again.
  while try forEachChange(ofNextBlockOf: &reader, body) {}
}

private func forEachChange(
  ofNextBlockOf reader: inout LogReader, _ body: (RawSpan, RawSpan) -> Void
) throws -> Bool {
  guard let block = try reader.next() else { return false }
  try block.withRecords { records in
    var cursor = RecordCursor(0..<records.byteCount)
    while let record = try cursor.next(in: records) {
      guard record.kind == .commit else { continue }
      var changes = ChangeCursor(try CommitView(payload: record.payload, in: records))
      while let change = try changes.next(in: records) {
        body(records.extracting(change.key), records.extracting(change.value))
      }
    }
  }
  return true
}
