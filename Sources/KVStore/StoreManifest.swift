// The file that makes a directory a store: who the store is, and in which format it is written.
//
// Invariants
// - `kvsync.store` exists only when the log and the index beside it are complete: it is renamed into place last.
// - A directory with `kvsync.store.creating` and no `kvsync.store` is a creation that was cut off: it holds no data.
// - `backup` is there as long as a backup has not been opened for writing: whoever opens it then becomes somebody else.
// - The file is text, so that a person can read it; its last line is a checksum over the lines before it.

import Foundation
package import KVLog

package struct StoreManifest: Sendable, Equatable {
  package var identity: Identity
  /// Of a backup: the version of the store `identity` that it holds.
  package var backup: Version?

  package static let name = "kvsync.store"
  package static let creating = "kvsync.store.creating"

  static func random() -> StoreManifest {
    StoreManifest(identity: .random())
  }

  // grammar
  //   manifest    = "kvsync store\n" "format " number "\n" "identity " hex32 "\n" [ "backup " version "\n" ]
  //                 "checksum " hex16 "\n"                       ; XXH3-64 of all the bytes before this line

  func encoded() -> String {
    let body = """
      kvsync store
      format \(StoreLimits.format)
      identity \(identity)

      """ + (backup.map { "backup \($0)\n" } ?? "")
    return body + "checksum \(Self.checksum(of: body[...]))\n"
  }

  static func decode(_ text: String, path: String) throws(StoreError) -> StoreManifest {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    var fields: [Substring: Substring] = [:]
    for line in lines {
      let parts = line.split(separator: " ", maxSplits: 1)
      if parts.count == 2 { fields[parts[0]] = parts[1] }
    }
    let end = text.range(of: "\nchecksum ", options: .backwards)
    let isWhole = end.map { fields["checksum"].map(String.init) == checksum(of: text[...$0.lowerBound]) } ?? false
    // The format is looked at before the checksum: a newer format may check itself in another way.
    if lines.first == "kvsync store", let format = fields["format"].flatMap({ Int($0) }), format > StoreLimits.format {
      throw StoreError(
        .newerFormat,
        "the store has format \(format); this kvsync reads up to format \(StoreLimits.format). Use a newer kvsync.",
        path: path)
    }
    guard lines.first == "kvsync store" || fields["identity"] != nil || text.isEmpty else {
      throw StoreError(.foreign, "this is not the manifest of a kvsync store. Choose another directory.", path: path)
    }
    guard isWhole, lines.first == "kvsync store", let identity = fields["identity"].flatMap({ Identity(String($0)) }),
      fields["backup"].map({ Version($0) != nil }) ?? true
    else {
      throw StoreError(
        .corrupt, "the manifest is damaged. Restore this file from a backup; log and index were not touched.",
        path: path)
    }
    return StoreManifest(identity: identity, backup: fields["backup"].flatMap { Version($0) })
  }

  private static func checksum(of text: Substring) -> String {
    let value = text.withBytes { checksum64($0) }
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
