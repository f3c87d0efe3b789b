// The limits of LMDB that callers have to know before they choose their keys and transactions.

package enum LMDBLimits {
  /// The longest key in bytes; the shortest has one byte. It is LMDB's default (a key and its node must fit a
  /// quarter of the smallest page). It is checked here too, because a library built with another limit would
  /// write files that others cannot read.
  package static let maximumKeyBytes = 511

  /// The longest value in bytes: LMDB stores the length in 32 bits.
  package static let maximumValueBytes = Int(UInt32.max)

  /// How many pages one transaction may change before LMDB starts to spill: to write pages out early and read
  /// them back when they change again. Keep transactions well below (512 MiB of pages of 4 KiB).
  package static let spillThresholdPages = 131_071

  /// The size that LMDB gives a new lock file: a header, which has this size on 64-bit Linux with glibc, and a cache
  /// line for each reader. One that is longer would have slots for more readers.
  static func lockFileBytes(readers: Int) -> Int { 128 + readers * 64 }
}
