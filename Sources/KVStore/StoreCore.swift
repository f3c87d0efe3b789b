// What the threads of an open store share. `Store` is the user's handle; the core lives until the last thread and the
// last snapshot have let go of it.

import KVLog
import LMDB

final class StoreCore: Sendable {
  let path: String
  let identity: Identity
  let log: ReplicationLog
  let tail: Tail
  let index: Index
  let publication: Publication
  let idleSnapshots = IdleSnapshots()
  let folder = Folder()
  let writer = WriterThread()
  let retention: Store.LogRetention
  let lock: StoreLock

  init(
    path: String, identity: Identity, log: ReplicationLog, tail: Tail, index: Index, state: StoreState,
    retention: Store.LogRetention, lock: StoreLock
  ) {
    self.path = path
    self.identity = identity
    self.log = log
    self.tail = tail
    self.index = index
    self.retention = retention
    self.lock = lock
    publication = Publication(state)
  }

  /// Readers of everything, newest first, that agree on one version: taken under the tail's lock, so that no
  /// generation can be sealed, hence none folded, between the first reader and the last.
  func sources(live: Bool) throws(LMDBError) -> [Source] {
    try tail.withSources(live: live, index: index)
  }

  /// Makes every further write fail with one clear error; reading goes on.
  func poison(_ error: any Error) -> any Error {
    let poisoned = StoreError(
      .poisoned,
      "a write failed with an unknown outcome (\(error)); the store takes no more writes. Close and reopen it: what was acknowledged is safe.",
      path: path)
    publication.fail(poisoned)
    folder.wake()
    return poisoned
  }
}
