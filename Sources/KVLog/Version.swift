// The counter of commits.

/// A local version: the place of a commit in its store's log. The first commit is version 1; 0 is before all of them.
public typealias Version = UInt64

/// A hub's version of a commit, where there may be none.
package enum ServerVersion {
  /// What a hub had given a commit before it was restored, where nobody knows it any more.
  package static var forgotten: Version { .max }

  /// As programs are told of it: 0 where there is none.
  package static func told(_ version: Version) -> Version { version == forgotten ? 0 : version }
}
