// What a write transaction knows of a table whose keys often come in ascending order.

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

struct GrowingTable {
  let table: Table
  /// No key of the table is greater. Nil: not known.
  var greatestKey: [UInt8]?

  init(table: Table) { self.table = table }

  /// Whether `key` is greater still; then it is the one from now on.
  mutating func pass(_ key: RawSpan) -> Bool {
    guard let greatest = greatestKey else { return false }
    let order = unsafe key.withUnsafeBytes { key in
      unsafe greatest.withUnsafeBytes { greatest in
        guard let left = key.baseAddress, let right = greatest.baseAddress else { return 0 }
        let order = unsafe Int(memcmp(left, right, min(key.count, greatest.count)))
        return order != 0 ? order : key.count - greatest.count
      }
    }
    guard order > 0 else { return false }
    greatestKey?.removeAll(keepingCapacity: true)
    unsafe key.withUnsafeBytes { unsafe greatestKey?.append(contentsOf: $0) }
    return true
  }
}
