// kvsync backup: a consistent copy of a store, beside whoever writes it.

import ArgumentParser
import KVLog
import KVStore

struct Backup: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "backup",
    abstract: "Copy a store, while others read and write it.",
    discussion: """
      The copy is of one moment, durable, and verified. The target must not exist
      yet, or be an empty directory. The copy can be read as it is; opened for
      writing it becomes a store of its own, and offers its hub what the source had
      not delivered.

      With --announce, a backup of a hub's space is announced to its replicas, whether
      the hub runs or not: those that keep what the hub has until a backup covers it
      (kvsync sync --until-backup) give it up. Announce backups that will be kept,
      and restore the hub from no older one.

      Example: kvsync backup field-notes /backups/field-notes-monday
               kvsync backup hub-data/spaces/notes /backups/notes-monday --announce
      """)

  @OptionGroup var target: StoreOptions
  @Argument(help: "The directory to copy to.", completion: .directory)
  var copy: String
  @Flag(help: "Of a hub's space: tell its replicas that a backup covers what it has.") var announce = false
  @OptionGroup var output: OutputOptions

  func validate() throws { try ArgumentBytes.checkPath(copy, of: "the copy") }

  func execute() async throws -> ExitStatus {
    var attempts = 0
    while true {
      do {
        return try await attempt()
      } catch let error as StoreError where error.code == .expired && attempts < 10 {
        // A writer beside us gave up log that this view of the store needed: a new view does not need it.
        attempts += 1
      }
    }
  }

  private func attempt() async throws -> ExitStatus {
    let store = try await target.openForReading()
    return try await withStore(store) { store in
      var bar = ProgressBar()
      let report: VerificationReport
      do {
        defer { bar.finish() }
        report = try store.backupBlocking(to: copy) { done in
          bar.update(done: done, total: nil, items: done, noun: "rows and changes copied and checked")
        }
      }
      if announce { try store.announceBackup(of: report) }
      if output.json {
        var line = Output()
        line.beginObject()
        line.member("path", copy)
        line.member("identity", store.identity.description)
        line.member("localVersion", report.lastVersion)
        line.member("digest", report.digest.description)
        line.member("keys", report.keys)
        line.member("announced", announce)
        line.endObject()
        try line.flushToWhoeverReads()
      } else {
        let news = announce ? "; the hub tells its replicas" : ""
        Messages.write(
          "copied \(Amount.count(report.keys, "key")) at version \(report.lastVersion) to \(copy)\(news)\n")
      }
      return .ok
    }
  }
}
