// Whether anybody has a data file open: for those who are about to replace or to remove it.

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

extension LMDBEnvironment {
  /// Runs `body` while no process has the file open, and keeps others from opening it meanwhile: they wait. False, without
  /// running it, when one has.
  ///
  /// Every process that has an environment open holds a shared lock on its lock file; the first one takes it exclusively.
  package static func whileUnused(_ path: String, _ body: () throws -> Void) rethrows -> Bool {
    // Open until the claim is given up: `body` may remove the file, and another one must not get its inode meanwhile.
    if let file = try? OpenFile(path, O_RDONLY), let status = try? file.status() {
      let identity = FileIdentity(
        device: UInt64(truncatingIfNeeded: status.st_dev), inode: UInt64(truncatingIfNeeded: status.st_ino))
      // To open and close the lock file here would drop the locks of this process.
      guard OpenFiles.claim(identity) else { return false }
      defer { withExtendedLifetime(file) { OpenFiles.release(identity) } }
      return try whileLocked(path + "-lock", body)
    }
    return try whileLocked(path + "-lock", body)
  }

  private static func whileLocked(_ path: String, _ body: () throws -> Void) rethrows -> Bool {
    let descriptor = unsafe open(path, O_RDWR | O_CLOEXEC)
    // Without a lock file nobody has it open.
    guard descriptor >= 0 else {
      try body()
      return true
    }
    defer { close(descriptor) }
    var lock = flock()
    lock.l_type = Int16(F_WRLCK)
    lock.l_whence = Int16(SEEK_SET)
    lock.l_start = 0
    lock.l_len = 1
    guard unsafe fcntl(descriptor, F_SETLK, &lock) == 0 || (errno != EAGAIN && errno != EACCES) else { return false }
    try body()
    return true
  }
}
