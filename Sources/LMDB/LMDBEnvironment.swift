// An LMDB environment: one data file, mapped; its tables, its one writer, its pool of readers.
//
// Invariants:
// - A file is open at most once in this process (`OpenFiles`).
// - The environment closes when nobody holds it: readers, writers and cursors do, so it never closes under them.
// - Idle read transactions in the pool are reset: they keep their slot in the lock file, but pin no state.
// - A thread never waits for the writer lock that it holds itself.

internal import CLMDB
internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#elseif canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

@safe
package final class LMDBEnvironment: Sendable {
  /// The data file. The lock file beside it has `-lock` appended.
  package let path: String

  // LMDB lets any thread call it with an environment; what only one may do at a time, `transactions` sees to.
  nonisolated(unsafe) let environment: OpaquePointer
  let dataFile: DataFile
  /// Nil when the map stays as it was opened.
  let growth: MapGrowth?
  /// Whether this opening made an environment of an empty file.
  package var isNew: Bool { dataFile.isEmpty }
  /// What readers look at.
  let pages: PageMaps
  /// Names of the tables that were opened, by handle.
  private let tableNames = Mutex<[UInt32: [UInt8]]>([:])
  private let serial: UInt32
  private let isExclusive: Bool
  private let transactions = Mutex(Transactions())
  /// The thread that holds the writer lock here; zero when none does.
  private let writingThread = Atomic<UInt>(0)

  private struct Transactions {
    var idle: [IdleReader] = []
    var liveReaders = 0
    var isWriting = false
  }

  /// A reset read transaction, which no thread uses. As the environment is opened with MDB_NOTLS, it may go from thread to
  /// thread, one at a time: whoever takes it out of `transactions` has it alone.
  @safe private struct IdleReader: @unchecked Sendable {
    let pointer: OpaquePointer
  }

  private static let lastSerial = Atomic<UInt32>(0)

  package init(path: String, options: Options) throws(LMDBError) {
    precondition(options.mapSizeBytes > 0, "An environment needs a map of at least one page.")
    precondition(!(options.mapGrows && options.writeMap), "What is written through a map cannot change its map.")
    precondition(options.maximumTables > 0 && options.maximumReaders > 0, "An environment needs tables and readers.")
    let dataFile = try DataFile(path: path, options)
    guard OpenFiles.claim(dataFile.identity) else {
      throw LMDBError(.alreadyOpen, operation: "open the environment", path: path)
    }
    do throws(LMDBError) {
      try prepare(dataFile, options)
      let opened = unsafe try openVerified(dataFile, options)
      do throws(LMDBError) {
        pages = try PageMaps(dataFile.file, pageSize: unsafe pageSize(of: opened))
      } catch {
        unsafe mdb_env_close(opened)
        throw error
      }
      unsafe environment = opened
    } catch {
      dataFile.removeIfNew()
      OpenFiles.release(dataFile.identity)
      throw error
    }
    self.path = path
    self.dataFile = dataFile
    growth = options.mapGrows ? MapGrowth() : nil
    serial = LMDBEnvironment.lastSerial.add(1, ordering: .relaxed).newValue
    isExclusive = options.withoutLock && !options.readOnly
    // Slots of processes that died pin their state for ever, and nothing else frees them.
    _ = try checkReaders()
  }

  deinit {
    let idle = transactions.withLock { state in
      defer { state.idle = [] }
      return state.idle
    }
    for reader in idle { unsafe mdb_txn_abort(reader.pointer) }
    unsafe mdb_env_close(environment)
    OpenFiles.release(dataFile.identity)
  }

  // MARK: Tables

  /// Opens tables by name; once, before other transactions begin. A missing one is made, or `.notFound`.
  package func openTables(_ names: [String], create: Bool) throws(LMDBError) -> [Table] {
    let transaction = unsafe try begin(readOnly: !create, "open tables")
    var tables: [Table] = []
    for name in names {
      var handle: UInt32 = 0
      var flags: UInt32 = 0
      var answer = unsafe mdb_dbi_open(transaction, name, create ? UInt32(MDB_CREATE) : 0, &handle)
      if answer == MDB_SUCCESS { answer = unsafe mdb_dbi_flags(transaction, handle, &flags) }
      // A table that somebody made with duplicate keys or another order would answer in ways nobody here expects.
      if answer == MDB_SUCCESS, flags != 0 { answer = MDB_INCOMPATIBLE }
      guard answer == MDB_SUCCESS else {
        unsafe mdb_txn_abort(transaction)
        throw LMDBError(returned: answer, "open the table \"\(name)\"", path)
      }
      tables.append(Table(handle: handle, environment: serial))
      tableNames.withLock { $0[handle] = Array(name.utf8) }
    }
    // Also when only reading: handles opened in a transaction that is aborted are closed with it.
    let answer = unsafe mdb_txn_commit(transaction)
    guard answer == MDB_SUCCESS else { throw LMDBError(returned: answer, "open tables", path) }
    return tables
  }

  /// What the main tree says of a table, in the state of `transaction`.
  func record(of table: Table, in transaction: TransactionHandle) throws(LMDBError) -> TreeRecord {
    guard let name = tableNames.withLock({ $0[table.handle] }) else {
      throw LMDBError(.badTable, operation: "look up a table", path: path)
    }
    let main = Table(handle: LMDBEnvironment.mainTable, environment: serial)
    let tree = try whileMapStays { () throws(LMDBError) in
      let (answer, value) = unsafe transaction.find(main, name.span.bytes)
      guard answer == MDB_SUCCESS else { throw LMDBError(returned: answer, "look up a table", path) }
      let bytes = unsafe TransactionHandle.bytes(value)
      guard bytes.count == FileFormat.treeBytes else { throw .damaged(0, "a table without a record").located(path) }
      return unsafe TreeRecord(bytes.bytes, at: 0)
    }
    guard tree.isWalkable else { throw .damaged(tree.root, "a tree too deep").located(path) }
    return tree
  }

  /// LMDB's handle of the tree that names the tables.
  private static let mainTable: UInt32 = 1

  // MARK: Writing

  /// Begins the one write transaction, waiting for writers of this and other processes to end.
  package func beginWrite() throws(LMDBError) -> LMDBWriter {
    if isExclusive {
      let isBusy = transactions.withLock { state in
        if state.isWriting || state.liveReaders > 0 { return true }
        state.isWriting = true
        return false
      }
      if isBusy { throw LMDBError(.busy, operation: "begin a write transaction", path: path) }
    }
    do throws(LMDBError) {
      makeRoomInMap()
      let transaction = unsafe try begin(readOnly: false, "begin a write transaction")
      writingThread.store(currentThread(), ordering: .relaxed)
      return unsafe LMDBWriter(WriteSession(TransactionHandle(transaction, environment: serial), self))
    } catch {
      writerDidEnd()
      throw error
    }
  }

  /// For whoever holds the writer lock, so that no two commits can take each other's word.
  func setDurability(ofNextCommit isDurable: Bool) {
    _ = unsafe mdb_env_set_flags(environment, UInt32(MDB_NOMETASYNC), isDurable ? 0 : 1)
  }

  /// Before the transaction ends, because afterwards the next writer may have begun.
  func writerWillEnd() {
    writingThread.store(0, ordering: .relaxed)
  }

  func writerDidEnd() {
    if isExclusive { transactions.withLock { $0.isWriting = false } }
  }

  /// Of a write that was cut short LMDB says EIO, also when the reason was that the disk is full.
  func causeOfFailedCommit(_ answer: Int32) -> Int32 {
    guard answer == EIO, let free = dataFile.file.freeBytes(), free < 1 << 20 else { return answer }
    return ENOSPC
  }

  // MARK: Reading

  /// Begins a read transaction, or renews one from the pool.
  package func reader() throws(LMDBError) -> LMDBReader {
    let (isBusy, idle) = transactions.withLock { state -> (Bool, IdleReader?) in
      if isExclusive && state.isWriting { return (true, nil) }
      state.liveReaders += 1
      return (false, state.idle.popLast())
    }
    if isBusy { throw LMDBError(.busy, operation: "begin a read transaction", path: path) }
    do throws(LMDBError) {
      let transaction = if let idle { unsafe try renew(idle.pointer) } else { unsafe try newReader() }
      return unsafe LMDBReader(TransactionHandle(transaction, environment: serial), self)
    } catch {
      transactions.withLock { $0.liveReaders -= 1 }
      throw error
    }
  }

  /// Takes a reader's transaction back into the pool.
  func release(_ reader: TransactionHandle) {
    unsafe mdb_txn_reset(reader.pointer)
    let idle = unsafe IdleReader(pointer: reader.pointer)
    transactions.withLock { state in
      state.liveReaders -= 1
      state.idle.append(idle)
    }
  }

  private func renew(_ transaction: OpaquePointer) throws(LMDBError) -> OpaquePointer {
    let answer = whileMapStays { unsafe mdb_txn_renew(transaction) }
    guard answer == MDB_SUCCESS else {
      unsafe mdb_txn_abort(transaction)
      if answer == MDB_MAP_RESIZED, growth != nil { return unsafe try newReader() }
      throw LMDBError(returned: answer, "renew a read transaction", path)
    }
    return unsafe transaction
  }

  private func newReader() throws(LMDBError) -> OpaquePointer {
    do throws(LMDBError) {
      return unsafe try begin(readOnly: true, "begin a read transaction")
    } catch {
      // Some slots may belong to processes that died since.
      guard error.code == .readersFull, try checkReaders() > 0 else { throw error }
      return unsafe try begin(readOnly: true, "begin a read transaction")
    }
  }

  private func begin(readOnly: Bool, _ operation: String) throws(LMDBError) -> OpaquePointer {
    precondition(
      readOnly || writingThread.load(ordering: .relaxed) != currentThread(),
      "A thread that holds a writer cannot begin another: it would wait for itself for ever.")
    var attempts = 0
    while true {
      var begun: OpaquePointer?
      let answer = whileMapStays {
        unsafe mdb_txn_begin(environment, nil, readOnly ? UInt32(MDB_RDONLY) : 0, &begun)
      }
      if answer == MDB_SUCCESS, let transaction = unsafe begun { return unsafe transaction }
      guard answer == MDB_MAP_RESIZED, growth != nil, attempts < 10 else {
        throw LMDBError(returned: answer, operation, path)
      }
      attempts += 1
      try followFile()
    }
  }

  // MARK: Upkeep

  /// Frees the reader slots of processes that died; says how many.
  package func checkReaders() throws(LMDBError) -> Int {
    var dead: Int32 = 0
    let answer = unsafe mdb_reader_check(environment, &dead)
    guard answer == MDB_SUCCESS else { throw LMDBError(returned: answer, "check the readers", path) }
    return Int(dead)
  }

  /// A read transaction of any process.
  package struct OpenReader: Hashable, Sendable {
    package var process: Int32
    /// The number of the last transaction whose effects it sees: it keeps the pages of that state from being reused.
    package var transaction: Int
  }

  /// The read transactions that are open at present, in all processes; idle ones of pools are not.
  package func openReaders() throws(LMDBError) -> [OpenReader] {
    var list: [OpenReader] = []
    let answer = unsafe withUnsafeMutablePointer(to: &list) { list in
      unsafe mdb_reader_list(
        environment,
        { line, list in
          guard let line = unsafe line, let list = unsafe list?.assumingMemoryBound(to: [OpenReader].self) else {
            return -1
          }
          // "process thread transaction", the last a hyphen in an idle reader; a heading comes first.
          let words = unsafe String(cString: line).split { $0 == " " || $0 == "\n" }
          if words.count == 3, let process = Int32(words[0]), let transaction = Int(words[2]) {
            unsafe list.pointee.append(OpenReader(process: process, transaction: transaction))
          }
          return 0
        }, list)
    }
    guard answer >= 0 else { throw LMDBError(returned: answer, "list the readers", path) }
    return list
  }

  /// Pages that no state newer than `transaction` uses: they are held back by its readers alone.
  package func pagesFreed(after transaction: Int) throws(LMDBError) -> Int {
    let reader = try reader()
    defer { withExtendedLifetime(reader) {} }
    return try whileMapStays { () throws(LMDBError) in try pagesFreed(after: transaction, reader) }
  }

  private func pagesFreed(after transaction: Int, _ reader: LMDBReader) throws(LMDBError) -> Int {
    let cursor = unsafe try reader.handle.openCursor(Table(handle: 0, environment: serial), path: path)
    defer { unsafe mdb_cursor_close(cursor) }
    var pages = 0
    var number = UInt(transaction)
    var step = MDB_SET_RANGE
    while true {
      let answer = unsafe withUnsafeMutablePointer(to: &number) { number in
        var key = unsafe MDB_val(mv_size: MemoryLayout<UInt>.size, mv_data: UnsafeMutableRawPointer(number))
        var value = unsafe MDB_val()
        let answer = unsafe mdb_cursor_get(cursor, &key, &value, step)
        // A list of pages begins with their number.
        if answer == MDB_SUCCESS, unsafe value.mv_size >= MemoryLayout<UInt>.size {
          pages += Int(clamping: unsafe value.mv_data.loadUnaligned(as: UInt.self))
        }
        return answer
      }
      if answer == MDB_NOTFOUND { return pages }
      guard answer == MDB_SUCCESS else { throw LMDBError(returned: answer, "look at the free pages", path) }
      step = MDB_NEXT
    }
  }

  /// Walks every page of the newest state and says what it holds; damage is an error that names the page. It may
  /// run beside readers and writers, and takes as long as reading the file does.
  package func verify() throws(LMDBError) -> LMDBVerification {
    // Without a lock nothing pins the state but this: it keeps writers out.
    let reader = try reader()
    defer { withExtendedLifetime(reader) {} }
    return unsafe try LMDB.verify(environment, dataFile.file, in: growth?.gate)
  }

  /// Makes everything committed so far durable, also when the environment is `withoutSync`.
  package func synchronize() throws(LMDBError) {
    let answer = unsafe mdb_env_sync(environment, 1)
    guard answer == MDB_SUCCESS else { throw LMDBError(returned: answer, "synchronize", path) }
  }

  /// `usedBytes` is how far the file is in use, free pages inside included; `readers` counts slots ever used at once.
  package var statistics: (mapSizeBytes: Int, usedBytes: Int, pageSize: Int, readers: Int) {
    var info = unsafe MDB_envinfo()
    var found = MDB_stat()
    // Both only fail without an environment.
    whileMapStays {
      unsafe mdb_env_info(environment, &info)
      unsafe mdb_env_stat(environment, &found)
    }
    let pageSize = Int(found.ms_psize)
    return unsafe (info.me_mapsize, (info.me_last_pgno + 1) * pageSize, pageSize, Int(info.me_numreaders))
  }
}

/// Opens the environment, and walks its pages where `options` ask for it.
private func openVerified(_ dataFile: DataFile, _ options: LMDBEnvironment.Options) throws(LMDBError) -> OpaquePointer {
  let environment = unsafe try openEnvironment(dataFile, options)
  guard let verifiedBytes = options.verifiedBytes, !dataFile.isEmpty else { return unsafe environment }
  do throws(LMDBError) {
    var info = unsafe MDB_envinfo()
    unsafe mdb_env_info(environment, &info)
    // Pages are at least this large, and the number of the last one is as good as its page.
    let isSmall = unsafe info.me_last_pgno < (verifiedBytes + 4_095) / 4_096
    _ = unsafe try verify(environment, dataFile.file, namesOnly: !isSmall)
  } catch {
    unsafe mdb_env_close(environment)
    throw error
  }
  return unsafe environment
}

private func pageSize(of environment: OpaquePointer) -> Int {
  var found = MDB_stat()
  // Only fails without an environment.
  unsafe mdb_env_stat(environment, &found)
  return Int(found.ms_psize)
}

/// `mdb_env_create` to `mdb_env_open`; whatever fails in between closes the environment.
private func openEnvironment(
  _ dataFile: DataFile, _ options: LMDBEnvironment.Options
) throws(LMDBError) -> OpaquePointer {
  var created: OpaquePointer?
  var answer = unsafe mdb_env_create(&created)
  guard answer == MDB_SUCCESS, let environment = unsafe created else {
    throw LMDBError(returned: answer, "create an environment", dataFile.file.path)
  }
  let fileBytes = options.mapGrows ? try dataFile.file.byteCount() : 0
  let mapBytes = max(options.mapSizeBytes, MapGrowth.mapBytes(forFileOf: fileBytes))
  answer = unsafe mdb_env_set_mapsize(environment, wholePages(mapBytes))
  if answer == MDB_SUCCESS { answer = unsafe mdb_env_set_maxdbs(environment, UInt32(clamping: options.maximumTables)) }
  if answer == MDB_SUCCESS {
    answer = unsafe mdb_env_set_maxreaders(environment, UInt32(clamping: options.maximumReaders))
  }
  if answer == MDB_SUCCESS {
    answer = unsafe mdb_env_open(environment, dataFile.file.path, options.flags, mdb_mode_t(options.fileMode))
  }
  guard answer == MDB_SUCCESS else {
    unsafe mdb_env_close(environment)
    throw LMDBError(returned: answer, "open the environment", dataFile.file.path)
  }
  return unsafe environment
}

/// What has to happen to the file before it is mapped.
private func prepare(_ dataFile: DataFile, _ options: LMDBEnvironment.Options) throws(LMDBError) {
  if !options.withoutLock { try reserveLockFile(dataFile.file.path, options) }
  let preallocates = options.preallocate && !options.readOnly
  var plain = options
  plain.writeMap = false
  if dataFile.isShort {
    // Before anything makes the file longer: zeros in the place of missing pages would hide that they are missing.
    let environment = unsafe try openEnvironment(dataFile, plain)
    defer { unsafe mdb_env_close(environment) }
    _ = unsafe try verify(environment, dataFile.file)
  }
  if preallocates {
    // A file of zeros is not an LMDB file: LMDB has to write its two meta pages before the rest is allocated. It
    // does so without the write map, which would make the file sparse at its full size first.
    if dataFile.isEmpty { unsafe mdb_env_close(try openEnvironment(dataFile, plain)) }
    try dataFile.allocateBlocks(wholePages(options.mapSizeBytes))
  }
}

/// LMDB makes its lock file sparse and writes to it through a map: on a full disk that is a signal. So its blocks are
/// there before. A file that cannot be opened is left to LMDB, which knows when it can do without.
private func reserveLockFile(_ path: String, _ options: LMDBEnvironment.Options) throws(LMDBError) {
  let lock: OpenFile
  do throws(LMDBError) {
    lock = try OpenFile(path + "-lock", O_RDWR | O_CREAT, mode: options.fileMode)
  } catch {
    if error.isFull { throw error }
    return
  }
  let problem = lock.allocate(LMDBLimits.lockFileBytes(readers: options.maximumReaders))
  guard problem == 0 else { throw LMDBError(.system(problem), operation: "allocate the lock file", path: lock.path) }
}

/// Walks the newest state of the file, which a reader pins meanwhile.
func verify(
  _ environment: OpaquePointer, _ file: OpenFile, namesOnly: Bool = false, in gate: MapGate? = nil
) throws(LMDBError) -> LMDBVerification {
  // A meta page is overwritten by the second commit after its own. So what was read of it is whole if at most the first one
  // had been written by then; otherwise it is tried again. That one is written before readers are told of it: for as
  // long as the disk takes, and, when its process was killed between the two, until somebody writes.
  for _ in 0..<1_000 {
    var begun: OpaquePointer?
    let begin = { unsafe mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &begun) }
    let answer = gate?.whileMapStays(begin) ?? begin()
    guard answer == MDB_SUCCESS, let transaction = unsafe begun else {
      throw LMDBError(returned: answer, "verify the file", file.path)
    }
    defer { unsafe mdb_txn_abort(transaction) }
    let state = unsafe mdb_txn_id(transaction)
    let metas = Result { () throws(LMDBError) in try DataFile.metas(file) }
    var info = unsafe MDB_envinfo()
    let look = { _ = unsafe mdb_env_info(environment, &info) }
    if let gate { gate.whileMapStays(look) } else { look() }
    guard unsafe info.me_last_txnid <= state + 1 else { continue }
    guard let meta = try metas.get().first(where: { $0.transaction == state }) else { continue }
    let check = FileCheck(file, meta)
    guard namesOnly else { return try check.run() }
    try check.runNames()
    return LMDBVerification()
  }
  throw LMDBError(.busy, operation: "verify the file (it changes too fast)", path: file.path)
}
