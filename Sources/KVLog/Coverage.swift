// Which keys a replica has, as ranges in byte order: of these, and of no others, it has everything up to its pull cursor.
//
//     coverage = u16 count | *(from u16 count | bytes; end u16 count | bytes)      an empty end: no end
//
// Invariants
// - The ranges are not empty, ascend, and neither overlap nor touch: equal coverages have equal ranges.

/// The keys from `from` (included) to `end` (excluded); nil: to the last of all.
package struct KeyInterval: Hashable, Sendable {
  package var from: [UInt8]
  package var end: [UInt8]?

  package init(from: [UInt8], end: [UInt8]?) {
    self.from = from
    self.end = end
  }

  /// All keys that begin with `prefix`.
  package init(prefix: [UInt8]) {
    from = prefix
    guard let last = prefix.lastIndex(where: { $0 != 0xFF }) else { return }
    end = Array(prefix[...last])
    end?[last] += 1
  }

  package var isEmpty: Bool { end.map { !from.lexicographicallyPrecedes($0) } ?? false }
}

package struct Coverage: Hashable, Sendable {
  package private(set) var intervals: [KeyInterval] = []

  package static let none = Coverage()
  package static let all = Coverage([KeyInterval(from: [], end: nil)])

  package init() {}

  package init(_ intervals: [KeyInterval]) {
    for interval in intervals { insert(interval) }
  }

  /// The keys that begin with one of the prefixes.
  package init(prefixes: [[UInt8]]) {
    self.init(prefixes.map(KeyInterval.init(prefix:)))
  }

  package var isEmpty: Bool { intervals.isEmpty }
  package var isAll: Bool { self == Coverage.all }

  package func contains(_ key: RawSpan) -> Bool {
    // The last one that begins at or before the key.
    var low = 0
    var high = intervals.count
    while low < high {
      let middle = (low + high) / 2
      let from = intervals[middle].from
      if key.compare(from.bytes) < 0 { high = middle } else { low = middle + 1 }
    }
    guard low > 0 else { return false }
    return intervals[low - 1].end.map { key.compare($0.bytes) < 0 } ?? true
  }

  package mutating func insert(_ interval: KeyInterval) {
    guard !interval.isEmpty else { return }
    var merged = interval
    var rest: [KeyInterval] = []
    for other in intervals {
      let isApart =
        other.end.map { $0.lexicographicallyPrecedes(merged.from) } ?? false
        || merged.end.map { $0.lexicographicallyPrecedes(other.from) } ?? false
      guard !isApart else {
        rest.append(other)
        continue
      }
      if other.from.lexicographicallyPrecedes(merged.from) { merged.from = other.from }
      merged.end = merged.end.flatMap { end in other.end.map { end.lexicographicallyPrecedes($0) ? $0 : end } }
    }
    let place = rest.firstIndex { merged.from.lexicographicallyPrecedes($0.from) } ?? rest.count
    rest.insert(merged, at: place)
    intervals = rest
  }

  package mutating func remove(_ interval: KeyInterval) {
    guard !interval.isEmpty else { return }
    intervals = intervals.flatMap { own in
      var before = own
      if own.end.map({ interval.from.lexicographicallyPrecedes($0) }) ?? true { before.end = interval.from }
      var parts = before.isEmpty ? [] : [before]
      if let end = interval.end {
        let after = KeyInterval(from: own.from.lexicographicallyPrecedes(end) ? end : own.from, end: own.end)
        if !after.isEmpty { parts.append(after) }
      }
      return parts
    }
  }

  package func union(_ other: Coverage) -> Coverage {
    other.intervals.reduce(into: self) { $0.insert($1) }
  }

  package func subtracting(_ other: Coverage) -> Coverage {
    other.intervals.reduce(into: self) { $0.remove($1) }
  }

  package func intersection(_ other: Coverage) -> Coverage {
    subtracting(Coverage.all.subtracting(other))
  }

  // MARK: Bytes

  package var encodedByteCount: Int {
    intervals.reduce(2) { $0 + 4 + $1.from.count + ($1.end?.count ?? 0) }
  }

  package func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: UInt16(intervals.count))
    for interval in intervals {
      bytes.append(littleEndian: UInt16(interval.from.count))
      bytes.append(contentsOf: interval.from)
      bytes.append(littleEndian: UInt16(interval.end?.count ?? 0))
      bytes.append(contentsOf: interval.end ?? [])
    }
  }

  package init(from reader: inout ByteReader, in bytes: RawSpan) throws(LogFormatError) {
    for _ in 0..<(try reader.read(UInt16.self, from: bytes)) {
      let interval = try KeyInterval(from: &reader, in: bytes)
      let isNext = intervals.last.map { $0.end?.lexicographicallyPrecedes(interval.from) ?? false } ?? true
      guard isNext else { throw LogFormatError(.badKey, at: reader.offset) }
      intervals.append(interval)
    }
  }
}

extension KeyInterval {
  /// The end of a page may be a key's successor: one byte longer than a key.
  private static let maximumBoundBytes = LogLimits.maximumKeyBytes + 1

  package func encode(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: UInt16(from.count))
    bytes.append(contentsOf: from)
    bytes.append(littleEndian: UInt16(end?.count ?? 0))
    bytes.append(contentsOf: end ?? [])
  }

  package init(from reader: inout ByteReader, in bytes: RawSpan) throws(LogFormatError) {
    let from = try reader.counted(UInt16.self, atMost: Self.maximumBoundBytes, from: bytes)
    let end = try reader.counted(UInt16.self, atMost: Self.maximumBoundBytes, from: bytes)
    self.from = bytes.extracting(from).copied()
    self.end = end.isEmpty ? nil : bytes.extracting(end).copied()
    guard !isEmpty else { throw LogFormatError(.badKey, at: from.lowerBound) }
  }
}
