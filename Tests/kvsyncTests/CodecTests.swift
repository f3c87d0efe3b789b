// What the tool writes, it reads; what is not its format, it refuses with a reason.

import Foundation
import TestSupport
import Testing

@testable import kvsync

@Suite("Codecs")
struct CodecTests {
  /// Parses one line and gives back its change.
  private func parse(_ line: [UInt8], as format: ChangeFormat) throws -> (key: [UInt8], value: [UInt8]?) {
    var batch = ChangeBatch()
    try format.parse(line.span, into: &batch)
    return try #require(batch.changes.first)
  }

  private func reason(_ line: String, as format: ChangeFormat) -> String? {
    do {
      _ = try parse(Array(line.utf8), as: format)
      return nil
    } catch { return (error as? LineError)?.reason }
  }

  @Test("A row written as JSON reads back as the same bytes, and every line is JSON to Foundation too")
  func jsonRoundTrip() throws {
    var random = SeededGenerator()
    for _ in 0..<3000 {
      let key = random.anyBytes(Int.random(in: 1...511, using: &random))
      let value = random.anyBytes(Int.random(in: 0...700, using: &random))
      var out = Output()
      out.beginObject()
      out.member("key", key)
      out.member("value", value)
      out.endObject()
      #expect(out.bytes.last == UInt8(ascii: "\n"))
      let line = Array(out.bytes.dropLast())
      #expect(!line.contains(UInt8(ascii: "\n")), "seed \(random.seed)")
      let change = try parse(line, as: .jsonl)
      #expect(change.key == key && change.value == value, "seed \(random.seed)")
      let object = try JSONSerialization.jsonObject(with: Data(line)) as? [String: String]
      if let text = String(validating: key, as: UTF8.self) {
        #expect(object?["key"] == text, "seed \(random.seed)")
      } else {
        #expect(object?["keyBase64"] == Data(key).base64EncodedString(), "seed \(random.seed)")
      }
    }
  }

  @Test("A row written as TSV reads back as the same bytes")
  func tabSeparatedRoundTrip() throws {
    var random = SeededGenerator()
    for _ in 0..<3000 {
      let key = random.anyBytes(Int.random(in: 1...511, using: &random))
      let value = random.anyBytes(Int.random(in: 0...700, using: &random))
      var line: [UInt8] = []
      TabSeparated.append(key.span, to: &line)
      line.append(UInt8(ascii: "\t"))
      TabSeparated.append(value.span, to: &line)
      #expect(!line.contains(UInt8(ascii: "\n")))
      let change = try parse(line, as: .tsv)
      #expect(change.key == key && change.value == value, "seed \(random.seed)")
    }
  }

  @Test("UTF-8 is what the standard library says it is, for all two-byte strings and many others")
  func utf8() {
    func isText(_ bytes: [UInt8]) -> Bool {
      var text: [UInt8] = []
      return JSON.appendEscaped(bytes.span, to: &text)
    }
    for first in UInt8.min...UInt8.max {
      for second in UInt8.min...UInt8.max {
        for bytes in [
          [first, second], [first, second, 0x80], [first, second, 0x80, 0xBF], [first, second, 0xBF, 0x7F],
        ] {
          #expect(isText(bytes) == (String(validating: bytes, as: UTF8.self) != nil), "\(bytes)")
        }
      }
    }
  }

  @Test("JSON as others write it is read: any order, spaces, every escape, surrogate pairs")
  func foreignJSON() throws {
    let line = #" { "value" : "\u0041\/\b\f\n\r\t\"\\\uD83D\uDE00é" , "key" : "k" } "#
    let change = try parse(Array(line.utf8), as: .jsonl)
    #expect(change.key == Array("k".utf8))
    #expect(change.value == Array("A/\u{8}\u{C}\n\r\t\"\\😀é".utf8))
    let deletion = try parse(Array(#"{"keyBase64":"\/\u002F8=","deleted":true}"#.utf8), as: .jsonl)
    #expect(deletion.key == [0xFF, 0xFF] && deletion.value == nil)
  }

  @Test(
    "A line that is not a change is refused with a reason",
    arguments: [
      "", "{}", "[]", "null", "{", #"{"key":"a"}"#, #"{"value":"a"}"#, #"{"key":"a","value":1}"#,
      #"{"key":"a","value":"b"} x"#, #"{"key":"a","value":"b"}{"#, #"{"key":"a","key":"a","value":"b"}"#,
      #"{"key":"a","keyBase64":"YQ==","value":"b"}"#, #"{"key":"a","value":"b","valueBase64":""}"#,
      #"{"key":"a","value":"b","version":3}"#, #"{"key":"","value":"b"}"#, #"{"key":"a","value":"\x"}"#,
      #"{"key":"a","value":"\u12"}"#, #"{"key":"a","value":"\uD800"}"#, #"{"key":"a","value":"\uD800\u0041"}"#,
      #"{"key":"a","value":"\uDC00"}"#, #"{"key":"a","value":"b"#, #"{"key":"a","valueBase64":"YQ"}"#,
      #"{"key":"a","valueBase64":"Y==="}"#, #"{"key":"a","valueBase64":"YR=="}"#, #"{"key":"a","valueBase64":"Y Q="}"#,
      #"{"key":"a","value":"b","deleted":true}"#, #"{"key":"a","deleted":false}"#, #"{"key":"a","deleted":1}"#,
      #"{"key":"a","value":"b",}"#, "{\"key\":\"a\",\"value\":\"\u{1}\"}",
    ])
  func badJSON(_ line: String) {
    #expect(reason(line, as: .jsonl)?.isEmpty == false, "\(line)")
  }

  @Test("Every line cut short is refused, and never taken for another row")
  func truncatedJSON() {
    let line = #"{"key":"a\u00e9","valueBase64":"AAECAw=="}"#
    for length in 0..<line.utf8.count {
      #expect(reason(String(line.prefix(length)), as: .jsonl) != nil, "\(length)")
    }
  }

  @Test(
    "Bytes that are not UTF-8 are refused in JSON",
    arguments: [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xE2, 0x82]] as [[UInt8]])
  func badUTF8(_ bytes: [UInt8]) {
    let line = Array(#"{"key":"a","value":""#.utf8) + bytes + Array(#""}"#.utf8)
    #expect(throws: LineError.self) { try parse(line, as: .jsonl) }
  }

  @Test("A TSV row that is none is refused", arguments: ["a", "a\tb\tc", "\tb", "a\tb\\", "a\tb\\x", "a\\0\tb"])
  func badTSV(_ line: String) {
    #expect(reason(line, as: .tsv)?.isEmpty == false, "\(line)")
  }

  @Test("The limits of a store are the limits of a line, to the byte")
  func limits() {
    let longest = String(repeating: "k", count: 511)
    #expect(reason("\(longest)\tv", as: .tsv) == nil)
    #expect(reason("\(longest)k\tv", as: .tsv)?.contains("511") == true)
    #expect(reason(#"{"key":"\#(longest)k","value":""}"#, as: .jsonl)?.contains("511") == true)
  }

  @Test("Base64 is Foundation's")
  func base64() {
    var random = SeededGenerator()
    for count in 0..<200 {
      let bytes = random.anyBytes(count)
      var text: [UInt8] = []
      Base64.append(bytes.span, to: &text)
      #expect(String(decoding: text, as: UTF8.self) == Data(bytes).base64EncodedString(), "seed \(random.seed)")
      var back: [UInt8] = []
      #expect(Base64.decode(text.span, to: &back) && back == bytes, "seed \(random.seed)")
    }
  }

  @Test("An argument of any bytes survives the argument parser")
  func arguments() {
    var random = SeededGenerator()
    for _ in 0..<3000 {
      let bytes = random.anyBytes(Int.random(in: 0...40, using: &random))
      #expect(ArgumentBytes.decode(ArgumentBytes.encode(bytes)) == bytes, "seed \(random.seed)")
    }
    for scalar in (0x10_FD00 as UInt32)...0x10_FFFF {
      let bytes = Array(String(Unicode.Scalar(scalar)!).utf8)
      #expect(ArgumentBytes.decode(ArgumentBytes.encode(bytes)) == bytes)
    }
    #expect(ArgumentBytes.encode(Array("wéather/\u{100000}".utf8)) == "wéather/\u{100000}")
  }

  @Test("Amounts read well at their borders")
  func amounts() {
    #expect([0, 999, 1000, 1_234_567, -1000].map { Amount.count($0) } == ["0", "999", "1,000", "1,234,567", "-1,000"])
    #expect(
      [0, 999, 1000, 999_949, 999_950, 20_300_000].map(Amount.bytes)
        == ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "20.3 MB"])
    #expect(Amount.decimal(1.0005, places: 2) == "1.00" && Amount.decimal(0.999, places: 2) == "1.00")
    #expect(
      [0, 1, 2, 1000].map { Amount.count($0, "change") } == ["0 changes", "1 change", "2 changes", "1,000 changes"])
    #expect(Amount.time(milliseconds: 0) == "1970-01-01T00:00:00.000Z")
    #expect(Amount.time(milliseconds: 951_782_400_123) == "2000-02-29T00:00:00.123Z")
    #expect(Amount.time(milliseconds: 4_102_444_799_999) == "2099-12-31T23:59:59.999Z")
  }

  @Test("Addresses are read, and what is none is refused")
  func addresses() throws {
    #expect(try Endpoint("[::1]:7400") == Endpoint(host: "::1", port: 7400))
    #expect(try Endpoint("localhost:0").description == "localhost:0")
    for text in ["", "host", "host:", ":1", "host:65536", "host:-1", "::1:7400", "a b:1", "host:1x", "*:1"] {
      #expect(throws: (any Error).self, "\(text)") { try Endpoint(text) }
    }
  }
}

extension ChangeBatch {
  /// The changes as separate arrays.
  var changes: [(key: [UInt8], value: [UInt8]?)] {
    entries.map { (Array(bytes[$0.key]), $0.value.map { Array(bytes[$0]) }) }
  }
}
