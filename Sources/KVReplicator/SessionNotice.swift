// What a session finds out that changes nothing for it, and that the program should hear of.

import KVLog

enum SessionNotice: Sendable, Hashable {
  case parked(ParkedCommits)
  case hubRestored(HubRestoration)
  case becameNewIncarnation(Identity)
  case adoptedSpace(SpaceAdoption)
  case lapsed
  case loadingSnapshot(keys: Int)
  case lapseWarning(within: Duration?)

  var event: ReplicatorEvent {
    switch self {
    case .parked(let commits): .parked(commits)
    case .hubRestored(let restoration): .hubRestored(restoration)
    case .becameNewIncarnation(let incarnation): .becameNewIncarnation(incarnation)
    case .adoptedSpace(let adoption): .adoptedSpace(adoption)
    case .lapsed: .lapsed
    case .loadingSnapshot(let keys): .loadingSnapshot(keys: keys)
    case .lapseWarning(let time): .lapseWarning(within: time)
    }
  }
}
