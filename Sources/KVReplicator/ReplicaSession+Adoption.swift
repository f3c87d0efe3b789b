// A space that the store was not bound to: refused, or adopted when the program says so.
//
// - A store that was ever bound is refused elsewhere, whether anything is pending or not: what it holds belongs to the space
//   it came from, and two spaces that are mixed up are not told apart again.
// - A session that adopts ends with that, and the next one is of a replica of the new space that has pulled nothing yet. If
//   it is cut, any later session with the new space goes on, whatever it is told.

import KVLog
import KVProtocol
import KVStore

extension ReplicaSession {
  /// Whether the hub's space is not the one that the store is bound to.
  func isForeign(_ welcome: Welcome) -> Bool { state.hubSpace != .zero && state.hubSpace != welcome.space }

  mutating func adopt(_ welcome: Welcome) {
    guard !isForeign(welcome) || configuration.adopts else {
      return violation("it welcomes the replica to another space than it has asked for")
    }
    phase = .adopting
    actions.append(.adopt(space: welcome.space, head: welcome.head))
  }

  mutating func adopted(_ state: ReplicaState, _ rows: Int) {
    self.state = state
    report.adoptedRows += rows
    actions.append(.notify(.adoptedSpace(SpaceAdoption(space: state.hubSpace, rows: rows))))
    actions.append(.send(.goodbye))
    phase = .ended
    actions.append(.beginAgain)
  }

  /// What a refusal means to the program.
  func error(_ refusal: Refusal) -> ReplicatorError {
    let error = ReplicatorError(refusal)
    guard error.code == .differentHub else { return error }
    let changes = state.pendingChanges
    let pending = changes == 0 ? "" : changes == 1 ? "; 1 change stays pending" : "; \(changes) changes stay pending"
    return ReplicatorError(.differentHub, "\(error.message). Nothing was sent and nothing was changed here\(pending)")
  }
}
