// What a replica wants of a session.

package struct SessionMode: OptionSet, Hashable, Sendable {
  package let rawValue: UInt16

  package init(rawValue: UInt16) { self.rawValue = rawValue }

  /// The replica sends its own commits.
  package static let push = SessionMode(rawValue: 1)
  /// The hub feeds the commits of others, for as long as the session lasts.
  package static let pull = SessionMode(rawValue: 2)
  /// The replica asks for row hashes, to find the first key that differs.
  package static let compare = SessionMode(rawValue: 4)
  /// The replica goes on with whatever space this is: where it is not the one of its cursor, it is welcomed to learn that,
  /// and nothing else.
  package static let adopt = SessionMode(rawValue: 8)

  /// Whether the replica sends or gets commits.
  package var isSynchronising: Bool { !isDisjoint(with: [.push, .pull]) }

  package static let known: SessionMode = [.push, .pull, .compare, .adopt]
}
