// What a replica writes: its transaction of a number, drawn from the seed, so that whoever knows the number knows the changes.
//
//   own/NAME/N       "NAME:N", and padding: nobody else ever writes it
//   own/NAME/M       deleted, of an earlier transaction M
//   left/NAME        "N", and so
//   right/NAME       "N": whoever sees these two differ sees half a transaction
//   shared/J         "NAME:N<WHAT", where WHAT is what stood there before, NAME:M or "-": all replicas write it
//
// Invariant: each value of a shared key names the one that it replaced, so that of each it can be told whether somebody knew of
// it who wrote what stands in the end.

import TestSupport

struct Writes {
  let seed: UInt64
  let name: String

  static let sharedKeys = 8

  struct Transaction: Equatable {
    var number: Int
    var padding: Int
    /// The earlier transaction whose own key is deleted.
    var deletes: Int?
    /// The shared keys that are written.
    var shared: [Int]
  }

  /// The transaction of a number, 1 and up.
  func transaction(_ number: Int) -> Transaction {
    let mixed = UInt64(number) &* 0x9E37_79B9 &+ name.utf8.reduce(0) { $0 &* 31 &+ UInt64($1) } &* 0x1_0000_0001
    var random = SeededGenerator(seed: seed ^ mixed)
    return Transaction(
      number: number, padding: random.chance(5) ? random.below(20_000) : random.below(200),
      deletes: number > 1 && random.chance(20) ? random.below(number - 1) + 1 : nil,
      shared: (0..<Self.sharedKeys).filter { _ in random.chance(8) })
  }

  static func own(_ name: String, _ number: Int) -> String { "own/\(name)/\(number)" }

  func ownValue(_ transaction: Transaction) -> String {
    "\(name):\(transaction.number)" + String(repeating: ".", count: transaction.padding)
  }

  func sharedValue(_ number: Int, over former: String?) -> String {
    "\(name):\(number)<\(former.map { Self.written($0).name } ?? "-")"
  }

  /// What wrote a value of a shared key, and what that replaced.
  static func written(_ value: String) -> (name: String, former: String?) {
    let parts = value.split(separator: "<", maxSplits: 1).map(String.init)
    return (parts.first ?? "", parts.count > 1 && parts[1] != "-" ? parts[1] : nil)
  }
}
