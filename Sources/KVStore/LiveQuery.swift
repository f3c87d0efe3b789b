// The rows of a range of keys as they are, and from then on every change of them.
//
// Invariants
// - Rows are read page by page in key order, each page from a snapshot of its own. Before the rows of a page come the
//   changes, between the page before and this one, of the keys already passed; so at the end of a page everything that was
//   handed out adds up to the rows of the keys passed at the version of that page. A key not yet passed is not told.
// - `.current(version)` comes only where everything that was handed out adds up to the range at that version.
// - Nothing is queued, and no snapshot outlives the reading of a page: see `ChangeFollower`.

public import KVLog

/// The rows of a range of keys, then what becomes of them, live.
///
/// ```swift
/// var cart: [[UInt8]: [UInt8]] = [:]
/// for try await element in store.liveQuery(prefix: "cart/") {
///   switch element {
///   case .reset: cart = [:]
///   case .row(let row): cart[row.key] = row.value
///   case .change(let change): cart[change.key] = change.value
///   case .current: show(cart)
///   }
/// }
/// ```
///
/// Whatever is written meanwhile, elements add up to the store at each ``Element/current(_:)``: nothing is missing, and no
/// row or change comes twice. A reader that is behind gets only the newest change of a key (``ChangeDelivery/latest``); one
/// that falls behind what the log retains gets a ``Element/reset`` and the rows anew. It needs the log from one page to the
/// next, not for as long as all rows take.
///
/// Memory: a page of up to 4,096 rows or 1 MiB, and a batch of changes (``ChangeBatch``). No snapshot is held while the
/// iteration is suspended or its reader busy. Pages are read on a thread that may block.
///
/// Throws ``StoreError``: `closed` when the store is closed, `poisoned` once everything before the failed write was handed
/// out, `corrupt`, `system`; and `CancellationError`, at the end of a page or a batch. In a store opened read-only the
/// sequence ends with the newest version.
public struct LiveQuery: AsyncSequence, Sendable {
  /// What a live query tells.
  public enum Element: Sendable, Hashable {
    /// Everything so far is void: the reader was slower than the log's retention. The rows come again.
    case reset
    /// A row as it is, in the order of the keys; before the first ``current(_:)`` only.
    case row(Row)
    /// A change of a key of which everything before it is known.
    case change(StoreChange)
    /// All elements so far add up to the store at this version: the rows are complete, and no transaction is half told.
    case current(Version)
  }

  /// A key with its value, and what is known of it.
  public struct Row: Sendable, Hashable {
    /// 1 to 511 bytes.
    public var key: [UInt8]
    /// Up to 16 MiB.
    public var value: [UInt8]
    /// The version of the commit that wrote it.
    public var version: Version
    /// What the hub had made of that when the row was read.
    public var state: StoreChange.State

    /// The key as text; bytes that are not UTF-8 are repaired.
    public var keyText: String { String(decoding: key, as: UTF8.self) }
  }

  let store: Store
  let range: KeyRange
  package var pageRows = StoreLimits.changeBatchCount

  /// An iterator that begins with the rows.
  public func makeAsyncIterator() -> Iterator { Iterator(store: store, range: range, pageRows: pageRows) }

  /// A place in the sequence; used by one task at a time.
  public struct Iterator: AsyncIteratorProtocol {
    private enum Phase {
      /// The next page begins behind the key.
      case rows(after: [UInt8]?)
      /// The page's rows follow when the changes up to it, of the keys through `passed`, are out.
      case page(RowPage, passed: [UInt8]?)
      case live
    }

    private let store: Store
    private let range: KeyRange
    private let pageRows: Int
    private var phase = Phase.rows(after: nil)
    /// At the version of the last page, or beyond when all rows are out.
    private var follower: ChangeFollower
    private var portion = Portion()

    init(store: Store, range: KeyRange, pageRows: Int) {
      self.store = store
      self.range = range
      self.pageRows = pageRows
      follower = ChangeFollower(store, after: 0, .latest)
    }

    /// The next element; suspends until there is one. nil only in a store opened read-only, at its end.
    public mutating func next() async throws -> Element? {
      while true {
        if let element = portion.next() { return element }
        portion = Portion()
        try Task.checkCancellation()
        do {
          guard try await advance() else { return nil }
        } catch let error as StoreError where error.code == .expired {
          phase = .rows(after: nil)
          portion = Portion(isReset: true)
        }
      }
    }

    /// Fetches what comes next, which may be nothing; false when nothing ever will.
    private mutating func advance() async throws -> Bool {
      switch phase {
      case .rows(let key):
        let page = try await onBlockingThread { [store, range, pageRows] in
          try store.rowPage(range, after: key, atMost: pageRows)
        }
        if key == nil { try follower.begin(at: page.position) }
        phase = .page(page, passed: key)
      case .page(let page, let passed):
        if let passed, follower.version < page.position.version {
          let keys = KeyRange(from: range.lower, upTo: passed + [0])
          portion.batch = try await follower.next(in: keys, through: page.position)
          return true
        }
        portion.rows = page.rows
        phase = .live
        if let last = page.last { phase = .rows(after: last) } else { portion.current = page.position.version }
      case .live:
        guard let limit = try await follower.wait() else { return false }
        let batch = try await follower.next(in: range, through: limit)
        if batch.isEmpty { break }
        portion.batch = batch
        portion.current = batch.version
      }
      return true
    }
  }
}

/// Elements that were fetched together, handed out one after the other.
private struct Portion {
  var isReset = false
  var batch: ChangeBatch?
  var rows: [LiveQuery.Row] = []
  var current: Version?
  private var changesOut = 0
  private var rowsOut = 0

  init(isReset: Bool = false) { self.isReset = isReset }

  mutating func next() -> LiveQuery.Element? {
    if isReset {
      isReset = false
      return .reset
    }
    if let batch, changesOut < batch.count {
      defer { changesOut += 1 }
      return .change(batch[changesOut])
    }
    if rowsOut < rows.count {
      defer { rowsOut += 1 }
      return .row(rows[rowsOut])
    }
    defer { current = nil }
    return current.map { .current($0) }
  }
}

/// Rows of one version.
private struct RowPage {
  /// Where in the log that version is.
  var position: LogPosition
  var rows: [LiveQuery.Row] = []
  /// The last key looked at; nil: the range is at its end.
  var last: [UInt8]?
}

extension Store {
  fileprivate func rowPage(_ range: KeyRange, after key: [UInt8]?, atMost count: Int) throws -> RowPage {
    var rest = range
    if let key { rest.lower = key + [0] }
    return try read { snapshot in
      let state = try snapshot.state
      let states = ChangeStates(state: state)
      var page = RowPage(position: state.position)
      var bytes = 0
      var looked = 0
      try snapshot.forEachRow(in: rest) { key, row, value in
        looked += 1
        if !row.isTombstone {
          page.rows.append(
            LiveQuery.Row(
              key: key.copied(), value: value.copied(), version: row.version,
              state: try states.state(of: row, key: key, snapshot)))
          bytes += key.byteCount + value.byteCount
        }
        let isFull =
          page.rows.count >= count || bytes >= StoreLimits.changeBatchBytes
          || looked >= count * StoreLimits.lookedAtPerRow
        if isFull { page.last = key.copied() }
        return !isFull
      }
      return page
    }
  }

  /// The rows of the keys that begin with `prefix`, then their changes, until the task is cancelled or the store closed.
  public func liveQuery(prefix: some BytesConvertible = "") -> LiveQuery {
    liveQuery(in: KeyRange(prefix: prefix))
  }

  /// The rows of a range of keys, then their changes, until the task is cancelled or the store closed.
  public func liveQuery(in range: KeyRange) -> LiveQuery { LiveQuery(store: self, range: range) }
}
