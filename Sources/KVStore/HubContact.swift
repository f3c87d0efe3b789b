// What the hub has promised this store, and since when that counts.
//
// Invariants
// - It is of the space that the store is bound to; what a backup covers is of the hub's present epoch. Whatever changes these
//   forgets it.
// - The time is of this machine's clock, which may have been set meanwhile.
//
// grammar (little-endian)
//   contact = levelTime u64 | retentionSeconds u64 | backedUp u64

package import KVLog

package struct HubContact: Sendable, Equatable {
  /// When store and hub were last known to have the same, in milliseconds since 1970; 0: never.
  package var levelTime: UInt64 = 0
  /// Seconds for which the hub keeps what a store needs to go on from there; 0: for ever.
  package var retentionSeconds: UInt64 = 0
  /// The hub's version that a backup of the hub covers; 0: none that is known.
  package var backedUp: Version = 0

  package init(levelTime: UInt64 = 0, retentionSeconds: UInt64 = 0, backedUp: Version = 0) {
    self.levelTime = levelTime
    self.retentionSeconds = retentionSeconds
    self.backedUp = backedUp
  }
}

extension HubContact {
  func encode(to bytes: inout [UInt8]) {
    for field in [levelTime, retentionSeconds, backedUp] { bytes.append(littleEndian: field) }
  }

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    encode(to: &bytes)
    return bytes
  }

  init(_ reader: inout ByteReader, from bytes: RawSpan) throws(LogFormatError) {
    levelTime = try reader.read(UInt64.self, from: bytes)
    retentionSeconds = try reader.read(UInt64.self, from: bytes)
    backedUp = try reader.read(UInt64.self, from: bytes)
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    try self.init(&reader, from: bytes)
    try reader.end(of: bytes)
  }
}

extension Store {
  /// Notes what the hub of that epoch promises. Not synchronised: nobody waits for it. Log that a backup of the hub covers
  /// goes soon afterwards, if the retention says so. Throws ``StoreError``.
  package func note(_ contact: HubContact, epoch: Identity) async throws {
    let token = lease
    let hasMore = try await perform(.relaxed) { group in
      try group.checkLease(token)
      guard group.state.hubEpoch == epoch, group.state.contact != contact else { return false }
      defer { group.append(contact) }
      return contact.backedUp > group.state.contact.backedUp
    }
    if hasMore { try core().folder.giveBack() }
  }
}
