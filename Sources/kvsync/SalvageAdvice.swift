// What can be got out of a damaged store, in words.

import KVLog
import KVStore

extension SalvageReport {
  /// One sentence after the other, the way out first.
  func advice(_ store: String) -> String {
    var sentences: [String] = []
    if canRebuildIndex, let versions = logVersions.first {
      sentences.append(
        "The log is whole from version 1 to \(Amount.count(versions.upperBound)): "
          + "kvsync compact \(store) --from-log writes the index anew from it, and nothing is lost.")
    }
    if let indexDamage { sentences.append("The index's pages do not hang together: \(indexDamage).") }
    sentences.append("In the index's file \(Amount.count(wholeRows, "row")) can be read, older ones of a key included.")
    if !canRebuildIndex {
      let ranges = logVersions.prefix(5).map { "\($0.lowerBound) to \($0.upperBound)" }.joined(separator: ", ")
      sentences.append(
        ranges.isEmpty ? "In the log nothing can be read." : "In the log versions \(ranges) can be read.")
    }
    if let logDamage { sentences.append("What is wrong with it: \(logDamage).") }
    if let hubEpoch, let counters {
      sentences.append(
        "The hub's space of epoch \(hubEpoch) has everything up to its version \(counters.serverVersion): a new store "
          + "that synchronises with it gets that back.")
      if let undelivered {
        sentences.append(
          "What was written here and not delivered lies in versions \(undelivered.lowerBound) to \(undelivered.upperBound)."
        )
      }
    }
    sentences.append("A backup, opened for writing, goes on from where it was made.")
    return sentences.joined(separator: " ")
  }
}
