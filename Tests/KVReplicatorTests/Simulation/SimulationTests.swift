// The simulations that every run of the tests makes, and that they would find what is wrong.
//
// `KVSYNC_SEEDS` runs so many, `KVSYNC_SEED` repeats one and prints what happened in it. `tools/simulate` runs them in
// release, which takes a tenth of the time.

import Foundation
import TestSupport
import Testing

@Suite struct SimulationTests {
  @Test(
    "Whatever is written, cut, delayed, lost, restored and copied: left in peace, all come to the same and nothing is lost"
  )
  func anything() async throws { await run(SeededGenerator.seeds(20_000, from: 1), loadsSnapshots: false) }

  @Test("The same where replicas begin with a snapshot, and may be away for longer than the hub keeps its log")
  func snapshots() async throws { await run(SeededGenerator.seeds(10_000, from: 1), loadsSnapshots: true) }

  private func run(_ seeds: [UInt64], loadsSnapshots: Bool) async {
    let result = await Campaign.run(seeds, loadsSnapshots: loadsSnapshots)
    for (seed, reason) in result.failures.sorted(by: { $0.seed < $1.seed }).prefix(3) {
      let trace = Simulation.trace(of: seed, loadsSnapshots)
      print("what happened with KVSYNC_SEED=\(seed), to its end:")
      print(trace.suffix(result.seeds == 1 ? trace.count : 200).joined(separator: "\n"))
      Issue.record("KVSYNC_SEED=\(seed): \(reason)")
    }
    print("\(result.seeds) seeds, \(result.events) events, \(result.failures.count) failures")
    for path in RarePath.allCases { print("  \(result.counts[path])\t\(path.rawValue)") }
    // What a run of a few seeds does not meet says nothing.
    guard result.seeds >= 10_000 else { return }
    let missing = result.counts.missing(withSnapshots: loadsSnapshots)
    #expect(missing.isEmpty, "never occurred: \(missing.map(\.rawValue))")
  }

  /// Of the first million, each failed once: with a hub that was restored, and with stores that were restored or copied, most of
  /// them with both.
  @Test(
    "What once went wrong goes right",
    arguments: [
      23_339, 26_935, 37_472, 38_883, 45_963, 49_161, 58_276, 80_065, 89_377, 101_089, 102_935, 111_217, 117_224,
      121_678, 128_141, 128_211, 146_203, 158_929, 163_413, 170_935, 179_388, 180_498, 182_202, 186_638, 197_498,
      200_480, 212_423, 220_466, 224_112, 236_617, 247_562, 248_550, 254_511, 258_307, 277_400, 280_220, 291_419,
      292_104, 293_757, 301_364, 308_195, 309_270, 318_998, 319_339, 326_735, 366_421, 369_706,
      56_620, 174_254, 238_077, 248_983, 338_762, 390_393, 408_404, 459_352, 474_146, 487_651, 495_407, 529_895,
      628_679, 645_023, 647_921, 688_139, 752_595, 775_961, 794_395,
    ] as [UInt64])
  func wentWrong(seed: UInt64) throws {
    var simulation = Simulation(seed: seed)
    try simulation.run()
  }

  /// In the order in which their causes were found: a page of an epoch that had begun meanwhile; a page that meets what the hub had
  /// refused; pushes that met what the hub had forgotten; pages without deletions; positions that nobody can check; what was brought
  /// in place of something older; deletions that no log has any more.
  @Test(
    "What once went wrong with snapshots goes right",
    arguments: [309, 5_236, 1_901, 6_517, 7_336, 11_396, 48_299, 3_115, 10_670, 9_693, 11_766, 23_315, 46_723, 134_580]
      as [UInt64])
  func snapshotsWentWrong(seed: UInt64) throws {
    var simulation = Simulation(seed: seed, loadsSnapshots: true)
    try simulation.run()
  }

  @Test("One seed gives one history", arguments: [1, 2, 3, 5, 8] as [UInt64])
  func repeats(seed: UInt64) {
    #expect(Simulation.trace(of: seed) == Simulation.trace(of: seed))
  }

  @Test("A deliberate bug is found within a few seeds", arguments: DeliberateBug.allCases)
  func finds(bug: DeliberateBug) async {
    let seeds = (1...bug.foundWithin).map { UInt64($0) }
    let result = await Campaign.run(seeds, bug: bug, stopsAtFailure: true)
    print("\(bug): \(result.seeds) seeds: \(result.failures.first?.reason ?? "not found")")
    #expect(!result.failures.isEmpty, "\(bug.rawValue): not found in \(result.seeds) seeds")
  }
}

extension Simulation {
  /// What happens with a seed.
  fileprivate static func trace(of seed: UInt64, _ loadsSnapshots: Bool = false) -> [String] {
    var simulation = Simulation(seed: seed, loadsSnapshots: loadsSnapshots, isTracing: true)
    do { try simulation.run() } catch { simulation.note { "FAILED: \(error)" } }
    return simulation.trace?.lines ?? []
  }
}
