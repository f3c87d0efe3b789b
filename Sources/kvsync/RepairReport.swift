// How the tool says what was mended by itself.

import KVLog
import KVReplicator

extension Repair {
  /// In a sentence, without its time.
  var sentence: String {
    switch cause {
    case .hubRestored(let lost):
      let ranges = [("this store's", lost.local), ("the hub's", lost.server)].compactMap { whose, range in
        range.map { "\(whose) versions \(Amount.count($0.lowerBound)) to \(Amount.count($0.upperBound))" }
      }
      return "the hub was restored to an older state, and is offered again what it lost of "
        + ranges.joined(separator: " and ")
    case .becameNewIncarnation(let incarnation):
      return "this store was restored or copied: it goes on as incarnation \(incarnation), and offers what is its own"
    case .lapsed:
      return "this store was away for longer than the hub keeps its history: it was loaded anew, what is pending stays"
    }
  }

  /// The cause, under `name`, and what belongs to it.
  func members(_ name: StaticString, to out: inout Output) {
    out.member(name, cause.name)
    switch cause {
    case .hubRestored(let lost):
      out.member("localFrom", lost.local?.lowerBound)
      out.member("localThrough", lost.local?.upperBound)
      out.member("serverFrom", lost.server?.lowerBound)
      out.member("serverThrough", lost.server?.upperBound)
    case .becameNewIncarnation(let incarnation): out.member("incarnation", incarnation.description)
    case .lapsed: break
    }
  }
}

extension Output {
  mutating func array(of repairs: [Repair]) {
    beginArray("repairs")
    for repair in repairs {
      beginElement()
      repair.members("cause", to: &self)
      member("time", Amount.time(milliseconds: repair.time.milliseconds))
      endElement()
    }
    endArray()
  }
}
