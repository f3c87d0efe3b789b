// The rule for the names of spaces.
//
//     name = 1...64 of  a-z  0-9  .  _  -      not starting with "."
//
// It is a directory's name on the hub: no separators, no hidden files, no two names that differ by case only.

package enum SpaceName {
  package static func isValid(_ name: String) -> Bool {
    let bytes = name.utf8
    guard let first = bytes.first, bytes.count <= ProtocolLimits.maximumSpaceNameBytes else { return false }
    return first != UInt8(ascii: ".")
      && bytes.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
          UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
          true
        default: false
        }
      }
  }

  /// The rule, for messages.
  package static let rule = "a space's name is 1 to 64 of a-z 0-9 . _ - and does not start with a dot"
}
