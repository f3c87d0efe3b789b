// Whose the replicas of a space are.
//
// Invariants:
// - A replica has the principal that claimed it first, for good.
// - No principal has more than `HubLimits.replicasOfPrincipal`.

package import KVLog

package struct ReplicaOwners: Sendable {
  private var owners: [Identity: String] = [:]
  private var counts: [String: Int] = [:]

  package init() {}

  /// Gives the owner, and whether that is news. Nobody claims nothing.
  package mutating func claim(
    _ replica: Identity, by principal: String?
  ) throws(HubStorageError) -> (owner: String?, isNew: Bool) {
    if let owner = owners[replica] { return (owner, false) }
    guard let principal else { return (nil, false) }
    guard counts[principal, default: 0] < HubLimits.replicasOfPrincipal else { throw .tooManyReplicas }
    owners[replica] = principal
    counts[principal, default: 0] += 1
    return (principal, true)
  }

  /// As if it had not been claimed.
  package mutating func forget(_ replica: Identity) {
    guard let principal = owners.removeValue(forKey: replica) else { return }
    counts[principal, default: 1] -= 1
  }
}
