// How a store is opened for each durability. Alone in its file, because the library's relaxed durability is younger than
// the rest.

import BenchmarkSupport
import KVStore

extension Store.Options {
  init(_ durability: Durability) throws {
    self.init()
    switch durability {
    case .durable, .preparing: break
    case .relaxed:
      #if KVSYNC_RELAXED
        self.durability = .relaxed
      #else
        throw BenchmarkError("this version of the store has no relaxed durability")
      #endif
    }
  }
}
