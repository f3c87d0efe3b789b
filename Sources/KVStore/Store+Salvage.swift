// What can be got out of a store that is damaged: found out without LMDB, which cannot be asked about damage.

public import KVLog
import LMDB

/// What ``Store/salvage(at:)`` found.
public struct SalvageReport: Sendable, Equatable {
  /// The versions whose commits can be read in the log, in order.
  public var logVersions: [ClosedRange<Version>] = []
  /// What is wrong with the log; nil: it is whole.
  public var logDamage: String?
  /// What is wrong with the pages of the index; nil: they hang together. Rows on them may be damaged all the same.
  public var indexDamage: String?
  /// Rows in the index's file whose checksum holds, older versions of a row among them.
  public var wholeRows = 0
  /// Where the store stood at its last fold, if that can be read.
  public var counters: Counters?
  /// The hub's space that it synchronised with; `counters` has the hub's version up to which that has everything. nil:
  /// none, or not to be read.
  public var hubEpoch: Identity?

  /// Whether the log is whole and reaches back to the first version, so that ``Store/rebuildIndex(at:)`` can write the
  /// index anew: nothing is lost then.
  public var canRebuildIndex: Bool { logDamage == nil && logVersions.first?.lowerBound == 1 && logVersions.count == 1 }

  /// Versions of which some hold what the hub has not decided, as far as is known: those are to be had here only.
  public var undelivered: ClosedRange<Version>? {
    guard let last = logVersions.last?.upperBound else { return nil }
    let first = (counters?.acknowledgedVersion ?? 0) + 1
    return first <= last ? first...last : nil
  }

  /// Creates a report of nothing.
  public init() {}
}

extension Store {
  /// Looks at what can be got out of the store at `path`, however damaged its log and its index are. Changes nothing, and
  /// asks nothing of LMDB. Meant for a store that ``verify(at:options:progress:)`` has found damaged and nobody writes.
  ///
  /// Blocks the calling thread for as long as reading all files takes. Throws ``StoreError``: `noStore`, `foreign`,
  /// `newerFormat`, `notAllowed`, `system`; `corrupt` when the manifest itself is damaged.
  public static func salvage(at path: String) throws -> SalvageReport {
    let directory = StoreDirectory(path: path)
    guard try directory.content() == .store else { throw noStore(path) }
    let manifest = try directory.readManifest()
    var report = SalvageReport()
    let configuration = logConfiguration(directory, manifest, Options())
    do throws(LogError) {
      report.logVersions = try LogSalvage.versions(configuration)
      _ = try LogVerification.run(configuration)
    } catch {
      report.logDamage = error.description
    }
    do throws(LMDBError) {
      _ = try LMDBEnvironment.verifyFile(directory.index)
    } catch {
      report.indexDamage = error.description
    }
    var newest: StoreState?
    try? PageScan.forEachEntry(of: directory.index) { key, value in
      if (try? Row.liveValue(value, key: key)) != nil { report.wholeRows += 1 }
      guard key.copied() == Tables.counters else { return }
      if let state = try? wholeState(value, key: key), state.version >= newest?.version ?? 0 { newest = state }
    }
    report.counters = newest.map { Counters($0) }
    report.hubEpoch = newest.flatMap { $0.hubEpoch == .zero ? nil : $0.hubEpoch }
    return report
  }

  private static func wholeState(_ entry: RawSpan, key: RawSpan) throws -> StoreState {
    let count = try Sealed.payloadBytes(entry, key: key, path: "")
    return try StoreState(decoding: entry.extracting(0..<count))
  }

  /// Replaces a damaged index by an empty one, which the next opening fills from the log. Only for a log that is whole and
  /// reaches back to the first version (``SalvageReport/canRebuildIndex``): otherwise it throws `expired` or `corrupt`, and
  /// nothing was changed. The old index is lost, its damage with it.
  ///
  /// For a store that nobody has open. Throws ``StoreError``: `noStore`, `foreign`, `newerFormat`, `inUse`, `expired`,
  /// `corrupt`, `full`, `notAllowed`, `system`.
  public static func rebuildIndex(at path: String) throws {
    try withUnusedStore(at: path) { directory, manifest in
      let log = try LogVerification.run(logConfiguration(directory, manifest, Options()))
      guard log.firstVersion == 1 else {
        throw StoreError(
          .expired, "the log begins at version \(log.firstVersion); what was before is in the index alone.", path: path)
      }
      try Compaction(directory: directory, identity: manifest.identity).replaceWithNothing()
    }
  }
}
