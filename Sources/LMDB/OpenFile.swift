// A descriptor of a file, and what this layer does with the file besides mapping it.
//
// Invariants:
// - The descriptor is open as long as the object lives, so the inode is not given to another file meanwhile.
// - It is never one of the lock file while LMDB has that open: closing any descriptor of it would drop LMDB's locks.

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

final class OpenFile: Sendable {
  let path: String
  private let descriptor: Int32

  init(_ path: String, _ flags: Int32, mode: UInt16 = 0) throws(LMDBError) {
    guard !path.utf8.contains(0) else { throw LMDBError(.system(EINVAL), operation: "open the file", path: path) }
    var opened: Int32
    repeat {
      opened = unsafe open(path, flags | O_CLOEXEC, mode_t(mode))
    } while opened < 0 && errno == EINTR
    guard opened >= 0 else { throw LMDBError(.system(errno), operation: "open the file", path: path) }
    self.path = path
    descriptor = opened
  }

  deinit { close(descriptor) }

  func status() throws(LMDBError) -> stat {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else {
      throw LMDBError(.system(errno), operation: "look at the file", path: path)
    }
    return status
  }

  func byteCount() throws(LMDBError) -> Int { try Int(status().st_size) }

  /// Reads as many bytes as the file has there, up to the size of the buffer; says how many.
  func read(into buffer: inout [UInt8], at offset: Int) throws(LMDBError) -> Int {
    var done = 0
    while done < buffer.count {
      let count = unsafe buffer.withUnsafeMutableBytes { bytes in
        let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[done...])
        return unsafe pread(descriptor, rest.baseAddress, rest.count, off_t(offset + done))
      }
      if count == 0 { break }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw LMDBError(.system(errno), operation: "read the file", path: path) }
      done += count
    }
    return done
  }

  /// Maps the file from its beginning, for reading and shared with whoever writes it; it may end before the map does.
  func map(_ byteCount: Int) throws(LMDBError) -> UnsafeMutableRawPointer {
    let mapped = unsafe mmap(nil, byteCount, PROT_READ, MAP_SHARED, descriptor, 0)
    guard unsafe mapped != MAP_FAILED, let address = unsafe mapped else {
      throw LMDBError(.system(errno), operation: "map the file", path: path)
    }
    return unsafe address
  }

  /// What the file system has left for us; nil when it does not say.
  func freeBytes() -> Int? {
    var volume = statvfs()
    guard unsafe fstatvfs(descriptor, &volume) == 0, volume.f_blocks > 0 else { return nil }
    let (free, overflow) = UInt64(volume.f_bavail).multipliedReportingOverflow(by: UInt64(volume.f_frsize))
    return overflow ? .max : Int(clamping: free)
  }

  /// Allocates the blocks of the first `byteCount` bytes and makes the file at least that long. Zero, or the `errno`.
  func allocate(_ byteCount: Int) -> Int32 {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { return errno }
    let missing = byteCount - Int(status.st_blocks) * 512
    // Asking for more than there is would take all there is, from everybody, before it fails.
    if missing > 0, let free = freeBytes(), missing > free { return ENOSPC }
    #if canImport(Darwin)
      // The system adds to the blocks that the file has, wherever its end is, and leaves the size alone.
      if missing > 0 {
        var request = fstore_t(
          fst_flags: UInt32(F_ALLOCATECONTIG), fst_posmode: F_PEOFPOSMODE, fst_offset: 0, fst_length: off_t(missing),
          fst_bytesalloc: 0)
        if unsafe fcntl(descriptor, F_PREALLOCATE, &request) < 0 {
          request.fst_flags = UInt32(F_ALLOCATEALL)
          if unsafe fcntl(descriptor, F_PREALLOCATE, &request) < 0 { return errno }
        }
      }
      if Int(status.st_size) < byteCount, ftruncate(descriptor, off_t(byteCount)) < 0 { return errno }
      return 0
    #else
      while true {
        let problem = posix_fallocate(descriptor, 0, off_t(byteCount))
        if problem != EINTR { return problem }
      }
    #endif
  }
}
