// --history, for the commands that ship.

import ArgumentParser
import KVStore

enum History: String, CaseIterable, ExpressibleByArgument {
  case latest, every

  var shipped: ShippedHistory { self == .latest ? .latest : .every }
}
