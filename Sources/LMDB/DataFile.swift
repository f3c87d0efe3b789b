// The data file before LMDB maps it: created if missing, identified, its head checked, its blocks allocated.

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

struct DataFile {
  let file: OpenFile
  let identity: FileIdentity
  /// Nothing was ever written: LMDB will make an environment of it.
  let isEmpty: Bool
  /// Whether this made the file; what fails afterwards then removes it again.
  let isNew: Bool
  /// The file ends before the last page that its meta pages speak of. That is no proof of damage: LMDB does not
  /// write pages at the end that one transaction both added and freed. But a page in use may be among the missing,
  /// and to touch that one through the map would be a signal.
  let isShort: Bool

  init(path: String, _ options: LMDBEnvironment.Options) throws(LMDBError) {
    (file, isNew) = try openOrCreate(path, options)
    let status = try file.status()
    switch status.st_mode & S_IFMT {
    case S_IFREG: break
    case S_IFDIR: throw LMDBError(.system(EISDIR), operation: "open the file", path: path)
    default: throw LMDBError(.invalid, operation: "open the file", path: path)
    }
    identity = FileIdentity(
      device: UInt64(truncatingIfNeeded: status.st_dev), inode: UInt64(truncatingIfNeeded: status.st_ino))
    isEmpty = status.st_size == 0
    guard !isEmpty else {
      isShort = false
      if options.readOnly { throw LMDBError(.invalid, operation: "open the environment", path: path) }
      return
    }
    let usedBytes = try DataFile.newestMeta(file).usedBytes
    // In this order: another process makes the file longer before it writes the meta page that says so.
    let missing = try usedBytes - file.byteCount()
    // No transaction frees that much of what it just added: a damaged page count, not worth a walk of its pages.
    guard missing < 64 << 30 else { throw LMDBError(.corrupted, operation: "open the environment", path: path) }
    isShort = missing > 0
  }

  /// Reads both meta pages, as LMDB will, and gives the one that counts.
  static func newestMeta(_ file: OpenFile) throws(LMDBError) -> MetaPage { try metas(file)[0] }

  /// Both meta pages, the newer one first.
  static func metas(_ file: OpenFile) throws(LMDBError) -> [MetaPage] {
    var attempts = 0
    while true {
      do throws(LMDBError) {
        let first = try meta(file, at: 0)
        let second = try meta(file, at: first.pageSize)
        guard first.pageSize == second.pageSize else {
          throw LMDBError(.corrupted, operation: "open the environment", path: file.path)
        }
        return first.transaction > second.transaction ? [first, second] : [second, first]
      } catch {
        // Another process may have been writing the page just then.
        attempts += 1
        guard attempts < 3 else { throw error }
      }
    }
  }

  static func meta(_ file: OpenFile, at offset: Int) throws(LMDBError) -> MetaPage {
    var bytes = [UInt8](repeating: 0, count: FileFormat.pageHeaderBytes + FileFormat.metaBytes)
    let count = try file.read(into: &bytes, at: offset)
    return unsafe try MetaPage(bytes.span.bytes.extracting(first: count), file.path)
  }

  /// Allocates the blocks of the first `byteCount` bytes, so that no page of the map can lack one: a full disk is
  /// an error here and not a signal in the middle of a store. (A copy-on-write file system may still run out.)
  func allocateBlocks(_ byteCount: Int) throws(LMDBError) {
    let problem = file.allocate(byteCount)
    guard problem == 0 else {
      throw LMDBError(.system(problem), operation: "allocate \(byteCount) bytes", path: file.path)
    }
  }

  /// Takes back a file that this made, and its lock file.
  func removeIfNew() {
    guard isNew else { return }
    unsafe unlink(file.path)
    unsafe unlink(file.path + "-lock")
  }
}

private func openOrCreate(
  _ path: String, _ options: LMDBEnvironment.Options
) throws(LMDBError) -> (file: OpenFile, isNew: Bool) {
  // Not blocking, so that a named pipe is refused instead of waited for.
  if options.readOnly { return (try OpenFile(path, O_RDONLY | O_NONBLOCK), false) }
  if options.mustExist { return (try OpenFile(path, O_RDWR | O_NONBLOCK), false) }
  do throws(LMDBError) {
    return (try OpenFile(path, O_RDWR | O_CREAT | O_EXCL, mode: options.fileMode), true)
  } catch {
    guard error.code == .system(EEXIST) else { throw error }
    return (try OpenFile(path, O_RDWR | O_NONBLOCK), false)
  }
}
