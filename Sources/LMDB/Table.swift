// A table (a named tree of keys and values) of one environment, as a handle that is free to copy.

package struct Table: Sendable, Hashable {
  /// LMDB's handle; an index into arrays of the environment, so it means nothing in another one.
  package let handle: UInt32
  /// The serial number of the environment it was opened in. A handle used in another environment would read or
  /// write some other table without a word; comparing two numbers per call is cheap beside a tree search.
  package let environment: UInt32

  init(handle: UInt32, environment: UInt32) {
    self.handle = handle
    self.environment = environment
  }
}
