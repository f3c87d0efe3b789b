// Tab-separated rows: KEY, a tab, VALUE, a line feed. Any bytes go through it.
//
//   row    = field TAB field LF            (the LF may be missing after the last row)
//   field  = *( byte | "\t" | "\n" | "\\" )    byte: any but TAB, LF and backslash
//
// `\t` stands for a tab, `\n` for a line feed and `\\` for a backslash. Nothing else is special: a carriage return is data.

enum TabSeparated {
  private static let tab = UInt8(ascii: "\t")
  private static let lineFeed = UInt8(ascii: "\n")
  private static let backslash = UInt8(ascii: "\\")

  /// Appends `data` with its tabs, line feeds and backslashes escaped.
  static func append(_ data: Span<UInt8>, to text: inout [UInt8]) {
    var runStart = 0
    for index in data.indices {
      let byte = data[index]
      guard byte == tab || byte == lineFeed || byte == backslash else { continue }
      text.append(data.extracting(runStart..<index))
      runStart = index + 1
      text.append(byte == tab ? "\\t" : byte == lineFeed ? "\\n" : "\\\\")
    }
    text.append(data.extracting(runStart..<data.count))
  }

  /// Adds the row `line` (without its line feed) to `batch`.
  static func parse(_ line: Span<UInt8>, into batch: inout ChangeBatch) throws(LineError) {
    let start = batch.bytes.count
    var keyEnd: Int?
    var runStart = 0
    var index = 0
    while index < line.count {
      let byte = line[index]
      if byte == tab {
        guard keyEnd == nil else {
          throw LineError("a second tab at byte \(index + 1); a tab inside a value is written \\t")
        }
        batch.bytes.append(line.extracting(runStart..<index))
        keyEnd = batch.bytes.count
        runStart = index + 1
      } else if byte == backslash {
        batch.bytes.append(line.extracting(runStart..<index))
        index += 1
        let escaped = index < line.count ? line[index] : 0
        switch escaped {
        case UInt8(ascii: "t"): batch.bytes.append(tab)
        case UInt8(ascii: "n"): batch.bytes.append(lineFeed)
        case backslash: batch.bytes.append(backslash)
        default:
          throw LineError("an unknown escape at byte \(index); only \\t, \\n and \\\\ exist, and a backslash is \\\\")
        }
        runStart = index + 1
      }
      index += 1
    }
    batch.bytes.append(line.extracting(runStart..<line.count))
    guard let keyEnd else { throw LineError("no tab; a row is KEY, a tab, VALUE") }
    try batch.add(key: start..<keyEnd, value: keyEnd..<batch.bytes.count)
  }
}
