// The store beside plain LMDB: the same keys in the same order, both durable, runs interleaved.

import ArgumentParser
import Foundation
import KVStore

struct StoreBenchmark: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "store", abstract: "Puts, gets and scans beside plain LMDB in the same run.")

  @Option(help: "Changes in the row of 1,000 changes per commit, and keys in the rows that read.")
  var changes = 1_000_000
  @Option(help: "Runs of each row; the median counts.")
  var runs = 3
  @OptionGroup var output: OutputOptions

  func run() async throws {
    var report = Report()
    var single = (kvsync: [Double](), lmdb: [Double]())
    var batch = (kvsync: [Double](), folded: [Double](), lmdb: [Double]())
    var gets = (kvsync: [Double](), lmdb: [Double]())
    var scans = (kvsync: [Double](), lmdb: [Double]())
    var peak = 0
    for run in 0..<runs {
      let seed = UInt64(run + 1)
      try await withScratch(output.directory) { scratch in
        let count = 3_000
        single.lmdb.append(
          Double(count)
            / (try time { try PlainLMDB(path: scratch + "/single.mdb").put(count: count, perCommit: 1, seed: seed) }))
        let store = try await Store.open(at: scratch + "/single")
        single.kvsync.append(Double(count) / (try time { try put(store, count: count, perCommit: 1, seed: seed) }))
        try await store.close()
      }
      try await withScratch(output.directory) { scratch in
        let peer = try PlainLMDB(path: scratch + "/batch.mdb")
        let peerSeconds = try time { try peer.put(count: changes, perCommit: 1_000, seed: seed) }
        batch.lmdb.append(Double(changes) / peerSeconds)
        let path = scratch + "/batch"
        var store = try await Store.open(at: path)
        let memory = MemoryProbe(process: getpid())
        let baseline = MemoryProbe.anonymousBytes(of: getpid()) ?? 0
        let seconds = try time { try put(store, count: changes, perCommit: 1_000, seed: seed) }
        let closing = try await time { try await store.close() }
        peak = max(peak, memory.stop() - baseline)
        batch.kvsync.append(Double(changes) / seconds)
        batch.folded.append(Double(changes) / (seconds + closing))

        store = try await Store.open(at: path)
        let keys = sample(seed: seed)
        var bytes = (0, 0)
        let peerGets = try time { bytes.0 = try peer.get(keys: keys) }
        let ownGets = try time {
          for key in keys { bytes.1 += try store.withValue(for: key) { $0.byteCount } ?? 0 }
        }
        precondition(bytes.0 == bytes.1, "both must find the same values")
        gets.lmdb.append(Double(keys.count) / peerGets)
        gets.kvsync.append(Double(keys.count) / ownGets)
        let peerScan = try time { bytes.0 = try peer.scan() }
        let ownScan = try time {
          bytes.1 = 0
          try store.read { snapshot in
            try snapshot.forEach { _, value in
              bytes.1 += value.byteCount
              return true
            }
          }
        }
        precondition(bytes.0 == bytes.1, "both must scan the same values")
        scans.lmdb.append(Double(changes) / peerScan)
        scans.kvsync.append(Double(changes) / ownScan)
        try await store.close()
      }
    }
    add("durable put, 1 change per commit", single.kvsync, single.lmdb, to: &report)
    add("durable put, 1,000 changes per commit, \(changes)", batch.kvsync, batch.lmdb, peak: peak, to: &report)
    add("the same, until all is folded into the index", batch.folded, batch.lmdb, to: &report)
    add("random get, \(changes) keys, tail empty", gets.kvsync, gets.lmdb, to: &report)
    add("full scan, \(changes) keys", scans.kvsync, scans.lmdb, to: &report)
    try report.write(markdown: output.markdown, json: output.json)
  }

  private func add(_ work: String, _ own: [Double], _ peer: [Double], peak: Int? = nil, to report: inout Report) {
    report.add(Figure(work: work, contender: "LMDB (C interface)", perSecond: median(peer), ratio: 1))
    let ratios = zip(own, peer).map { $0 / $1 }
    report.add(
      Figure(work: work, contender: "kvsync", perSecond: median(own), ratio: median(ratios), peakAnonymousBytes: peak))
  }

  private func put(_ store: Store, count: Int, perCommit: Int, seed: UInt64) throws {
    try fill(store, count: count, perCommit: perCommit, seed: seed)
  }

  /// Keys that exist, in random order.
  private func sample(seed: UInt64) -> [[UInt8]] {
    var workload = Workload(seed: seed)
    var key = [UInt8](repeating: 0, count: Workload.keyBytes)
    var keys: [[UInt8]] = []
    for index in 0..<changes {
      workload.fill(&key)
      if index % max(1, changes / 200_000) == 0 { keys.append(key) }
    }
    var generator = SystemRandomNumberGenerator()
    keys.shuffle(using: &generator)
    return keys
  }
}

/// Writes `count` changes, `perCommit` to a transaction, one transaction after the other.
func fill(_ store: Store, count: Int, perCommit: Int, seed: UInt64) throws {
  var workload = Workload(seed: seed)
  var done = 0
  while done < count {
    let changes = min(perCommit, count - done)
    let start = workload
    let (next, _) = try store.writeBlocking { transaction -> Workload in
      var workload = start
      var key = [UInt8](repeating: 0, count: Workload.keyBytes)
      for _ in 0..<changes {
        workload.fill(&key)
        try transaction.put(Workload.value, for: key)
      }
      return workload
    }
    workload = next
    done += changes
  }
}
