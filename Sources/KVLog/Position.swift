// What names a place in a history so that another party can tell whether it has the same one.

/// A version of a log together with what was committed through it.
package struct Position: Hashable, Sendable {
  package var identity: Identity
  package var version: Version
  package var digest: Digest

  package init(identity: Identity, version: Version, digest: Digest) {
    self.identity = identity
    self.version = version
    self.digest = digest
  }

  /// Before the first commit of the log of `identity`.
  package static func start(of identity: Identity) -> Position {
    Position(identity: identity, version: 0, digest: .origin(of: identity))
  }
}
