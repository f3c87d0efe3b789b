// Every limit of the log in one place, each with its reason.

// Computed, so that the cursors' checks are compiled with constants in other modules too.
package enum LogLimits {
  /// LMDB's own limit for a key (`MDB_MAXKEYSIZE`), which the index inherits.
  @inlinable package static var maximumKeyBytes: Int { 511 }
  /// A value is held in memory whole, on both sides of the wire.
  @inlinable package static var maximumValueBytes: Int { 16 << 20 }
  /// A commit is applied at once everywhere, so it must fit in memory everywhere. Counts the commit's core.
  @inlinable package static var maximumCommitBytes: Int { 64 << 20 }
  /// A block is read into memory whole. Room for a group of commits that the largest one ends, and the records beside
  /// them.
  @inlinable package static var maximumBlockBytes: Int { 256 << 20 }
  /// What a log grows by at once: some hundredths of a second of a disk.
  @inlinable package static var largestStepBytes: Int { 4 << 20 }
  /// The text of a refusal, as UTF-8; what is longer is cut when it is written.
  @inlinable package static var maximumMessageBytes: Int { 1024 }
  /// The texts of a replica's refusals together, as long as it has not confirmed them: beyond that a refusal has its code
  /// only. A window full of the smallest commits, all refused, then fits into what a welcome may carry.
  @inlinable package static var unconfirmedMessageBytes: Int { 1 << 20 }
  /// Exceptions carried by one acknowledgement or remembered for one replica; bounds what a decoder allocates.
  @inlinable package static var maximumExceptions: Int { 1 << 20 }
}
