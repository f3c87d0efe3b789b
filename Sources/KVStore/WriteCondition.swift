// Writes that are made only if nobody was faster.

public import KVLog

/// What must be true of a key for a change of it to be made.
///
/// ```swift
/// guard let entry = try store.entry(for: "counter") else { return }
/// try await store.put(changed(entry.value), for: "counter", if: .version(entry.version))
/// ```
///
/// The condition is looked at in the transaction that makes the change, so nothing comes between, in this process or
/// another. Where it does not hold, the write throws ``StoreError/Code/conditionFailed``, whose
/// ``StoreError/foundVersion`` says how the key is, and nothing is written; a transaction may go on without the change.
public enum WriteCondition: Sendable, Hashable {
  /// The key has no value.
  case absent
  /// The key has a value, written by the commit of this version: ``Store/version(of:)``, ``StoreEntry/version`` or
  /// ``Receipt/version`` of what the program knows.
  case version(Version)

  /// Throws `conditionFailed` unless a key whose value was written by `found` (nil: that has none) is as it should be.
  func check(found: Version?, key: RawSpan) throws(StoreError) {
    let isMet: Bool
    let wanted: String
    switch self {
    case .absent: (isMet, wanted) = (found == nil, "no value")
    case .version(let version): (isMet, wanted) = (found == version, "the value of version \(version)")
    }
    if isMet { return }
    let name = String(decoding: key.copied().prefix(64), as: UTF8.self)
    let present = found.map { "the one of version \($0)" } ?? "none"
    var error = StoreError(
      .conditionFailed, "key \"\(name)\" should have \(wanted) and has \(present). Read it again and decide anew.")
    error.foundVersion = found
    throw error
  }
}
