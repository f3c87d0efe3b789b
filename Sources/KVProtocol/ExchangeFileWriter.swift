// Writes an exchange file: under a name of its own, synchronised, and then renamed.
//
// Invariants
// - What is at the path appears there complete, or not at all. A writer that is given up, or that fails, removes what it
//   has begun; one whose process dies leaves `.NAME.kvsync-PROCESS` behind, which nobody takes for the file.
// - Memory is bounded: by `bufferBytes` and one message.

package import KVLog
import Synchronization

package final class ExchangeFileWriter: Sendable {
  private static let bufferBytes = 1 << 20

  private struct State {
    var file: (any LogFile)?
    var buffer: [UInt8]
    var offset: UInt64 = 0
    var chain: FrameChain
  }

  private let fileSystem: any LogFileSystem
  private let path: String
  private let directory: String
  private let draft: String
  private let state: Mutex<State>

  /// `process` tells the drafts of several processes apart. Throws `.exists` when the path is taken.
  package init(
    _ preamble: ExchangeFilePreamble, path: String, process: Int32, fileSystem: any LogFileSystem = PosixFileSystem()
  ) throws(ExchangeFileError) {
    self.fileSystem = fileSystem
    self.path = path
    let slash = path.lastIndex(of: "/")
    directory = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let name = slash.map { path[path.index(after: $0)...] } ?? path[...]
    draft = "\(directory)/.\(name).kvsync-\(process)"
    if (try? fileSystem.open(path, .read)) != nil { throw .exists }
    let draft = draft
    let file = try Self.system("write \(path)") { () throws(SystemError) in try fileSystem.open(draft, .create) }
    state = Mutex(State(file: file, buffer: preamble.encoded, chain: FrameChain(of: preamble.replica)))
  }

  deinit { discard() }

  /// Bytes written so far.
  package var byteCount: Int { state.withLock { Int($0.offset) + $0.buffer.count } }

  package func append(_ message: Message) throws(ExchangeFileError) {
    try state.withLock { (state) throws(ExchangeFileError) in try append(message, &state) }
  }

  /// Ends the file and gives it its name, durably. Gives its size in bytes.
  package func finish() throws(ExchangeFileError) -> Int {
    try state.withLock { (state) throws(ExchangeFileError) in
      try append(.fileEnd(state.chain.end), &state)
      try flush(&state)
      guard let file = state.file else { preconditionFailure("a file is finished once") }
      let (fileSystem, draft, path, directory) = (fileSystem, draft, path, directory)
      try Self.system("write \(path)") { () throws(SystemError) in
        try file.synchronizeAll()
        try fileSystem.rename(draft, to: path)
        try fileSystem.synchronizeDirectory(directory)
      }
      state.file = nil
      return Int(state.offset)
    }
  }

  /// Removes what was written, unless it is finished.
  package func discard() {
    state.withLock { state in
      guard state.file != nil else { return }
      state.file = nil
      try? fileSystem.unlink(draft)
    }
  }

  private func append(_ message: Message, _ state: inout State) throws(ExchangeFileError) {
    let encoded = message.encoded()
    let payload = encoded.head + encoded.body
    for fragment in encoded.fragments(of: ProtocolLimits.maximumFrameBytes) {
      let bytes = unsafe payload.span.bytes.extracting(fragment)
      let header = FrameHeader(encoded.kind, hasMore: fragment.upperBound < payload.count, payload: bytes).encoded
      unsafe state.chain.add(header: header.span.bytes, payload: bytes)
      state.buffer.append(contentsOf: header)
      state.buffer.append(contentsOf: payload[fragment])
      if state.buffer.count >= Self.bufferBytes { try flush(&state) }
    }
  }

  private func flush(_ state: inout State) throws(ExchangeFileError) {
    guard let file = state.file else { preconditionFailure("nothing is written to a file that is finished") }
    let (buffer, offset) = (state.buffer, state.offset)
    try Self.system("write \(path)") { () throws(SystemError) in try unsafe file.write(buffer.span.bytes, at: offset) }
    state.offset += UInt64(buffer.count)
    state.buffer.removeAll(keepingCapacity: true)
  }

  private static func system<Result>(
    _ operation: String, _ body: () throws(SystemError) -> Result
  ) throws(ExchangeFileError) -> Result {
    do throws(SystemError) { return try body() } catch { throw .system(error, operation) }
  }
}
