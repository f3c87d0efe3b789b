// Lines of a file or a pipe, one after the other, in one buffer.
//
// Invariants
// - Memory is bounded by the longest line plus one read; a line beyond `maximumLineBytes` is refused, not collected.
// - A line arrives as soon as its line feed has been read: a slow pipe is served line by line.

struct LineReader: ~Copyable {
  static let readBytes = 256 << 10
  /// Holds any record that a store can: 16 MiB of value, each byte of it escaped as \u00XX, and a key.
  static let maximumLineBytes = 104 << 20

  private let descriptor: Int32
  private let ownsDescriptor: Bool
  /// The name for messages.
  let source: String
  /// The number of the line handed out last, from 1.
  private(set) var lineNumber = 0
  /// Bytes of the lines handed out so far.
  private(set) var bytesConsumed = 0

  private var buffer: [UInt8]
  private var start = 0
  private var end = 0
  private var isAtEnd = false

  /// Reads the file at `path`, or standard input for nil and "-".
  init(path: String?) throws(Failure) {
    if let path, path != "-" {
      self.init(descriptor: try Self.open(path), source: path, ownsDescriptor: true)
    } else {
      self.init(descriptor: SystemCall.standardInput, source: "standard input", ownsDescriptor: false)
    }
  }

  private init(descriptor: Int32, source: String, ownsDescriptor: Bool) {
    self.descriptor = descriptor
    self.source = source
    self.ownsDescriptor = ownsDescriptor
    buffer = [UInt8](repeating: 0, count: Self.readBytes)
  }

  private static func open(_ path: String) throws(Failure) -> Int32 {
    let descriptor: Int32
    do {
      descriptor = try SystemCall.openForReading(path)
    } catch {
      throw Failure.system(error.number, "cannot read \(path)")
    }
    if SystemCall.isDirectory(descriptor) {
      SystemCall.close(descriptor)
      throw Failure(.failed, "cannot read \(path): it is a directory", remedy: "Name a file, or pipe the data in.")
    }
    return descriptor
  }

  deinit { if ownsDescriptor { SystemCall.close(descriptor) } }

  /// All the bytes there will be; nil for a pipe.
  var totalBytes: Int? { SystemCall.regularFileBytes(descriptor) }

  /// Calls `body` with the next line, without its line feed. False at the end of the input.
  mutating func next<Problem: Error>(_ body: (Span<UInt8>) throws(Problem) -> Void) throws -> Bool {
    var scanned = start
    while true {
      if let lineFeed = firstLineFeed(in: scanned..<end) {
        return try handOut(start..<lineFeed, upTo: lineFeed + 1, body)
      }
      scanned = end
      if isAtEnd {
        return start == end ? false : try handOut(start..<end, upTo: end, body)
      }
      let moved = try fill()
      scanned -= moved
    }
  }

  private mutating func handOut<Problem: Error>(
    _ line: Range<Int>, upTo next: Int, _ body: (Span<UInt8>) throws(Problem) -> Void
  ) throws -> Bool {
    lineNumber += 1
    bytesConsumed += next - start
    start = next
    try body(buffer.span.extracting(line))
    return true
  }

  private func firstLineFeed(in range: Range<Int>) -> Int? {
    let bytes = buffer.span
    for index in range where bytes[index] == UInt8(ascii: "\n") { return index }
    return nil
  }

  /// Reads once. Returns by how many bytes the unread ones moved to the front.
  private mutating func fill() throws -> Int {
    let moved = start
    if start > 0 {
      buffer.replaceSubrange(0..<(end - start), with: buffer[start..<end])
      end -= start
      start = 0
    }
    if end - start > Self.maximumLineBytes {
      throw Failure(
        .failed, "\(source), line \(lineNumber + 1): the line is longer than \(Amount.bytes(Self.maximumLineBytes))",
        remedy: "No record is that long; is this the right file and --format?")
    }
    if buffer.count - end < Self.readBytes {
      buffer.append(contentsOf: repeatElement(0, count: max(Self.readBytes, buffer.count)))
    }
    let read = SystemCall.read(descriptor, into: &buffer, at: end)
    if read.bytes < 0 { throw Failure.system(read.error, "cannot read \(source)") }
    if read.bytes == 0 { isAtEnd = true }
    end += read.bytes
    return moved
  }
}
