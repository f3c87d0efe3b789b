// A file system in memory that loses power, fills up and fails on command.
//
// Invariants:
// - It gives what `LogFileSystem` asks for and nothing more: of what was not synchronised when the power went, any
//   part may survive, by whole operations and by sectors of 512 bytes, in any combination.
// - Everything it decides is drawn from the seed.

import KVLog
import Synchronization
import TestSupport

final class SimulatedFileSystem: LogFileSystem {
  enum Mode: CaseIterable {
    case lost, kept, mixed
  }

  private enum Pending {
    case write([UInt8], Int)
    case truncate(Int)
  }

  private struct Inode {
    private(set) var current: [UInt8]
    private var durable: [UInt8]
    private var pending: [Pending] = []

    init(_ content: [UInt8] = []) {
      current = content
      durable = content
    }

    mutating func write(_ bytes: [UInt8], at offset: Int) {
      Self.apply(.write(bytes, offset), to: &current)
      pending.append(.write(bytes, offset))
    }

    mutating func truncate(to size: Int) {
      Self.apply(.truncate(size), to: &current)
      pending.append(.truncate(size))
    }

    mutating func synchronize() {
      for change in pending { Self.apply(change, to: &durable) }
      pending = []
    }

    /// What Linux does when it cannot write: reads still see the bytes, and nobody will write them any more.
    mutating func forget() { pending = [] }

    mutating func restart(_ mode: Mode, _ random: inout SeededGenerator) {
      for change in pending {
        switch (mode, change) {
        case (.lost, _): break
        case (.kept, _): Self.apply(change, to: &durable)
        case (.mixed, .truncate): if Bool.random(using: &random) { Self.apply(change, to: &durable) }
        case (.mixed, .write(let bytes, let offset)):
          switch Int.random(in: 0..<4, using: &random) {
          case 0: break
          case 1: Self.apply(change, to: &durable)
          default: Self.applySectors(of: bytes, at: offset, to: &durable, &random)
          }
        }
      }
      pending = []
      current = durable
    }

    private static func applySectors(
      of bytes: [UInt8], at offset: Int, to content: inout [UInt8], _ random: inout SeededGenerator
    ) {
      var start = 0
      while start < bytes.count {
        let end = min(bytes.count, start + 512 - (offset + start) % 512)
        if Bool.random(using: &random) { apply(.write(Array(bytes[start..<end]), offset + start), to: &content) }
        start = end
      }
    }

    private static func apply(_ change: Pending, to content: inout [UInt8]) {
      switch change {
      case .write(let bytes, let offset):
        if content.count < offset + bytes.count {
          content += [UInt8](repeating: 0, count: offset + bytes.count - content.count)
        }
        overwrite(&content, at: offset, with: bytes)
      case .truncate(let size):
        if size < content.count {
          content = Array(content[..<size])
        } else {
          content += [UInt8](repeating: 0, count: size - content.count)
        }
      }
    }
  }

  private struct State {
    var inodes: [Int: Inode] = [:]
    var nextInode = 0
    var names: [String: Int] = [:]
    var durableNames: [String: Int] = [:]
    /// Each operation on names: the names it sets, and to what.
    var pendingNames: [[(String, Int?)]] = []

    var operations = 0
    var cutAt: Int?
    var isOff = false
    var capacity = Int.max
    var failingSynchronizations = 0
    var failingWrites = 0
    /// What somebody else does before the next synchronisation of a file returns.
    var meanwhile: (@Sendable () -> Void)?
    /// The paths of the calls that read a file's content, for the tests that forbid some of them.
    var reads: [String: Int] = [:]
    var dataSynchronizations = 0
    var fullSynchronizations = 0

    /// Counts an operation that changes something. True when the power goes in the middle of it.
    mutating func step() throws(SystemError) -> Bool {
      guard !isOff else { throw SimulatedFileSystem.inputOutput }
      operations += 1
      if operations == cutAt { isOff = true }
      return isOff
    }

    var used: Int { inodes.values.reduce(0) { $0 + $1.current.count } }
  }

  private let state = Mutex(State())

  static let noSpace = SystemError(code: 28)
  static let inputOutput = SystemError(code: 5)
  static let missing = SystemError(code: 2)

  // MARK: Faults

  var operations: Int { state.withLock { $0.operations } }
  var isOff: Bool { state.withLock { $0.isOff } }
  var dataSynchronizations: Int { state.withLock { $0.dataSynchronizations } }
  var fullSynchronizations: Int { state.withLock { $0.fullSynchronizations } }
  var reads: [String: Int] { state.withLock { $0.reads } }
  func forgetReads() { state.withLock { $0.reads = [:] } }

  /// The power goes during the operation of that number, counted from now.
  func cutPower(after operations: Int) {
    state.withLock { $0.cutAt = $0.operations + operations + 1 }
  }

  /// Cuts the power if it is not off yet, and comes back with what survived.
  func restart(_ mode: Mode, _ random: inout SeededGenerator) {
    state.withLock { state in
      for index in state.inodes.keys.sorted() { state.inodes[index]?.restart(mode, &random) }
      for operation in state.pendingNames {
        guard mode == .kept || mode == .mixed && Bool.random(using: &random) else { continue }
        for (name, inode) in operation { state.durableNames[name] = inode }
      }
      state.pendingNames = []
      state.names = state.durableNames
      state.isOff = false
      state.cutAt = nil
    }
  }

  func setCapacity(_ bytes: Int) { state.withLock { $0.capacity = bytes } }
  func failSynchronizations(_ count: Int) { state.withLock { $0.failingSynchronizations = count } }
  func failWrites(_ count: Int) { state.withLock { $0.failingWrites = count } }
  func duringNextSynchronization(_ body: @escaping @Sendable () -> Void) { state.withLock { $0.meanwhile = body } }

  // MARK: Files from outside

  var used: Int { state.withLock { $0.used } }
  var paths: [String] { state.withLock { $0.names.keys.sorted() } }

  subscript(path: String) -> [UInt8]? {
    get { state.withLock { state in state.names[path].flatMap { state.inodes[$0]?.current } } }
    set {
      state.withLock { state in
        guard let newValue else {
          state.names[path] = nil
          state.durableNames[path] = nil
          return
        }
        let inode = state.nextInode
        state.nextInode += 1
        state.inodes[inode] = Inode(newValue)
        state.names[path] = inode
        state.durableNames[path] = inode
      }
    }
  }

  /// An independent file system with the same files, all of them durable.
  func copy() -> SimulatedFileSystem {
    let copy = SimulatedFileSystem()
    for path in paths { copy[path] = self[path] }
    return copy
  }

  // MARK: LogFileSystem

  func open(_ path: String, _ mode: LogFileMode) throws(SystemError) -> any LogFile {
    try state.withLock { (state) throws(SystemError) in
      guard !state.isOff else { throw Self.inputOutput }
      if mode == .create {
        let isCut = try state.step()
        let inode = state.nextInode
        state.nextInode += 1
        state.inodes[inode] = Inode()
        state.names[path] = inode
        state.pendingNames.append([(path, inode)])
        guard !isCut else { throw Self.inputOutput }
      }
      guard let inode = state.names[path] else { throw Self.missing }
      return File(self, path, inode)
    }
  }

  func list(_ directory: String) throws(SystemError) -> [String] {
    try state.withLock { (state) throws(SystemError) in
      guard !state.isOff else { throw Self.inputOutput }
      let prefix = directory + "/"
      return state.names.keys.filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }.shuffled()
    }
  }

  func rename(_ path: String, to target: String) throws(SystemError) {
    try changeNames { (state) throws(SystemError) in
      guard let inode = state.names[path] else { throw Self.missing }
      return [(path, nil), (target, inode)]
    }
  }

  func unlink(_ path: String) throws(SystemError) {
    try changeNames { (state) throws(SystemError) in
      guard state.names[path] != nil else { throw Self.missing }
      return [(path, nil)]
    }
  }

  func synchronizeDirectory(_ path: String) throws(SystemError) {
    try state.withLock { (state) throws(SystemError) in
      guard try !state.step() else { throw Self.inputOutput }
      for (name, inode) in state.pendingNames.joined() { state.durableNames[name] = inode }
      state.pendingNames = []
    }
  }

  func makeDirectory(_ path: String) throws(SystemError) {}

  private func changeNames(
    _ body: (borrowing State) throws(SystemError) -> [(String, Int?)]
  ) throws(SystemError) {
    try state.withLock { (state) throws(SystemError) in
      let isCut = try state.step()
      let changes = try body(state)
      for (name, inode) in changes { state.names[name] = inode }
      state.pendingNames.append(changes)
      guard !isCut else { throw Self.inputOutput }
    }
  }

  // MARK: LogFile

  private final class File: LogFile {
    private let files: SimulatedFileSystem
    private let path: String
    private let inode: Int

    init(_ files: SimulatedFileSystem, _ path: String, _ inode: Int) {
      self.files = files
      self.path = path
      self.inode = inode
    }

    func read(into buffer: inout [UInt8], _ range: Range<Int>, at offset: UInt64) throws(SystemError) -> Int {
      let bytes = try files.read(inode, path, at: Int(offset), count: range.count)
      overwrite(&buffer, at: range.lowerBound, with: bytes)
      return bytes.count
    }

    func write(_ bytes: RawSpan, at offset: UInt64) throws(SystemError) {
      var copy: [UInt8] = []
      copy.append(bytes)
      try files.write(inode, copy, at: Int(offset))
    }

    func size() throws(SystemError) -> UInt64 { UInt64(try files.size(inode)) }
    func truncate(to size: UInt64) throws(SystemError) { try files.truncate(inode, to: Int(size)) }
    func synchronizeData() throws(SystemError) { try files.synchronize(inode, isFull: false) }
    func synchronizeAll() throws(SystemError) { try files.synchronize(inode, isFull: true) }
  }

  private func read(_ inode: Int, _ path: String, at offset: Int, count: Int) throws(SystemError) -> [UInt8] {
    try state.withLock { (state) throws(SystemError) in
      guard !state.isOff, let content = state.inodes[inode]?.current else { throw Self.inputOutput }
      state.reads[path, default: 0] += count
      guard offset < content.count else { return [] }
      return Array(content[offset..<min(content.count, offset + count)])
    }
  }

  private func write(_ inode: Int, _ bytes: [UInt8], at offset: Int) throws(SystemError) {
    try state.withLock { (state) throws(SystemError) in
      let isCut = try state.step()
      let size = state.inodes[inode]?.current.count ?? 0
      let room = max(0, state.capacity - state.used)
      let writable = min(bytes.count, max(0, size + room - offset))
      if state.failingWrites > 0 {
        state.failingWrites -= 1
        state.inodes[inode]?.write(Array(bytes.prefix(writable / 2)), at: offset)
        throw Self.inputOutput
      }
      if writable > 0 { state.inodes[inode]?.write(Array(bytes.prefix(writable)), at: offset) }
      guard !isCut else { throw Self.inputOutput }
      guard writable == bytes.count else { throw Self.noSpace }
    }
  }

  private func size(_ inode: Int) throws(SystemError) -> Int {
    try state.withLock { (state) throws(SystemError) in
      guard !state.isOff else { throw Self.inputOutput }
      return state.inodes[inode]?.current.count ?? 0
    }
  }

  private func truncate(_ inode: Int, to size: Int) throws(SystemError) {
    try state.withLock { (state) throws(SystemError) in
      let isCut = try state.step()
      state.inodes[inode]?.truncate(to: size)
      guard !isCut else { throw Self.inputOutput }
    }
  }

  private func synchronize(_ inode: Int, isFull: Bool) throws(SystemError) {
    try state.withLock { (state) throws(SystemError) in
      guard try !state.step() else { throw Self.inputOutput }
      if isFull { state.fullSynchronizations += 1 } else { state.dataSynchronizations += 1 }
      if state.failingSynchronizations > 0 {
        state.failingSynchronizations -= 1
        state.inodes[inode]?.forget()
        throw Self.inputOutput
      }
      state.inodes[inode]?.synchronize()
    }
    let meanwhile = state.withLock { $0.meanwhile.take() }
    meanwhile?()
  }
}

/// As `replaceSubrange`, at full speed in a debug build too.
private func overwrite(_ content: inout [UInt8], at offset: Int, with bytes: [UInt8]) {
  unsafe content.withUnsafeMutableBytes { content in
    unsafe bytes.withUnsafeBytes { bytes in
      unsafe UnsafeMutableRawBufferPointer(rebasing: content[offset..<offset + bytes.count]).copyMemory(from: bytes)
    }
  }
}
