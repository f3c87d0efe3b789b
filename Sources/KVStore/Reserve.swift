// Space set aside for what makes room on a full disk: deletions, acknowledgements, folding and truncating the log.
//
// Invariants
// - It is given up only when the disk is full, and taken again once there is plenty.
// - The log has a part of it and the tail the other: neither takes what the other needs, nor does the index, which would take
//   whatever there is. One file holds both; its size says which are there.
// - A file of any other size, as a process that died while it wrote it leaves one, is given up as a whole.
// - Having none is no error: the disk may have been full from the start.

import Foundation

struct Reserve: Sendable {
  static let name = "reserve"
  let path: String

  init(_ directory: StoreDirectory) { path = "\(directory.path)/\(Reserve.name)" }

  /// What the space is for.
  struct Parts: OptionSet {
    let rawValue: Int
    static let log = Parts(rawValue: 1)
    static let tail = Parts(rawValue: 2)
    static let all: Parts = [.log, .tail]

    /// Those that a file of that size has; nil: it was being written when its process or its machine died.
    init?(byteCount: Int) {
      guard let parts = [[], .log, .tail, .all].first(where: { (parts: Parts) in parts.byteCount == byteCount }) else {
        return nil
      }
      self = parts
    }

    init(rawValue: Int) { self.rawValue = rawValue }

    var byteCount: Int {
      (contains(.log) ? StoreLimits.reservedLogBytes : 0) + (contains(.tail) ? StoreLimits.reservedTailBytes : 0)
    }
  }

  /// Gives the space up, for whoever takes it at once; false when there was none.
  func release(_ parts: Parts) -> Bool {
    let size = size
    let present = Parts(byteCount: size)
    let remaining = present?.subtracting(parts).byteCount ?? 0
    return unsafe remaining < size && truncate(path, off_t(remaining)) == 0
  }

  /// Sets the space aside, unless the disk has little left. Says whether all of it is there.
  @discardableResult
  func restore() -> Bool {
    let size = size
    let missing = Parts.all.byteCount - size
    guard missing > 0 else { return true }
    let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var volume = statvfs()
    guard unsafe fstatvfs(descriptor, &volume) == 0,
      UInt64(volume.f_bavail) * UInt64(volume.f_frsize) > UInt64(Parts.all.byteCount) * 4
    else { return false }
    let zeros = [UInt8](repeating: 0, count: missing)
    let written = unsafe zeros.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, off_t(size)) }
    if written == missing { return true }
    ftruncate(descriptor, off_t(size))
    return false
  }

  private var size: Int {
    var status = stat()
    return unsafe stat(path, &status) == 0 ? Int(status.st_size) : 0
  }
}
