// What a command prints: rows collected in a buffer and written to standard output in large pieces.
//
// Invariants
// - Data goes to standard output, everything else to standard error.
// - A reader that went away (`kvsync dump | head`) is `OutputClosed`, which ends a command that only prints quietly with
//   status 0. One that works goes on.
// - At most one row beyond `flushBytes` is held in memory.

/// Nobody reads standard output any more.
struct OutputClosed: Error {}

struct Output: ~Copyable {
  /// Large enough that a system call costs nothing per row, small enough for a processor's cache.
  static let flushBytes = 128 << 10

  private(set) var bytes: [UInt8] = []
  private var isFirstMember = true

  mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }
  mutating func append(_ text: StaticString) { bytes.append(text) }
  mutating func append(_ data: [UInt8]) { bytes.append(contentsOf: data) }

  /// Text or bytes with tab, line end and backslash escaped, so that a row stays one line.
  mutating func appendEscaped(_ data: RawSpan) { TabSeparated.append(Span(_bytes: data), to: &bytes) }
  mutating func appendEscaped(_ data: [UInt8]) { TabSeparated.append(data.span, to: &bytes) }

  /// Ends a row of text.
  mutating func endLine() throws {
    bytes.append(UInt8(ascii: "\n"))
    if bytes.count >= Self.flushBytes { try flush() }
  }

  /// Writes what has been collected.
  mutating func flush() throws {
    defer { bytes.removeAll(keepingCapacity: true) }
    do {
      try SystemCall.write(SystemCall.standardOutput, bytes)
    } catch {
      if error.number == SystemCall.brokenPipe { throw OutputClosed() }
      throw Failure.system(error.number, "could not write to standard output")
    }
  }

  /// Writes what has been collected, for a command whose work or exit status matters more than who reads it: a reader
  /// that went away is no failure.
  mutating func flushToWhoeverReads() throws {
    do { try flush() } catch is OutputClosed {}
  }

  // MARK: JSON, one object a line

  /// Prints one object, for a command whose work matters more than who reads of it.
  static func printObject(_ members: (inout Output) -> Void) throws {
    var out = Output()
    out.beginObject()
    members(&out)
    out.endObject()
    try out.flushToWhoeverReads()
  }

  mutating func beginObject() {
    bytes.append(UInt8(ascii: "{"))
    isFirstMember = true
  }

  /// Ends the object and its line; call `endRow` instead where many follow.
  mutating func endObject() {
    bytes.append(UInt8(ascii: "}"))
    bytes.append(UInt8(ascii: "\n"))
  }

  /// Ends the object and its line, and writes when enough has been collected.
  mutating func endRow() throws {
    endObject()
    if bytes.count >= Self.flushBytes { try flush() }
  }

  /// A member that is an array of objects; each follows between `beginElement` and `endElement`.
  mutating func beginArray(_ name: StaticString) {
    beginMember()
    bytes.append(name)
    bytes.append("\":[")
    isFirstMember = true
  }

  mutating func beginElement() {
    bytes.append(isFirstMember ? "{" : ",{")
    isFirstMember = true
  }

  mutating func endElement() {
    bytes.append(UInt8(ascii: "}"))
    isFirstMember = false
  }

  mutating func endArray() {
    bytes.append(UInt8(ascii: "]"))
    isFirstMember = false
  }

  /// A member of any bytes: `name` and a string when they are UTF-8, else `nameBase64`. Names are plain ASCII.
  mutating func member(_ name: StaticString, _ data: Span<UInt8>) {
    beginMember()
    let start = bytes.count
    bytes.append(name)
    bytes.append("\":\"")
    if JSON.appendEscaped(data, to: &bytes) {
      bytes.append(UInt8(ascii: "\""))
    } else {
      bytes.removeSubrange(start...)
      bytes.append(name)
      bytes.append("Base64\":\"")
      Base64.append(data, to: &bytes)
      bytes.append(UInt8(ascii: "\""))
    }
  }

  mutating func member(_ name: StaticString, _ data: RawSpan) { member(name, Span<UInt8>(_bytes: data)) }
  mutating func member(_ name: StaticString, _ data: [UInt8]) { member(name, data.span) }
  mutating func member(_ name: StaticString, _ text: String) { member(name, Array(text.utf8)) }

  mutating func member(_ name: StaticString, _ number: some BinaryInteger) {
    beginMember()
    bytes.append(name)
    bytes.append("\":")
    append("\(number)")
  }

  /// null for nil.
  mutating func member(_ name: StaticString, _ number: (some BinaryInteger)?) {
    if let number { member(name, number) } else { memberNull(name) }
  }

  /// A measurement, with three places.
  mutating func member(_ name: StaticString, _ number: Double) {
    beginMember()
    bytes.append(name)
    bytes.append("\":")
    append(Amount.decimal(number, places: 3))
  }

  /// null for nil.
  mutating func member(_ name: StaticString, _ number: Double?) {
    if let number { member(name, number) } else { memberNull(name) }
  }

  mutating func member(_ name: StaticString, _ flag: Bool) {
    beginMember()
    bytes.append(name)
    bytes.append(flag ? "\":true" : "\":false")
  }

  /// null for nil.
  mutating func member(_ name: StaticString, _ text: String?) {
    if let text { member(name, text) } else { memberNull(name) }
  }

  /// null for nil.
  mutating func member(_ name: StaticString, _ data: [UInt8]?) {
    if let data { member(name, data) } else { memberNull(name) }
  }

  private mutating func memberNull(_ name: StaticString) {
    beginMember()
    bytes.append(name)
    bytes.append("\":null")
  }

  private mutating func beginMember() {
    bytes.append(isFirstMember ? "\"" : ",\"")
    isFirstMember = false
  }
}

/// Messages for a person: standard error, unbuffered. A closed standard error is no reason to fail.
enum Messages {
  static func write(_ text: String) { write(Array(text.utf8)) }

  static func write(_ bytes: [UInt8]) {
    do { try SystemCall.write(SystemCall.standardError, bytes) } catch {}
  }
}

extension [UInt8] {
  mutating func append(_ data: Span<UInt8>) {
    unsafe data.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
  }

  mutating func append(_ text: StaticString) {
    text.withUTF8Buffer { unsafe append(contentsOf: $0) }
  }
}
