// Space set aside for what makes room on a full disk: deletions, acknowledgements, folding and truncating the log.
//
// Invariants
// - It is given up only when the disk is full, and taken again once there is plenty.
// - Having none is no error: the disk may have been full from the start.

import Foundation

struct Reserve: Sendable {
  static let name = "reserve"
  let path: String

  init(_ directory: StoreDirectory) { path = "\(directory.path)/\(Reserve.name)" }

  /// Gives the space up; false when there was none.
  func release() -> Bool {
    var status = stat()
    guard unsafe stat(path, &status) == 0, status.st_size > 0 else { return false }
    return unsafe truncate(path, 0) == 0
  }

  /// Sets the space aside, unless the disk has little left. Says whether it is there.
  @discardableResult
  func restore() -> Bool {
    var status = stat()
    if unsafe stat(path, &status) == 0, status.st_size > 0 { return true }
    let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var volume = statvfs()
    guard unsafe fstatvfs(descriptor, &volume) == 0,
      UInt64(volume.f_bavail) * UInt64(volume.f_frsize) > UInt64(StoreLimits.reserveBytes) * 4
    else { return false }
    let zeros = [UInt8](repeating: 0, count: StoreLimits.reserveBytes)
    let written = unsafe zeros.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
    if written == zeros.count { return true }
    ftruncate(descriptor, 0)
    return false
  }
}
