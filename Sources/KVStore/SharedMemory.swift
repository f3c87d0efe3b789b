// The words that all processes with a store open share: which tail generations there are, what is published, who
// replicates. A small mapped file in the tail's directory, as short-lived as the tail itself.
//
// Invariants
// - The first process to open a store makes it anew: nothing is believed that another one left in it.
// - It is written whole before it is mapped, so that a full disk is an error and never a SIGBUS.
// - `generations` moves under the writer's lock (a generation is added) or the folding lock (the oldest goes), both in
//   one atomic word, so that a reader sees a list that was true at one moment.
// - `sequence` moves after a group is visible to every process, and `era` with it and with everything else that makes
//   a snapshot old, before anybody is told.

import CPlatform
import Foundation
import KVLog

@safe
final class SharedMemory: Sendable {
  /// Which generations exist: those from `oldest` up to `live`, numbered without gaps.
  struct Generations: Hashable, Sendable {
    var oldest: UInt32
    var live: UInt32

    var sealedCount: Int { Int(live - oldest) }
    var numbers: ClosedRange<UInt32> { oldest...live }

    fileprivate init(word: UInt64) {
      oldest = UInt32(truncatingIfNeeded: word >> 32)
      live = UInt32(truncatingIfNeeded: word)
    }
    fileprivate init(oldest: UInt32, live: UInt32) {
      self.oldest = oldest
      self.live = live
    }
    fileprivate var word: UInt64 { UInt64(oldest) << 32 | UInt64(live) }
  }

  // Layout, in words of 8 bytes. All processes run the same build's layout: `magic` changes with it.
  private enum Word {
    static let magic = 0
    static let generations = 1
    static let era = 2
    static let sequence = 3
    static let writer = 4
    static let poisoned = 5
    static let logSegment = 6
    static let logEnd = 7
    /// Two words of 4 bytes: the one that watchers sleep on, and their number.
    static let signal = 8
    static let leaseToken = 9
    static let leaseProcess = 10
    static let leaseTime = 11
    static let retention = 12
    static let foldCount = 13
    static let durableVersion = 14
    static let logDurable = 15
    static let logBytes = 16
    static let logBytesBefore = 17
    static let lastRelaxed = 18
    static let retentionSeconds = 19
    static let keepsBackedUp = 20
    static let fold = 21
    static let folds = 22
    static let generation = 256
  }

  private static let magicNumber: UInt64 = 0x0004_5348_5359_564B
  private static let byteCount = 12 << 10
  /// Generations that may exist at once: as many as there are words for them.
  static let maximumGenerations = byteCount / 8 - Word.generation
  private static let rememberedFolds = (Word.generation - Word.folds) / 2

  let path: String
  // Sound to share: the addresses never change, the memory is mapped until `deinit`, and this class alone has them. What
  // lies there belongs to all threads and processes, and is read and written by the atomic functions of CPlatform only.
  nonisolated(unsafe) private let words: UnsafeMutablePointer<UInt64>
  nonisolated(unsafe) private let signalWord: UnsafeMutablePointer<UInt32>

  /// Makes the file, with sealed generations from `oldest` on, if any, and a live one that is yet to be made.
  convenience init(creating path: String, oldest: UInt32 = 1, live: UInt32 = 1) throws(StoreError) {
    try self.init(path, flags: O_RDWR | O_CREAT | O_TRUNC) { descriptor in
      let zeros = [UInt8](repeating: 0, count: SharedMemory.byteCount)
      let written = unsafe zeros.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
      return written == zeros.count ? 0 : written < 0 ? errno : ENOSPC
    }
    start(Generations(oldest: oldest, live: live))
  }

  /// Maps the file that the first process made.
  convenience init(joining path: String) throws(StoreError) {
    try self.init(path, flags: O_RDWR) { descriptor in
      var status = stat()
      guard unsafe fstat(descriptor, &status) == 0 else { return errno }
      return status.st_size == off_t(SharedMemory.byteCount) ? 0 : EINVAL
    }
    guard load(Word.magic) == SharedMemory.magicNumber else {
      throw StoreError(
        .inUse, "the store is open in a process with another version of kvsync. Close it there first.", path: path)
    }
  }

  /// Words of this process alone, for a tail that nobody else sees.
  init() throws(StoreError) {
    path = ""
    let mapped = unsafe mmap(
      nil, SharedMemory.byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)
    guard unsafe mapped != MAP_FAILED, let address = unsafe mapped else {
      throw StoreError(.system, "cannot map memory: \(describe(errno: errno)).")
    }
    unsafe words = unsafe address.bindMemory(to: UInt64.self, capacity: SharedMemory.byteCount / 8)
    unsafe signalWord = unsafe UnsafeMutableRawPointer(words + Word.signal).assumingMemoryBound(to: UInt32.self)
    start(Generations(oldest: 1, live: 1))
  }

  private func start(_ generations: Generations) {
    store(Word.generations, generations.word)
    store(Word.sequence, 1)
    store(Word.magic, SharedMemory.magicNumber)
  }

  private init(_ path: String, flags: Int32, prepare: (Int32) -> Int32) throws(StoreError) {
    self.path = path
    let descriptor = unsafe Foundation.open(path, flags | O_CLOEXEC, 0o640)
    var problem = descriptor < 0 ? errno : prepare(descriptor)
    let mapped =
      problem == 0
      ? unsafe mmap(nil, SharedMemory.byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0) : unsafe MAP_FAILED
    if problem == 0, unsafe mapped == MAP_FAILED { problem = errno }
    if descriptor >= 0 { Foundation.close(descriptor) }
    guard problem == 0, let address = unsafe mapped else {
      throw StoreError(.init(errno: problem), "cannot map the shared state: \(describe(errno: problem)).", path: path)
    }
    unsafe words = unsafe address.bindMemory(to: UInt64.self, capacity: SharedMemory.byteCount / 8)
    unsafe signalWord = unsafe UnsafeMutableRawPointer(words + Word.signal).assumingMemoryBound(to: UInt32.self)
  }

  deinit { unsafe munmap(words, SharedMemory.byteCount) }

  private func load(_ word: Int) -> UInt64 { unsafe shared_load(words + word) }
  private func store(_ word: Int, _ value: UInt64) { unsafe shared_store(words + word, value) }

  // MARK: Generations

  var generations: Generations { Generations(word: load(Word.generations)) }

  /// The writer has made the next generation: it is the live one now.
  func addGeneration(after current: UInt32) {
    while true {
      let present = generations
      precondition(present.live == current, "one writer adds generations")
      let next = Generations(oldest: present.oldest, live: present.live + 1)
      if unsafe shared_exchange(words + Word.generations, present.word, next.word) != 0 { break }
    }
    store(Word.logBytesBefore, load(Word.logBytes))
    changed()
  }

  /// Bytes of log that the live generation stands for; moved under the writer's lock.
  var logBytesInGeneration: Int { Int(clamping: load(Word.logBytes) - load(Word.logBytesBefore)) }
  func appended(_ bytes: Int) { unsafe shared_add(words + Word.logBytes, UInt64(bytes)) }

  /// The folder is done with the oldest generation.
  func retire(_ number: UInt32) {
    while true {
      let present = generations
      precondition(present.oldest == number && number < present.live, "generations are folded oldest first")
      let next = Generations(oldest: present.oldest + 1, live: present.live)
      if unsafe shared_exchange(words + Word.generations, present.word, next.word) != 0 { break }
    }
    changed()
  }

  private func word(of generation: UInt32) -> Int {
    Word.generation + Int(generation) % SharedMemory.maximumGenerations
  }

  func setCapacity(_ bytes: Int, of generation: UInt32) { store(word(of: generation), UInt64(bytes)) }
  /// The size of the generation's map, in bytes; even.
  func capacity(of generation: UInt32) -> Int { Int(load(word(of: generation)) & ~1) }
  /// Until something was committed to it readers leave a generation out.
  func isFilled(_ generation: UInt32) -> Bool { load(word(of: generation)) & 1 != 0 }
  func markFilled(_ generation: UInt32) {
    let place = word(of: generation)
    if load(place) & 1 == 0 { store(place, load(place) | 1) }
  }

  // MARK: What is visible

  /// Moves with everything that makes a snapshot old.
  var era: UInt64 { load(Word.era) }
  /// Counts visible groups, of all processes.
  var sequence: UInt64 { load(Word.sequence) }

  /// A group is visible: tells the processes that watch, this one apart. Gives its sequence.
  func published(watchingHere: Bool) -> UInt64 {
    unsafe shared_add(words + Word.era, 1)
    let sequence = unsafe shared_add(words + Word.sequence, 1)
    if watchers > (watchingHere ? 1 : 0) { wake() }
    return sequence
  }

  /// The index has changed: snapshots hold on to what could be freed.
  func aged() { unsafe shared_add(words + Word.era, 1) }

  /// Generations have come or gone: everybody looks.
  func changed() {
    unsafe shared_add(words + Word.era, 1)
    wake()
  }

  // MARK: Watching

  var signal: UInt32 { unsafe shared_load32(signalWord) }
  private var watchers: UInt32 { unsafe shared_load32(signalWord + 1) }
  func addWatcher() { unsafe shared_add32(signalWord + 1, 1) }
  func removeWatcher() { unsafe shared_add32(signalWord + 1, UInt32.max) }

  /// Wakes whoever sleeps on the signal.
  func wake() {
    unsafe shared_add32(signalWord, 1)
    unsafe shared_wake(signalWord)
  }

  /// Sleeps until the signal is no longer `seen`, or for this long (0: for ever); may return early.
  func sleep(seen: UInt32, milliseconds: UInt64) { unsafe shared_sleep(signalWord, seen, milliseconds) }

  // MARK: Writing

  /// The process that is changing the log or the tail; what it left, should it have died, is for the next writer to find
  /// out. Nil when the last writer finished.
  var unfinishedWriter: Int32? {
    get {
      let process = load(Word.writer)
      return process == 0 ? nil : Int32(truncatingIfNeeded: process)
    }
    set { store(Word.writer, UInt64(newValue ?? 0)) }
  }

  /// No process may write until all have closed the store: a write's outcome is unknown.
  var isPoisoned: Bool { load(Word.poisoned) != 0 }
  func poison() {
    store(Word.poisoned, 1)
    wake()
  }

  /// Where the log goes on: the newest segment, the end of its last block, and the bytes of it known to be durable.
  struct LogEnd {
    var segment: Version
    var offset: UInt64
    var durable: UInt64
  }

  /// Read and moved under the writer's lock.
  var logEnd: LogEnd {
    get { LogEnd(segment: load(Word.logSegment), offset: load(Word.logEnd), durable: load(Word.logDurable)) }
    set {
      store(Word.logSegment, newValue.segment)
      store(Word.logEnd, newValue.offset)
      store(Word.logDurable, newValue.durable)
    }
  }

  /// Every commit up to this version is durable.
  var durableVersion: Version { load(Word.durableVersion) }
  func raiseDurableVersion(to version: Version) {
    while case let present = durableVersion, present < version {
      if unsafe shared_exchange(words + Word.durableVersion, present, version) != 0 { return }
    }
  }

  /// When a group was last written that was not durable, in milliseconds of the monotonic clock; moved under the writer's
  /// lock.
  var lastRelaxed: UInt64 {
    get { load(Word.lastRelaxed) }
    set { store(Word.lastRelaxed, newValue) }
  }

  /// Bytes of acknowledged log to keep: the most that any process asks for.
  var retainedLogBytes: UInt64 { load(Word.retention) }
  var retainedLogSeconds: UInt64 { load(Word.retentionSeconds) }
  /// Whether any process asks for acknowledged log to be kept although a backup of the hub covers it.
  var keepsBackedUpLog: Bool { load(Word.keepsBackedUp) != 0 }
  func retain(_ retention: Store.LogRetention) {
    raise(Word.retention, to: retention.bytes)
    raise(Word.retentionSeconds, to: retention.seconds)
    raise(Word.keepsBackedUp, to: retention.keepsBackedUp ? 1 : 0)
  }

  private func raise(_ word: Int, to value: UInt64) {
    while true {
      let present = load(word)
      if present >= value { return }
      if unsafe shared_exchange(words + word, present, value) != 0 { return }
    }
  }

  // MARK: The lease of the one process that replicates

  struct Lease: Equatable {
    /// Counts holders: a holder whose number is not the present one any more has lost the lease.
    var token: UInt64
    /// Nil: nobody holds it.
    var process: Int32?
    /// When the holder last showed that it is alive, in milliseconds of the monotonic clock.
    var time: UInt64
  }

  var lease: Lease {
    let process = load(Word.leaseProcess)
    return Lease(
      token: load(Word.leaseToken), process: process == 0 ? nil : Int32(truncatingIfNeeded: process),
      time: load(Word.leaseTime))
  }

  /// Under the writer's lock: a new holder. Gives its token.
  func takeLease(_ process: Int32, at time: UInt64) -> UInt64 {
    store(Word.leaseTime, time)
    store(Word.leaseProcess, UInt64(process))
    return unsafe shared_add(words + Word.leaseToken, 1)
  }

  /// A holder that lost the lease and does not know it changes nothing.
  func renewLease(_ token: UInt64, at time: UInt64) {
    if token != 0, load(Word.leaseToken) == token { store(Word.leaseTime, time) }
  }

  func endLease(_ token: UInt64, of process: Int32) {
    guard token != 0, load(Word.leaseToken) == token else { return }
    _ = unsafe shared_exchange(words + Word.leaseProcess, UInt64(process), 0)
  }

  // MARK: The fold under way

  struct Fold: Equatable {
    /// Of the oldest sealed generations so many are being folded; 0: no fold is under way. Who dies at it leaves it so, until
    /// another process has the folding lock.
    var generations: Int
    /// How much of the fold is done, up to 1.
    var done: Double

    static let none = Fold(generations: 0, done: 0)
  }

  /// Moved under the folding lock.
  var fold: Fold {
    get {
      let word = load(Word.fold)
      return Fold(generations: Int(word >> 32), done: Double(word & 0xFFFF_FFFF) / 0xFFFF_FFFF)
    }
    set { store(Word.fold, UInt64(newValue.generations) << 32 | UInt64(min(1, newValue.done) * 0xFFFF_FFFF)) }
  }

  // MARK: When the index was committed

  /// Notes that the index's transaction `number` was committed at `time`; under the folding lock. Of more than there are
  /// words for, the further back the fewer are remembered: about one in every tenth of their age.
  func folded(_ number: Int, at time: UInt64) {
    let count = load(Word.foldCount)
    let place = Word.folds + 2 * (count < UInt64(SharedMemory.rememberedFolds) ? Int(count) : dispensableFold(time))
    // While it changes nobody is younger than the entry.
    store(place, 0)
    store(place + 1, time)
    store(place, UInt64(number))
    store(Word.foldCount, count + 1)
  }

  /// The place of the entry that is missed least: the next one is nearly as old. So the ages of old readers stay about
  /// right, however many folds come after.
  private func dispensableFold(_ now: UInt64) -> Int {
    let folds = (0..<SharedMemory.rememberedFolds).map { (place: $0, time: load(Word.folds + $0 * 2 + 1)) }
      .sorted { $0.time < $1.time }
    let nexts = folds.dropFirst().map(\.time) + [now]
    let losses = zip(folds, nexts).map { fold, next in Double(next - fold.time) / Double(max(1, now - fold.time)) }
    return folds[losses.indices.min { losses[$0] < losses[$1] } ?? 0].place
  }

  /// When the first remembered transaction after `number` was committed: a reader of that one is at least as old.
  func timeOfFold(after number: Int) -> UInt64? {
    let count = min(Int(clamping: load(Word.foldCount)), SharedMemory.rememberedFolds)
    return (0..<count).map { (load(Word.folds + $0 * 2), load(Word.folds + $0 * 2 + 1)) }
      .filter { $0.0 > UInt64(number) }.min { $0.0 < $1.0 }?.1
  }
}

/// Milliseconds of a clock that all processes of a machine share and that is never set.
func monotonicMilliseconds() -> UInt64 {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec) / 1_000_000
}
