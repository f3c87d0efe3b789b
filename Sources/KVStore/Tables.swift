// The tables that a tail generation and the index have in common, so that one piece of code applies the log to both.
//
// An entry of `conflicts`, `parked` or `unresolved` that is gone has an empty payload in the tail, so that it hides the one
// in the index, which loses it when the tail is folded.

import KVLog
import LMDB

struct Tables: Sendable {
  /// key → row
  var rows: Table
  /// key → version u64: local changes of the key up to this version lost a conflict and are never shipped
  var voids: Table
  /// conflict identifier → conflict record
  var conflicts: Table
  /// version u64, big-endian → parked commit
  var parked: Table
  /// conflict identifier → 1: those that wait for the program
  var unresolved: Table
  /// "counters" → state · "progress/" + replica → what the hub has applied of it · "author/" + replica → version u64 | formerThrough u64: on
  /// a replica, through where the commits of that one which the hub applied are here, while the store's formerThrough is that · "successor/" + two versions → nothing
  /// (`Succession.swift`) · in the index only: "keys" → number of live keys, "home" → `home`
  var state: Table
  /// The origin of rows that state none: of a store's own changes, most often of most rows.
  let home: Identity

  static let names = ["rows", "voids", "conflicts", "state", "parked", "unresolved"]

  init(_ tables: [Table], home: Identity) {
    self.home = home
    rows = tables[0]
    voids = tables[1]
    conflicts = tables[2]
    state = tables[3]
    parked = tables[4]
    unresolved = tables[5]
  }

  static let counters = [UInt8]("counters".utf8)
  static let keys = [UInt8]("keys".utf8)
  static let homeKey = [UInt8]("home".utf8)

  static let progress = [UInt8]("progress/".utf8)
  static let authors = [UInt8]("author/".utf8)

  /// Where it is written through which of its versions an author's commits are here.
  static func author(_ author: Identity) -> [UInt8] {
    var key = authors
    key.append(author)
    return key
  }

  static func progress(of replica: Identity) -> [UInt8] {
    var key = progress
    key.append(replica)
    return key
  }
}

/// Rows of the tail hide rows of the index; within the tail, newer generations hide older ones.
struct Source {
  let reader: LMDBReader
  let tables: Tables
  /// What keys it has, if that is known without a search.
  var filter: KeyFilter?

  /// False: the source has no row of the key with this checksum. Always true where that is not known.
  @inline(__always)
  func mayHave(_ hash: UInt64) -> Bool { filter?.mayHave(hash) ?? true }
}

extension LMDBWriter {
  mutating func put(state: StoreState, in tables: Tables) throws(LMDBError) {
    try putSealed(tables.state, key: Tables.counters.bytes, state.encoded().bytes)
  }
}
