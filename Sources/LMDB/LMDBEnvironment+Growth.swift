// The map of an environment that is open becomes larger by itself, so that no user ever has to think of its size.
//
// Invariants:
// - liblmdb puts the new map in the place of the old one. So every call of this process that looks at the map is made
//   in the gate (`MapGate`), or by the one write transaction: while that lives, liblmdb refuses to change the map.
// - Read transactions live on: what they lend lies in maps of our own (`PageMaps`), and where liblmdb's lies is nothing
//   that they remember.
// - A map that grows is at least twice as large as before: there are few growths.

internal import CLMDB
internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

/// Of an environment whose map grows.
final class MapGrowth: Sendable {
  let gate = MapGate()
  /// A write transaction has found the map full.
  let isFull = Atomic(false)

  /// What is mapped for a file of so many bytes: a multiple, so that it takes long until it is used up.
  static func mapBytes(forFileOf bytes: Int) -> Int { 4 * bytes }
}

extension LMDBEnvironment {
  /// Runs `body`, in which liblmdb looks at its map.
  @inline(__always)
  func whileMapStays<R, E>(_ body: () throws(E) -> R) throws(E) -> R {
    guard let growth else { return try body() }
    return try growth.gate.whileMapStays(body)
  }

  /// Before a write transaction: the map has as much room again as the file has, or more. A transaction that needs more
  /// than that fails with `.mapFull`, and the next one finds a map four times as large.
  func makeRoomInMap() {
    guard let growth else { return }
    let (mapBytes, usedBytes, _, _) = statistics
    let wasFull = growth.isFull.exchange(false, ordering: .relaxed)
    guard wasFull || usedBytes > mapBytes / 2 else { return }
    // Without success: there is no more address space. What is there may still do.
    enlargeMap(of: mapBytes, to: max(4 * mapBytes, MapGrowth.mapBytes(forFileOf: usedBytes)))
  }

  /// A write transaction found it so.
  func mapIsFull() { growth?.isFull.store(true, ordering: .relaxed) }

  /// After another process has made the file larger than the map.
  func followFile() throws(LMDBError) {
    let mapBytes = statistics.mapSizeBytes
    enlargeMap(of: mapBytes, to: max(2 * mapBytes, MapGrowth.mapBytes(forFileOf: try dataFile.file.byteCount())))
  }

  /// Nothing happens when somebody else has just changed the map, or while this process has a write transaction.
  private func enlargeMap(of mapBytes: Int, to wantedBytes: Int) {
    growth?.gate.alone {
      var info = unsafe MDB_envinfo()
      unsafe mdb_env_info(environment, &info)
      guard unsafe info.me_mapsize == mapBytes else { return }
      // liblmdb gives the old map up before it asks for the new one. If there is no room, this finds out.
      let wantedBytes = wholePages(wantedBytes)
      let probe = unsafe mmap(nil, wantedBytes, PROT_NONE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0)
      guard unsafe probe != MAP_FAILED, let probe = unsafe probe else { return }
      unsafe munmap(probe, wantedBytes)
      let answer = unsafe mdb_env_set_mapsize(environment, wantedBytes)
      if answer == MDB_SUCCESS || answer == EINVAL { return }
      let again = unsafe mdb_env_set_mapsize(environment, mapBytes)
      precondition(again == MDB_SUCCESS, "The address space went while a file was mapped again.")
    }
  }
}

/// In whole pages, of the largest size that systems have.
func wholePages(_ bytes: Int) -> Int {
  let page = 16 << 10
  return (bytes + page - 1) / page * page
}
