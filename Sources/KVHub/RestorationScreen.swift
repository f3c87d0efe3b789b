// What a replica may bring back to a hub that was restored: a hub cannot tell what it has lost from what it never had.
//
// Invariants
// - Nobody writes in the name of somebody else: a commit is taken back under its author's name only from a session of the
//   author's own principal, or of one with the right `admin`, whom the operator trusts to have pulled what it says it has. On
//   a hub whose credentials name nobody, nobody is told apart.
// - What is taken back is within the hub's limits and passes the program's hook, like what is pushed.
// - What is declined is lost to nobody: its bringer offers what is current in it as commits of its own.

import KVLog
import KVProtocol

struct RestorationScreen: Sendable {
  typealias Blocking = (@escaping @Sendable () throws -> Set<Version>) async throws -> Set<Version>

  let space: any HubSpace
  /// Who brings it.
  let member: HubRegistry.Member
  let grant: Hub.Grant
  let validator: HubValidator

  /// The restoration, with the versions that are to be declined; `blocking` runs what may wait for a disk.
  func screened(_ restoration: Restoration, _ blocking: Blocking) async throws -> Restoration {
    var screened = restoration
    if grant.right < .admin, grant.principal != nil {
      screened.declined = try await blocking { try foreign(in: restoration.segment) }
    }
    guard validator.isNeeded else { return screened }
    let refusals = try await validator.refusals(
      in: restoration.segment, after: 0, of: member, principal: grant.principal)
    screened.declined.formUnion(refusals.map(\.version))
    return screened
  }

  /// The commits of authors who are not the principal's.
  private func foreign(in segment: CommitSegment) throws -> Set<Version> {
    var versions: Set<Version> = []
    var isOwn: [Identity: Bool] = [:]
    let bytes = unsafe segment.records.span.bytes
    var records = RecordCursor(over: bytes)
    while let record = try records.next(in: bytes) {
      let header = try CommitView(payload: record.payload, in: bytes).header
      if isOwn[header.origin] == nil {
        isOwn[header.origin] = try space.owner(of: header.origin, claimedBy: nil) == grant.principal
      }
      if isOwn[header.origin] != true { versions.insert(header.version) }
    }
    return versions
  }
}
