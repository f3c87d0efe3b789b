// The exit statuses of kvsync: scripts depend on them, so a status never changes its meaning.

/// What a command ends with.
enum ExitStatus: Int32, Sendable {
  case ok = 0
  /// The command failed in a way that has no status of its own, or the key is absent.
  case failed = 1
  /// Two stores differ, conflicts or parked commits wait for a decision, or changes wait for a pull.
  case differences = 3
  case noStore = 10
  /// Another process holds the store or the port.
  case inUse = 11
  /// The operating system or the hub does not allow it.
  case notAllowed = 12
  case hubUnreachable = 13
  case corrupt = 14
  /// The disk, the quota or the store's map is full.
  case full = 15
  /// The hub's space is not the one that the store is bound to.
  case differentHub = 16
  /// The command line is wrong: an unknown option, a key over the limit, an address that is none.
  case usage = 64
}
