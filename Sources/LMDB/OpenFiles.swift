// The data files that this process has open, so that none is opened twice.
//
// LMDB guards its lock file with fcntl locks, which belong to the process: closing a second environment of the same
// file drops the locks of the first, after which another process takes its readers for dead and reuses their pages.
//
// Invariants:
// - A file is in the set from before `mdb_env_open` until after `mdb_env_close`.
// - Files are told apart by device and inode, so links and other spellings of a path do not get around it.

internal import Synchronization

struct FileIdentity: Hashable, Sendable {
  var device: UInt64
  var inode: UInt64
}

enum OpenFiles {
  private static let open = Mutex<Set<FileIdentity>>([])

  /// False when the file is open already.
  static func claim(_ file: FileIdentity) -> Bool {
    open.withLock { $0.insert(file).inserted }
  }

  static func release(_ file: FileIdentity) {
    open.withLock { _ = $0.remove(file) }
  }
}
