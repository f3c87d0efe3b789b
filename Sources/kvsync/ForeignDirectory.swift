// A directory that is something else than was asked for: what it is, if it is one of ours.

import KVHubEmbedded
import KVStore

enum ForeignDirectory {
  /// Names of spaces that are listed.
  private static let listed = 5

  /// What to do with the directory instead; empty when it is none of ours.
  static func remedy(at path: String) -> String {
    if let names = EmbeddedHubStorage.spaceNames(at: path) { return spaces(names, in: "\(path)/spaces") }
    if path.hasSuffix("/spaces"), let names = EmbeddedHubStorage.spaceNames(at: String(path.dropLast(7))) {
      return spaces(names, in: path)
    }
    if SystemCall.exists("\(path)/\(StoreManifest.name)") {
      return "It is a store: kvsync info \(path). A hub has a directory of its own."
    }
    return ""
  }

  private static func spaces(_ names: [String], in directory: String) -> String {
    guard let first = names.first else { return "It is a hub's directory; the hub has no spaces yet." }
    let list = names.prefix(listed).joined(separator: ", ") + (names.count > listed ? ", …" : "")
    return "It is a hub's directory. Its spaces are stores: kvsync info \(directory)/\(first) (there: \(list))."
  }
}
