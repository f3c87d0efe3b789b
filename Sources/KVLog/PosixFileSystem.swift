// Files of Linux and Apple platforms.
//
// Invariants:
// - Interrupted calls are repeated and short reads and writes completed, except a synchronisation: its failure is
//   reported and it is never tried again, because after a failure the kernel may have dropped what it could not write.
//   Sending bytes ahead of it waits for nothing and asks for no outcome: that stays to be told to the synchronisation.
// - On Apple platforms only F_FULLFSYNC reaches the medium; fsync alone stops at the drive's cache.

#if os(Linux)
  internal import CPlatform
#endif

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

package struct PosixFileSystem: LogFileSystem {
  /// The permissions of new files, before the process's mask.
  package var fileMode: UInt16
  package var directoryMode: UInt16

  package init(fileMode: UInt16 = 0o640, directoryMode: UInt16 = 0o750) {
    self.fileMode = fileMode
    self.directoryMode = directoryMode
  }

  package func open(_ path: String, _ mode: LogFileMode) throws(SystemError) -> any LogFile {
    let flags =
      switch mode {
      case .read: O_RDONLY
      case .write: O_RDWR
      case .create: O_RDWR | O_CREAT | O_TRUNC
      }
    return PosixFile(try open(path, flags | O_CLOEXEC))
  }

  package func list(_ directory: String) throws(SystemError) -> [String] {
    guard let stream = unsafe opendir(directory) else { throw .last }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while true {
      errno = 0
      guard let entry = unsafe readdir(stream) else { break }
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        unsafe String(decoding: bytes.prefix(while: { $0 != 0 }), as: UTF8.self)
      }
      if name != "." && name != ".." { names.append(name) }
    }
    guard errno == 0 else { throw .last }
    return names
  }

  package func rename(_ path: String, to target: String) throws(SystemError) {
    guard renameFile(path, target) == 0 else { throw .last }
  }

  package func unlink(_ path: String) throws(SystemError) {
    guard unlinkFile(path) == 0 else { throw .last }
  }

  package func synchronizeDirectory(_ path: String) throws(SystemError) {
    let descriptor = try open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    defer { close(descriptor) }
    // EINVAL: a file system without this notion, where directories are as durable as they get.
    guard fsync(descriptor) == 0 || errno == EINVAL else { throw .last }
  }

  package func makeDirectory(_ path: String) throws(SystemError) {
    guard unsafe mkdir(path, mode_t(directoryMode)) == 0 || errno == EEXIST else { throw .last }
  }

  package func freeBytes(_ path: String) -> UInt64? {
    var volume = statvfs()
    guard volumeInformation(path, &volume) == 0, volume.f_blocks > 0 else { return nil }
    let (free, overflow) = UInt64(volume.f_bavail).multipliedReportingOverflow(by: UInt64(volume.f_frsize))
    return overflow ? .max : free
  }

  private func open(_ path: String, _ flags: Int32) throws(SystemError) -> Int32 {
    while true {
      let descriptor = openFile(path, flags, fileMode)
      if descriptor >= 0 { return descriptor }
      guard errno == EINTR else { throw .last }
    }
  }
}

// Outside the type, where its methods of the same names do not hide the calls.
private func openFile(_ path: String, _ flags: Int32, _ mode: UInt16) -> Int32 {
  unsafe open(path, flags, mode_t(mode))
}

private func volumeInformation(_ path: String, _ volume: inout statvfs) -> Int32 { unsafe statvfs(path, &volume) }

private func renameFile(_ path: String, _ target: String) -> Int32 { unsafe rename(path, target) }

private func unlinkFile(_ path: String) -> Int32 { unsafe unlink(path) }

extension SystemError {
  fileprivate static var last: SystemError { SystemError(code: errno) }
}

private final class PosixFile: LogFile {
  private let descriptor: Int32

  init(_ descriptor: Int32) { self.descriptor = descriptor }
  deinit { close(descriptor) }

  func read(into buffer: inout [UInt8], _ range: Range<Int>, at offset: UInt64) throws(SystemError) -> Int {
    precondition(range.upperBound <= buffer.count, "the range lies in the buffer")
    var done = 0
    while done < range.count {
      let count = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe pread(
          descriptor, bytes.baseAddress! + range.lowerBound + done, range.count - done, off_t(offset) + off_t(done))
      }
      if count > 0 {
        done += count
      } else if count == 0 {
        break
      } else if errno != EINTR {
        throw .last
      }
    }
    return done
  }

  func write(_ bytes: RawSpan, at offset: UInt64) throws(SystemError) {
    var done = 0
    while done < bytes.byteCount {
      let count = unsafe bytes.withUnsafeBytes { bytes in
        unsafe pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset) + off_t(done))
      }
      if count > 0 {
        done += count
      } else if count == 0 {
        throw SystemError(code: EIO)
      } else if errno != EINTR {
        throw .last
      }
    }
  }

  func size() throws(SystemError) -> UInt64 {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { throw .last }
    return UInt64(status.st_size)
  }

  func truncate(to size: UInt64) throws(SystemError) {
    while ftruncate(descriptor, off_t(size)) != 0 {
      guard errno == EINTR else { throw .last }
    }
  }

  func willSynchronize(_ range: Range<UInt64>) {
    #if os(Linux)
      begin_writeback(descriptor, range.lowerBound, UInt64(range.count))
    #endif
  }

  func synchronizeData() throws(SystemError) {
    #if canImport(Darwin)
      try synchronizeAll()
    #else
      guard fdatasync(descriptor) == 0 else { throw .last }
    #endif
  }

  func synchronizeAll() throws(SystemError) {
    #if canImport(Darwin)
      guard fcntl(descriptor, F_FULLFSYNC) == 0 else { throw .last }
    #else
      guard fsync(descriptor) == 0 else { throw .last }
    #endif
  }
}
