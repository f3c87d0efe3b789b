// What a seed decides before anything happens: who takes part, with which options, and what goes wrong how often.

import KVLog
import KVProtocol
import TestSupport

@testable import KVStore

struct Scenario {
  /// What befalls replicas and hub beyond links that break.
  enum Disaster: CaseIterable {
    case replicaCrash, hubCrash, hubRestored, replicaRestored, cloned, logTruncated, hubLogTruncated

    /// What any seed may draw.
    static let everywhere: [Disaster] = [
      .replicaCrash, .hubCrash, .hubRestored, .replicaRestored, .cloned, .logTruncated,
    ]
  }

  enum Policy: CaseIterable { case lastWriterWins, localWins, remoteWins, merge, manual }

  var replicas: Int
  /// Microseconds.
  var faultTime: Int
  var writes: Int
  var keys: Int
  var changesPerWrite: Int
  var deletionPercent: Int
  /// Of ten transactions so many are large, beyond a segment or a window.
  var largeValues: Int
  var relaxedPercent: Int
  var policies: [Policy]
  var histories: [ShippedHistory]
  /// What a wall clock is off by, in milliseconds.
  var skews: [Int]
  /// Each direction's, in microseconds.
  var latency: Int
  var storeDelay: Int
  /// The hub is what `EmbeddedSpace` is, or the reference in memory.
  var usesModelSpace: Bool
  var refuses: Bool
  var linkFaults: Int
  var disasters: [Disaster]
  var sessionEvents: Int
  /// Sessions that do less than everything, of a hundred.
  var partialPercent: Int
  /// Replicas begin with a snapshot, and the hub does not keep its log for ever.
  var loadsSnapshots = false

  /// No clock is far off, nothing was restored, no deletion forgotten or left out of a page, everybody has the default policy: who
  /// wrote last is who stands.
  var lastWriterStands: Bool {
    policies.allSatisfy { $0 == .lastWriterWins } && !refuses && skews.allSatisfy { abs($0) < 60_000 }
      && isWithoutCopies && !disasters.contains(.hubLogTruncated)
      && !(loadsSnapshots && deletionPercent > 0)
  }

  var isWithoutCopies: Bool {
    disasters.allSatisfy { [.replicaCrash, .hubCrash, .logTruncated, .hubLogTruncated].contains($0) }
  }

  init(_ random: inout SeededGenerator) {
    replicas = 2 + (random.chance(60) ? random.below(2) : random.below(4))
    faultTime = (1 + random.below(30)) * 1_000_000
    writes = 3 + random.below(19)
    keys = 1 + random.below(6)
    changesPerWrite = 1 + random.below(3)
    deletionPercent = [0, 15, 40][random.below(3)]
    largeValues = random.chance(20) ? 2 : 0
    relaxedPercent = random.chance(30) ? 50 : 0
    let count = replicas
    // Most programs have one policy everywhere.
    let policy: Policy = random.chance(60) ? .lastWriterWins : Policy.allCases[random.below(Policy.allCases.count)]
    let isMixed = random.chance(10)
    policies = (0..<count).map { _ in isMixed ? Policy.allCases[random.below(Policy.allCases.count)] : policy }
    histories = (0..<count).map { _ in random.chance(75) ? .latest : .every }
    let years = 10 * 365 * 86_400_000
    let choices = [0, 0, -40_000, 50_000, -years, years]
    let isOff = random.chance(30)
    skews = (0..<count).map { _ in choices[random.below(isOff ? choices.count : 4)] }
    latency = [100, 2_000, 40_000, 400_000][random.below(4)]
    storeDelay = [10, 1_000, 30_000][random.below(3)]
    usesModelSpace = random.chance(60)
    refuses = random.chance(15)
    linkFaults = random.below(6)
    let extent = random.below(10)
    // A third of the seeds know no disaster; in some it rains.
    disasters = (0..<(extent < 3 ? 0 : extent < 9 ? 1 + random.below(3) : 6)).map { _ in
      Disaster.everywhere[random.below(Disaster.everywhere.count)]
    }
    sessionEvents = random.below(4)
    partialPercent = random.chance(50) ? 0 : 50
  }

  mutating func loadSnapshots(_ random: inout SeededGenerator) {
    loadsSnapshots = true
    usesModelSpace = true
    for _ in 0..<random.below(4) { disasters.append(.hubLogTruncated) }
  }

  /// For a replica's session while things go wrong; `isWhole`: everything both ways, for as long as it lasts.
  func configuration(_ random: inout SeededGenerator, isWhole: Bool) -> (mode: SessionMode, isLive: Bool, budget: Int?)
  {
    guard !isWhole, random.chance(partialPercent) else { return ([.push, .pull], isWhole || random.chance(70), nil) }
    let modes: [SessionMode] = [[.push, .pull], .push, .pull]
    return (modes[random.below(3)], random.chance(50), random.chance(40) ? random.below(2_000) : nil)
  }
}
