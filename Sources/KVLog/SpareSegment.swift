// The file that will be the next segment, made while the present one is being filled: writing zeros ahead takes the disk
// tens of milliseconds, and a synchronisation of the same file would wait for them.
//
// Invariants
// - It has a name that no reader takes for a segment's, and no other process uses. Whoever opens the log first, or cleans up
//   after a process that died, removes it: its maker finds that out when it wants to rename it, and makes another one.
// - All of it is zeros and durable before it is used.

struct SpareSegment {
  let file: any LogFile
  let path: String
  let bytes: UInt64

  /// Nil when there is no room for it and `leaving` more bytes, when it could not be made, or when `isWanted` says no: then
  /// segments are made when they are needed.
  init?(
    _ configuration: LogConfiguration, leaving: UInt64, named name: String, while isWanted: () -> Bool
  ) {
    let files = configuration.fileSystem
    bytes = UInt64(configuration.segmentBytes)
    path = configuration.path(name)
    let free = files.freeBytes(configuration.directory) ?? .max
    guard free >= 2 * bytes, free - 2 * bytes >= leaving else { return nil }
    do {
      file = try files.open(path, .create)
    } catch {
      return nil
    }
    var written: UInt64 = 0
    do {
      while written < bytes {
        guard isWanted() else { throw SystemError.inputOutput }
        let end = min(bytes, written + UInt64(configuration.preparedStepBytes))
        try SegmentWriter.writeZeros(to: file, written..<end)
        try file.synchronizeData()
        written = end
      }
      try file.synchronizeAll()
    } catch {
      remove(configuration)
      return nil
    }
  }

  func remove(_ configuration: LogConfiguration) { try? configuration.fileSystem.unlink(path) }
}
