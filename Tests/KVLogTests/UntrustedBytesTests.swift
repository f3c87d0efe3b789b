// Whatever the bytes, reading them gives values or an error: never a trap, never a range outside.

import KVLog
import TestSupport
import Testing

@Suite struct UntrustedBytesTests {
  /// Reads as far as it goes. The number of changes found.
  private func readAll(_ bytes: RawSpan) -> Int {
    var changes = 0
    let whole = 0..<bytes.byteCount
    do {
      var records = RecordCursor(over: bytes)
      while let record = try records.next(in: bytes) {
        #expect(whole.encloses(record.record) && record.record.encloses(record.payload))
        guard record.kind == .commit else { continue }
        let commit = try CommitView(payload: record.payload, in: bytes)
        #expect(record.payload.encloses(commit.core) && commit.core.encloses(commit.changes))
        var cursor = ChangeCursor(commit)
        var count = 0
        while let change = try cursor.next(in: bytes) {
          #expect(commit.changes.encloses(change.key) && commit.changes.encloses(change.value))
          #expect(change.key.count >= 1 && change.key.count <= LogLimits.maximumKeyBytes)
          #expect(!change.isDeletion || change.value.isEmpty)
          count += 1
        }
        #expect(count == commit.header.changeCount)
        changes += count
      }
    } catch {
      #expect(error.offset >= 0 && error.offset <= bytes.byteCount)
    }
    return changes
  }

  @Test("Random bytes", arguments: Seeds.few)
  func garbage(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<25_000 {
      let bytes = random.bytes(Int.random(in: 0...120, using: &random))
      bytes.lend { bytes in
        _ = readAll(bytes)
        let start = Int.random(in: 0...bytes.byteCount, using: &random)
        _ = try? CommitView(payload: start..<bytes.byteCount + Int.random(in: 0...9, using: &random), in: bytes)
        _ = try? ReplicaProgress(decoding: bytes)
        _ = try? LogPosition(decoding: bytes)
        var reader = ByteReader(at: Int.random(in: -1...bytes.byteCount + 1, using: &random))
        _ = try? reader.counted(UInt32.self, from: bytes)
        _ = try? reader.text(Int16.self, atMost: 100, from: bytes)
        _ = try? reader.identity(from: bytes)
      }
    }
  }

  @Test("Records with a few bytes changed, cut or doubled", arguments: Seeds.few)
  func mutations(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var read = 0
    var builder = BlockBuilder()
    for index in 0..<25_000 {
      if index % 100 == 0 { builder.reset(after: 0, digest: .zero, origin: fixedIdentity) }
      if builder.byteCount < 150 { builder.addRandom(&random, largestValue: 20) }
      var bytes = builder.recordBytes
      for _ in 0..<Int.random(in: 0...4, using: &random) where !bytes.isEmpty {
        let place = Int.random(in: bytes.indices, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: bytes[place] = 0
        case 1: bytes[place] = 0xFF
        case 2: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 3: bytes.removeLast(bytes.count - place)
        case 4: bytes += bytes[place...]
        default: bytes.remove(at: place)
        }
      }
      bytes.lend { read += readAll($0) }
    }
    #expect(read > 10_000, "nearly nothing was readable: this shows little")
  }

  @Test("A commit that claims more changes than it has, or fewer, is refused")
  func changeCount() throws {
    var builder = BlockBuilder(after: .start(of: fixedIdentity))
    _ = builder.beginCommit(time: HybridTime(rawValue: 1))
    for index in 0..<3 { builder.append(key: [UInt8(index)], value: []) }
    builder.endCommit()
    for count in UInt8(0)...5 {
      var bytes = builder.recordBytes
      bytes[8 + 52] = count
      let isAccepted = bytes.lend { bytes in
        do throws(LogFormatError) {
          var cursor = ChangeCursor(try CommitView(payload: 8..<bytes.byteCount, in: bytes))
          while try cursor.next(in: bytes) != nil {}
          return true
        } catch {
          return false
        }
      }
      #expect(isAccepted == (count == 3))
    }
  }
}

extension Range<Int> {
  fileprivate func encloses(_ other: Range<Int>) -> Bool {
    lowerBound <= other.lowerBound && other.upperBound <= upperBound
  }
}
