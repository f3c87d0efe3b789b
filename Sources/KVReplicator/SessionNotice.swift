// What a session finds out and mends by itself, and a program may want to know.

import KVLog

enum SessionNotice: Sendable, Equatable {
  /// The hub was restored to an older state. It has what this store pulled through `common` of `known`, and this store's
  /// commits through `decided` of `acknowledged`; what it lacks is brought back to it.
  case hubRestored(common: Version, known: Version, decided: Version, acknowledged: Version)
  /// The store was copied, or restored from a copy, and goes on under another name.
  case becameNewIncarnation(Identity)
}
