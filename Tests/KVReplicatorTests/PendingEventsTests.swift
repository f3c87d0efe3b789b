// What a listener that is late hears.

import KVLog
import TestSupport
import Testing

@testable import KVReplicator

@Suite struct PendingEventsTests {
  private static func event(_ random: inout SeededGenerator) -> ReplicatorEvent {
    let first = Version(1 + random.below(1_000))
    let versions = first...first + Version(random.below(50))
    let error = ReplicatorError(.unreachable, "\(random.below(9))")
    switch random.below(ReplicatorEvent.kindCount) {
    case 0: return .added(versions: versions, changes: 1 + random.below(9))
    case 1: return .sent(versions: versions, changes: 1 + random.below(9))
    case 2: return .acknowledged(versions: versions, changes: 1 + random.below(9))
    case 3: return .parked(ParkedCommits(versions: versions, count: 1 + random.below(3), reason: "\(random.below(9))"))
    case 4: return .conflicts(1 + random.below(9))
    case 5: return .retrying(error, after: .seconds(random.below(9)))
    case 6: return .caughtUp(SyncReport())
    case 7: return .stateChanged(random.chance(50) ? .live : .offline)
    case 8: return .hubRestored(HubRestoration(local: random.chance(50) ? versions : nil, server: versions))
    case 9: return .becameNewIncarnation(.random())
    case 10: return .lapsed
    case 11: return .loadingSnapshot(keys: random.below(99))
    default: return .lapseWarning(within: .seconds(random.below(9)))
    }
  }

  /// What must not be lost of events, however they are merged: versions and counts by kind.
  private struct Sum: Equatable {
    var counts: [Int: Int] = [:]
    var versions: [Int: ClosedRange<Version>] = [:]

    mutating func add(_ event: ReplicatorEvent) {
      switch event {
      case .added(let range, let count), .sent(let range, let count), .acknowledged(let range, let count):
        add(event.kind, range, count)
      case .parked(let commits): add(event.kind, commits.versions, commits.count)
      case .conflicts(let count): counts[event.kind, default: 0] += count
      case .hubRestored(let restoration): if let range = restoration.server { add(event.kind, range, 0) }
      default: break
      }
    }

    private mutating func add(_ kind: Int, _ range: ClosedRange<Version>, _ count: Int) {
      counts[kind, default: 0] += count
      let known = versions[kind] ?? range
      versions[kind] =
        min(known.lowerBound, range.lowerBound)...max(known.upperBound, range.upperBound)
    }
  }

  @Test("However late a listener comes, at most one event of each kind waits, no version and no count is lost")
  func bounded() {
    for seed in SeededGenerator.seeds(50) {
      var random = SeededGenerator(seed: seed)
      var pending = PendingEvents()
      var (told, heard) = (Sum(), Sum())
      for _ in 0..<400 {
        if random.chance(80) {
          let event = Self.event(&random)
          told.add(event)
          pending.add(event)
        } else if let event = pending.take() {
          heard.add(event)
        }
        #expect(pending.count <= ReplicatorEvent.kindCount, "seed \(seed)")
      }
      while let event = pending.take() { heard.add(event) }
      #expect(heard == told, "seed \(seed)")
    }
  }

  @Test("Of what is a state the latest is heard, after what happened before it")
  func states() {
    var pending = PendingEvents()
    pending.add(.stateChanged(.connecting))
    pending.add(.added(versions: 1...1, changes: 1))
    pending.add(.retrying(ReplicatorError(.unreachable, "first"), after: .seconds(1)))
    pending.add(.stateChanged(.offline))
    pending.add(.retrying(ReplicatorError(.unreachable, "second"), after: .seconds(2)))
    pending.add(.added(versions: 3...4, changes: 2))
    #expect(pending.take() == .added(versions: 1...4, changes: 3))
    #expect(pending.take() == .stateChanged(.offline))
    #expect(pending.take() == .retrying(ReplicatorError(.unreachable, "second"), after: .seconds(2)))
    #expect(pending.take() == nil)
  }
}
