// How an environment is opened.

internal import CLMDB

extension LMDBEnvironment {
  package struct Options: Sendable {
    /// The largest size the file can grow to; rounded up to whole pages. It costs address space, not memory or disk.
    /// A file that holds more already is mapped whole.
    package var mapSizeBytes: Int
    /// The map grows when it is used up, and follows the file when another process makes it larger: `mapSizeBytes` is
    /// what it begins with, or a multiple of the file, whichever is more. Not for a write map.
    package var mapGrows = false
    package var maximumTables = 8
    /// Slots for readers, of all processes together. The process that opens the lock file first decides.
    package var maximumReaders = 510
    package var readOnly = false
    /// A missing file is an error and not made.
    package var mustExist = false
    /// Commits are not made durable, and a crash of the system can damage the file: for files that can be rebuilt.
    package var withoutSync = false
    /// Changes are written through the map instead of copies of pages. Needs `preallocate`, or a full disk is a
    /// signal (SIGBUS); a stray write of the program damages the file. All processes must agree.
    package var writeMap = false
    /// No lock file, for a file nobody else can have open. Readers and a writer then exclude each other (`.busy`).
    package var withoutLock = false
    /// Turns read-ahead off, for files larger than memory that are read at random.
    package var withoutReadAhead = false
    /// Allocates the blocks of the whole map before it is mapped: a full disk is `.system(ENOSPC)` at open.
    package var preallocate = false
    /// A file with no more bytes than this in use is verified before LMDB follows any of its pages; of a larger one, only
    /// the pages that name its tables. Nil: nothing is, and damage there can end the program.
    package var verifiedBytes: Int?
    package var fileMode: UInt16 = 0o640

    package init(mapSizeBytes: Int) { self.mapSizeBytes = mapSizeBytes }

    /// LMDB's flags. The path is a file and not a folder; readers are tied to their object and not to a thread.
    var flags: UInt32 {
      var flags = MDB_NOSUBDIR | MDB_NOTLS
      if readOnly { flags |= MDB_RDONLY }
      if withoutSync { flags |= MDB_NOSYNC }
      if writeMap && !readOnly { flags |= MDB_WRITEMAP }
      if withoutLock { flags |= MDB_NOLOCK }
      if withoutReadAhead { flags |= MDB_NORDAHEAD }
      return UInt32(flags)
    }
  }
}
