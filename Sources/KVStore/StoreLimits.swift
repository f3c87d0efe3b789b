// Every size, limit and default of the store, in one place, each with its reason.

import KVLog

package enum StoreLimits {
  /// Format of the store's directory. A larger number on disk is refused, never guessed at.
  package static let format = 1

  /// Address space that the index is opened with, or four times its file if that is more. Only a reservation: the file is
  /// as large as its data. When half of it is used, it grows. 64 GiB leave room for two thousand open stores in a 47-bit
  /// address space.
  package static let indexMapBytes = 64 << 30

  /// An index of at most this many bytes is walked page by page whenever it is opened: a few milliseconds, for which damage
  /// to its structure is an error and not the end of the program, also for who writes. Larger ones are walked by `Store.verify`
  /// only.
  package static let verifiedIndexBytes = 8 << 20

  /// The first tail generation of an open store, so that a store of ten keys occupies little.
  package static let smallestGenerationBytes = 512 << 10
  /// A generation that filled up is followed by one this many times larger…
  package static let generationGrowth = 4
  /// …up to this: about half a million rows of 100 bytes; larger trees fall out of the processor's cache.
  package static let largestGenerationBytes = 128 << 20
  /// Sealed generations of the largest size that may wait for the folder before writers wait too, or as many bytes in smaller
  /// ones: bounds disk, and with it the time that a view takes to open which replays the log…
  package static let sealedGenerations = 6
  /// …and never more than so many: each costs a reader a look.
  static let smallSealedGenerations = 24
  /// Sealed generations wait for others, as long as somebody writes and up to half of what may wait, until they have
  /// so many rows for each page of the index: a fold with fewer writes a whole page for each row or two.
  static let foldRowsPerPage = 6
  /// Share of the room beside a fold that writers may use before they have to keep its pace.
  static let leadOfWriters = 0.5
  /// A group that is ahead of the fold under way waits for no longer than this, however slow the disk is.
  static let longestPauseSeconds = 0.5
  /// Without a write for this long sealed generations are folded, however few rows they have.
  static let foldIdleSeconds = 1.0
  /// A generation is sealed at a group's start when this share of it is used, so that running full in the
  /// middle of a group stays rare.
  package static let generationFillPercent = 80

  /// What a process remembers of the keys of a sealed generation, so that reads pass over it: enough for one look-up in
  /// seventy to be made in vain…
  static let filterBitsPerKey = 10
  /// …in this much memory at most, for each generation; with more keys than fit, more look-ups are in vain.
  static let filterBytes = 1 << 20

  /// Pages of the index that a fold dirties in one transaction, about: they lie in anonymous memory until it commits,
  /// whatever the size of the store.
  package static let foldPages = 1_024
  /// Bytes a fold copies in one transaction, for large values.
  package static let foldBytes = 4 << 20
  /// Entries of the journal and its like that a fold copies in one transaction: each dirties one leaf page at most.
  static let foldEntries = 2_048
  /// A disk that has no room for a fold's transaction may have some for one with fewer pages, down to this many.
  static let smallestFoldPages = 16
  /// Set aside for what makes room on a full disk: blocks of the log, for some hundreds of deletions…
  static let reservedLogBytes = 128 << 10
  /// …and a generation of the tail, with its lock file and what certifies the one before it.
  static let reservedTailBytes = 384 << 10
  /// A generation that has to fit into that.
  static let reservedGenerationBytes = 256 << 10
  /// Tombstones that are swept in one transaction; each dirties at most two leaf pages.
  package static let sweepRows = 1_024

  /// A group takes no further commit once it has this many bytes: one pwrite stays short and a reader of the log
  /// needs a buffer of this size.
  package static let groupBytes = 1 << 20
  /// No request may make a group larger than this: a block, less its own bytes.
  static let largestGroupBytes = LogLimits.maximumBlockBytes - 4_096
  /// A group that applies a feed takes no further commit of it once it has this many bytes, conflicts included.
  package static let feedBytes = 16 << 20
  /// What the conflicts of one commit may add to a group; beyond that the commit is recorded in parts. With what a group
  /// may have before, the largest commit and two of the largest values it stays below the largest block.
  package static let conflictBytes = 64 << 20
  /// What merges may make of the conflicts of one group.
  package static let mergedBytes = 80 << 20
  /// A group of at least so many bytes goes into the tail while another thread synchronises the log: about as long as
  /// that thread takes to wake up.
  static let overlappedBytes = 32 << 10
  /// Log whose rows wait to be inserted by key, see `Inserter`, is inserted when it is so much: some hundred thousand rows
  /// of 100 bytes…
  static let insertedBytes = 40 << 20
  /// …as soon as it has so many rows, each of which takes 24 bytes of memory meanwhile…
  static let insertedRows = 1 << 18
  /// …or when it has waited for so long. The writer waits when so much does: a read that comes then waits for some tenths of
  /// a second.
  static let insertionSeconds = 2.0
  static let waitingBytes = 64 << 20
  /// The same for small groups, each of which takes some hundred bytes of memory.
  static let waitingGroups = 1 << 14
  /// So many rows at once become a generation of their own.
  static let ownGenerationRows = 1 << 15
  /// A group larger than this goes into the tail itself.
  static let insertedGroupBytes = 4 << 20
  /// Stores of a process that insert at the same time.
  static let inserters = 2
  /// Log that recovery applies in one transaction, about.
  static let recoveredBytes = 1 << 20
  /// What the conflict journal keeps by default: a replica that comes back after a year with a million edits, all of them in
  /// conflict, loses none of them…
  static let journalCount = 10_000_000
  /// …as long as they are not larger than this together…
  static let journalBytes = 1 << 30
  /// …and for as long again, so that somebody can look.
  static let journalAge: Duration = .seconds(366 * 86_400)
  /// Entries of the journal that one group takes out or passes over: more than it can add with what is fed at once.
  static let prunedEntries = 1 << 14
  /// Log that is read for the bases of the merges of one group: some hundred thousand changes, a tenth of a second.
  static let baseLogBytes = 64 << 20
  /// Parked commits, without their changes, that are held in memory when all of them are decided about.
  static let parkedPerStep = 1_024
  /// Requests taken into one group at most.
  package static let groupRequests = 4_096

  /// Acknowledged log that a replica keeps, for readers of `changes(after:)` and for a hub that lost its newest data.
  package static let retainedLogBytes = 256 << 20

  /// A relaxed write is durable after this at the latest, unless the disk itself is slower.
  package static let relaxedSeconds = 0.1
  /// A snapshot that no read has used for this long is let go of.
  static let idleMilliseconds: UInt64 = 1_000
  /// How long an opening waits for another process that is opening or closing the store just then.
  static let openingSeconds = 30.0
  /// The lease of the process that replicates ends when it has not shown for this long that it is alive.
  package static let leaseMilliseconds: UInt64 = 10_000

  /// Log streams kept open between calls of the replicator and the hub: one per busy peer; each holds a buffer of
  /// about a block.
  package static let cachedStreams = 8

  /// A batch of changes is full with so many bytes of keys and values, or so many changes: what a reader that is slow
  /// costs. More would not make it faster.
  static let changeBatchBytes = 1 << 20
  static let changeBatchCount = 4_096
  /// Log that is read for one batch at most, however few of its changes are asked for or the newest of their keys: some
  /// tens of milliseconds of a thread.
  static let changeBatchLogBytes = 16 << 20
  /// Rows, tombstones included, that are looked at for each row of a live query's page: bounds how long its snapshot lives.
  static let lookedAtPerRow = 16
  /// What was written last lies in memory: a reader that is so far behind, or less, reads it without leaving its thread.
  static let recentLogBytes = 256 << 10
  /// Of that, what a session reads on its event loop, where others wait meanwhile: some hundred changes, a fraction of a
  /// millisecond.
  static let atHandLogBytes = 16 << 10

  /// Commits whose marks are held while a hub that was restored is brought up to date: some 25 MB.
  static let commitMarks = 1 << 20

  /// A hybrid clock that is ahead of the wall clock by more than this is not followed further.
  package static let clockTolerance: Duration = .seconds(120)

  /// Prefixes that a store subscribes to…
  static let maximumScopes = 256
  /// …as ranges together: with a token and two bounds more they fit in a hello.
  static let scopesBytes = 8 << 10
  /// What is remembered of the keys that left the scopes, as ranges: those between as many scopes as there may be, and some more.
  static let leftScopesBytes = 3 * scopesBytes
}

extension StoreLimits {
  /// Keys that deleting a range removes before it looks for more: as many as one of its commits has, so that other writes
  /// wait for a few milliseconds, and few enough to be held in memory.
  static let deletedKeysPerPage = 1_024
  /// Rows that it looks at for them, tombstones of earlier deletions included; and rows here that one group goes through
  /// which are not in a page of a snapshot.
  static let lookedAtPerPage = 64 << 10

  // Coalescing, see `PushReader`.

  /// Up to so many pending changes are looked up one by one, whatever the store is like: some milliseconds.
  static let lookedUpChanges = 4_096
  /// Of more, all rows are walked once instead, if the store has at most so many for each of the changes, and when so many
  /// were looked up that there are no more rows for each of them: a walk costs a row what a look-up costs a change, in so many
  /// parts.
  static let surveyedRowsPerChange = 8
  /// Versions that one walk tells of: 8 MB of bits.
  static let surveyedVersions = 64 << 20
  /// Log that is read for one run at most, however little of it is to be shipped: some hundredths of a second.
  static let pushReadBytes = 16 << 20
  /// So many commits at a time, whose rows are looked up, are offered again if a restored hub may not have them: writers wait
  /// meanwhile.
  static let unprovenCommits = 4_096
}

extension StoreLimits {
  static func check(key: RawSpan) throws(StoreError) {
    if key.byteCount == 0 {
      throw StoreError(.keyEmpty, "a key must have at least one byte.")
    }
    if key.byteCount > LogLimits.maximumKeyBytes {
      throw StoreError(
        .keyTooLong,
        "the key has \(key.byteCount) bytes; the limit is \(LogLimits.maximumKeyBytes). Use a shorter key or a hash of it."
      )
    }
  }

  /// `commitBytes` has the core of the commit so far.
  static func check(value: RawSpan, key: RawSpan, commitBytes: Int) throws(StoreError) {
    if value.byteCount > LogLimits.maximumValueBytes {
      throw StoreError(
        .valueTooLong,
        "the value has \(value.byteCount) bytes; the limit is \(LogLimits.maximumValueBytes). Split it over several keys."
      )
    }
    let change = ChangeEncoding.byteCount(keyBytes: key.byteCount, valueBytes: value.byteCount)
    if commitBytes + change > LogLimits.maximumCommitBytes {
      throw StoreError(
        .commitTooLarge,
        "the transaction has more than \(LogLimits.maximumCommitBytes) bytes. Split it into several.")
    }
  }
}
