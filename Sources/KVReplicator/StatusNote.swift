// A replicator's status as it is left in the store's directory, for other processes that want to know.
//
// Invariants
// - It says nothing that the store itself can tell: versions and what is pending are read there.
// - Times are of the wall clock, as another process has no other in common.
//
// grammar (little-endian; a time is milliseconds since 1970, 0: none)
//   status = time u64 | hub (u16 bytes, UTF-8) | state u8 | zero 7 | progress, rate u64 (bits of a double) | remaining u64 |
//            hubVersion u64 (all ones: unknown) | level u64 | nextTry u64 | code, message of the last error (u16 bytes,
//            UTF-8, empty: none) | repairs u8 | *repair (Repair.swift)
//     level: when store and hub were last found to have the same; all ones: they are

package import KVLog
package import KVStore

package struct StatusNote: Sendable, Equatable {
  /// When it was left.
  package var time: UInt64
  /// The space, as `HubAddress` writes itself.
  package var hub: String
  package var state: ReplicatorStatus.State
  package var hubVersion: Version?
  /// When store and hub last had the same, as far as is known.
  package var levelTime: UInt64?
  package var nextTry: UInt64?
  package var errorCode: String?
  package var errorMessage: String?
  /// The last of each cause.
  package var repairs: [Repair]

  /// Whether the process that left it replicates still.
  package var isCurrent = true

  private static let states = ["offline", "connecting", "catchingUp", "live", "paused", "needsAuthorization", "failed"]
  private static let largestText = 4 << 10

  init(_ status: ReplicatorStatus, hub: String, time: UInt64) {
    self.time = time
    self.hub = hub
    state = status.state
    hubVersion = status.hubVersion
    levelTime = status.lag.map { time - min(time, UInt64(clamping: $0.milliseconds)) }
    if status.lag == .zero { levelTime = .max }
    nextTry = status.nextTry.map { time + UInt64(clamping: $0.milliseconds) }
    errorCode = status.lastError?.code.rawValue
    errorMessage = status.lastError?.message
    repairs = status.repairs
  }

  /// For how long the store has lacked something of the hub's; nil: not known.
  package func lagSeconds(at now: UInt64) -> Double? {
    guard let levelTime else { return nil }
    if levelTime == .max, isCurrent { return 0 }
    let level = levelTime == .max ? time : levelTime
    return now > level ? Double(now - level) / 1_000 : 0
  }

  /// What a process left in the store; nil: none has, or it cannot be read.
  package static func left(in store: Store) -> StatusNote? {
    guard let note = store.note(), var status = try? StatusNote(decoding: note.bytes.bytes) else { return nil }
    status.isCurrent = note.isCurrent
    return status
  }

  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: time)
    Self.append(hub, to: &bytes)
    bytes.append(UInt8(Self.states.firstIndex(of: state.name) ?? 0))
    bytes.append(contentsOf: [UInt8](repeating: 0, count: 7))
    var numbers = (progress: 0.0, rate: 0.0, remaining: 0)
    if case .catchingUp(let progress, let rate, let remaining) = state { numbers = (progress, rate, remaining) }
    bytes.append(littleEndian: numbers.progress.bitPattern)
    bytes.append(littleEndian: numbers.rate.bitPattern)
    bytes.append(littleEndian: UInt64(clamping: numbers.remaining))
    bytes.append(littleEndian: hubVersion ?? .max)
    bytes.append(littleEndian: levelTime ?? 0)
    bytes.append(littleEndian: nextTry ?? 0)
    Self.append(errorCode ?? "", to: &bytes)
    Self.append(errorMessage ?? "", to: &bytes)
    bytes.append(UInt8(repairs.count))
    for repair in repairs { repair.append(to: &bytes) }
    return bytes
  }

  private static func append(_ text: String, to bytes: inout [UInt8]) {
    var text = text[...]
    while text.utf8.count > largestText { text.removeLast() }
    bytes.append(littleEndian: UInt16(text.utf8.count))
    bytes.append(contentsOf: text.utf8)
  }

  init(decoding bytes: RawSpan) throws(LogFormatError) {
    var reader = ByteReader()
    time = try reader.read(UInt64.self, from: bytes)
    hub = try reader.text(UInt16.self, atMost: Self.largestText, from: bytes)
    let kind = Int(try reader.read(UInt8.self, from: bytes))
    _ = try reader.take(7, from: bytes)
    let progress = Double(bitPattern: try reader.read(UInt64.self, from: bytes))
    let rate = Double(bitPattern: try reader.read(UInt64.self, from: bytes))
    let remaining = Int(clamping: try reader.read(UInt64.self, from: bytes))
    guard Self.states.indices.contains(kind), progress.isFinite, rate.isFinite else {
      throw LogFormatError(.badValue, at: 8)
    }
    switch Self.states[kind] {
    case "connecting": state = .connecting
    case "catchingUp": state = .catchingUp(progress: progress, rate: rate, remaining: remaining)
    case "live": state = .live
    case "paused": state = .paused
    case "needsAuthorization": state = .needsAuthorization
    case "failed": state = .failed
    default: state = .offline
    }
    let head = try reader.read(UInt64.self, from: bytes)
    hubVersion = head == .max ? nil : head
    let level = try reader.read(UInt64.self, from: bytes)
    levelTime = level == 0 ? nil : level
    let next = try reader.read(UInt64.self, from: bytes)
    nextTry = next == 0 ? nil : next
    let code = try reader.text(UInt16.self, atMost: Self.largestText, from: bytes)
    let message = try reader.text(UInt16.self, atMost: Self.largestText, from: bytes)
    (errorCode, errorMessage) = code.isEmpty ? (nil, nil) : (code, message)
    repairs = []
    for _ in 0..<(try reader.read(UInt8.self, from: bytes)) { repairs.append(try Repair(&reader, from: bytes)) }
    try reader.end(of: bytes)
  }
}

/// Leaves a replicator's status in its store, when it begins, each time that it changes but once a second at most, and
/// when it ends.
struct NoteKeeper: Sendable {
  private static let interval = Duration.seconds(1)

  let store: Store
  let hub: HubAddress
  let board: StatusBoard

  /// Until cancelled.
  func run() async {
    let subscription = board.listeners.subscribe(toEvents: false)
    for await _ in Replicator.Statuses(subscription: subscription, board: board) {
      await leave()
      do { try await Task.sleep(for: Self.interval) } catch { return }
    }
  }

  /// That it cannot be left, on a full disk for example, is nobody's trouble.
  func leave() async {
    let note = StatusNote(board.status, hub: "\(hub)", time: Store.clockMilliseconds)
    try? await blocking { try store.leaveNote(note.encoded) }
  }
}

extension Duration {
  var milliseconds: Int64 { components.seconds * 1_000 + components.attoseconds / 1_000_000_000_000_000 }
}
