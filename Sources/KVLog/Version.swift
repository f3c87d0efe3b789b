// The counter of commits.

/// A local version: the place of a commit in its store's log. The first commit is version 1; 0 is before all of them.
public typealias Version = UInt64
