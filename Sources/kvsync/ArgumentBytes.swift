// Keys and values are bytes, and so are a process's arguments; a `String` is neither. Swift would replace what is not
// UTF-8 by U+FFFD, and `kvsync put STORE $'\xff' …` would write another key than it was asked to.
//
// Invariant: decode(encode(bytes)) == bytes, for all bytes. Arguments in UTF-8 stay as they are.

import ArgumentParser

/// A key or a value on the command line.
struct ArgumentBytes: ExpressibleByArgument {
  let bytes: [UInt8]

  init(argument: String) { bytes = Self.decode(argument) }

  /// Bytes that are not UTF-8 travel through the argument parser as 256 characters of the last private-use plane, and so do
  /// the bytes of these characters themselves.
  private static let firstStandIn: UInt32 = 0x10_FE00

  /// The arguments of this process, each as a string that `decode` undoes.
  static func processArguments() -> [String] { SystemCall.arguments.map { encode($0) } }

  static func encode(_ bytes: [UInt8]) -> String {
    let span = bytes.span
    var text = String.UnicodeScalarView()
    var index = 0
    while index < bytes.count {
      let byte = bytes[index]
      let length = byte < 0x80 ? 1 : UTF8Sequence.length(in: span, at: index)
      let sequence = bytes[index..<(index + (length ?? 1))]
      let scalar = length == nil ? nil : String(decoding: sequence, as: UTF8.self).unicodeScalars.first
      if let scalar, !isStandIn(scalar) {
        text.append(scalar)
      } else {
        for byte in sequence {
          if let standIn = Unicode.Scalar(firstStandIn + UInt32(byte)) { text.append(standIn) }
        }
      }
      index += sequence.count
    }
    return String(text)
  }

  static func decode(_ text: String) -> [UInt8] {
    var bytes: [UInt8] = []
    for scalar in text.unicodeScalars {
      if isStandIn(scalar) {
        bytes.append(UInt8(truncatingIfNeeded: scalar.value - firstStandIn))
      } else {
        bytes.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
      }
    }
    return bytes
  }

  /// Refuses what cannot be a path here: the system would take it for another one.
  static func checkPath(_ path: String, of thing: String) throws {
    if path.isEmpty { throw ValidationError("The path of \(thing) is empty.") }
    if path.unicodeScalars.contains(where: isStandIn) {
      throw ValidationError("The path of \(thing) is not UTF-8. Rename it, or reach it through a link whose name is.")
    }
  }

  private static func isStandIn(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value >= firstStandIn && scalar.value < firstStandIn + 256
  }
}
