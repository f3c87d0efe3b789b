// How a replica resolves a conflict.

public import KVLog

/// What happens when a change arrives from the hub for a key that has a pending local change with other bytes.
///
/// Whatever the policy, the losing value goes into the conflict journal (``Store/conflicts(after:limit:)``).
public enum ConflictPolicy: Sendable {
  /// The change with the later hybrid time wins; the replica's identity breaks ties. The same on all replicas.
  case lastWriterWins
  /// What was written here stands.
  case localWins
  /// What comes from the hub stands.
  case remoteWins
  /// What comes from the hub stands for the time being, and the program decides: both values are kept until then
  /// (``Store/unresolvedConflicts(after:limit:)``). What was written here is not shipped meanwhile; everything else is.
  case manual
  /// Both become one value; nil deletes the key. Runs while other writes wait: keep it short, and the same for the same
  /// input on every replica. When it throws, the last writer wins. A result of more than 16 MiB cannot be stored, nor one
  /// that makes those of one durable step exceed 80 MiB: then the remote change wins.
  case merge(@Sendable (MergeInput) throws -> [UInt8]?)
  /// As ``merge(_:)``, and the input has the value that both sides started from, where that is still known here. Finding it
  /// out reads up to 64 MiB of the log, once for all conflicts that are found together.
  case mergeWithBase(@Sendable (MergeInput) throws -> [UInt8]?)
  /// Other policies for other keys; see ``prefixes(_:otherwise:)``.
  case perPrefix(PrefixPolicies)

  /// The policy of a key is that of the longest prefix that it begins with, or `otherwise`.
  public static func prefixes(
    _ policies: [some BytesConvertible & Hashable: ConflictPolicy], otherwise: ConflictPolicy = .lastWriterWins
  ) -> ConflictPolicy {
    .perPrefix(
      PrefixPolicies(policies.map { (prefix: $0.withBytes { $0.copied() }, policy: $1) }, otherwise: otherwise))
  }

  /// The policy for a key, itself not per prefix.
  func effective(for key: [UInt8]) -> ConflictPolicy {
    guard case .perPrefix(let policies) = self else { return self }
    return policies.policy(for: key).effective(for: key)
  }

  var wantsBase: Bool { if case .mergeWithBase = self { true } else { false } }
}

/// Policies for keys that begin with certain bytes.
public struct PrefixPolicies: Sendable {
  /// The longest first; the last one is empty.
  private let policies: [(prefix: [UInt8], policy: ConflictPolicy)]

  init(_ policies: [(prefix: [UInt8], policy: ConflictPolicy)], otherwise: ConflictPolicy) {
    let stated = policies.filter { !$0.prefix.isEmpty }.sorted { $0.prefix.count > $1.prefix.count }
    self.policies = stated + [([], policies.first { $0.prefix.isEmpty }?.policy ?? otherwise)]
  }

  func policy(for key: [UInt8]) -> ConflictPolicy {
    policies.first { key.starts(with: $0.prefix) }?.policy ?? .lastWriterWins
  }
}

/// The two sides of a conflict; a nil value is a deletion.
public struct MergeInput: Sendable {
  /// The key that both changed.
  public var key: [UInt8]
  /// The value written here.
  public var local: [UInt8]?
  /// When it was written.
  public var localTime: HybridTime
  /// The value that came from the hub.
  public var remote: [UInt8]?
  /// When that was written, by the clock of the replica that wrote it.
  public var remoteTime: HybridTime
  /// The value that both sides started from; nil: there was none, or ``isBaseKnown`` is false.
  public var base: [UInt8]?
  /// Whether `base` says anything: only under ``ConflictPolicy/mergeWithBase(_:)``, and as long as the log or the index
  /// still has it.
  public var isBaseKnown: Bool

  init(_ contest: Contest, base: MergeBase) {
    key = contest.key
    local = contest.local.isTombstone ? nil : contest.localValue
    localTime = contest.local.time
    remote = contest.remoteIsDeletion ? nil : contest.remoteValue
    remoteTime = contest.remote.time
    switch base {
    case .unknown: (self.base, isBaseKnown) = (nil, false)
    case .absent: (self.base, isBaseKnown) = (nil, true)
    case .value(let value): (self.base, isBaseKnown) = (value, true)
    }
  }
}
