// What is measured, and how it is written.

import BenchmarkSupport

enum Unit {
  case perSecond
  case seconds
  case bytes
  case count

  func text(_ value: Double) -> String {
    switch self {
    case .perSecond: "\(value.grouped)/s"
    case .seconds: value.duration
    case .bytes: value.amount
    case .count: value.grouped
    }
  }
}

enum Quantity: String, Codable, CodingKeyRepresentable, CaseIterable, Sendable {
  /// Changes or keys, from the first byte to the last acknowledgement or the last durable row.
  case rate
  /// The longest time in which nothing more was acknowledged or applied.
  case longestStall
  /// Rates on the way: to a tenth, from there to a half, from there to the end.
  case rateToTenth, rateToHalf, rateToEnd
  /// From a put on one replica until another shows it.
  case latencyP50, latencyP99
  /// Three times fdatasync's, and a millisecond.
  case latencyGoal
  /// Of a block over a file that is there.
  case syncP50, syncP99
  /// From a put on one replica until the last of all shows it: in the middle of the puts, and at worst.
  case reachP50, reachWorst
  /// What a window of bytes allows in each round trip, and no more than the same link without delay.
  case allowedRate
  case cuts
  case resentBytes, windowBytes
  /// Peaks of anonymous resident memory.
  case replicaMemory, hubMemory

  var unit: Unit {
    switch self {
    case .rate, .rateToTenth, .rateToHalf, .rateToEnd, .allowedRate: .perSecond
    case .longestStall, .latencyP50, .latencyP99, .latencyGoal, .syncP50, .syncP99, .reachP50, .reachWorst: .seconds
    case .resentBytes, .windowBytes, .replicaMemory, .hubMemory: .bytes
    case .cuts: .count
    }
  }

  /// Written before the figure; nothing before the one that a row is about.
  var label: String {
    switch self {
    case .rate: ""
    case .longestStall: "longest stall"
    case .rateToTenth: "to 10 %:"
    case .rateToHalf: "10 to 50 %:"
    case .rateToEnd: "50 to 100 %:"
    case .latencyP50, .syncP50, .reachP50: "p50"
    case .latencyP99, .syncP99: "p99"
    case .latencyGoal: "3 fdatasync + 1 ms:"
    case .reachWorst: "worst"
    case .allowedRate: "the window allows"
    case .cuts: "cuts:"
    case .resentBytes: ""
    case .windowBytes: "window"
    case .replicaMemory: "replica"
    case .hubMemory: "hub"
    }
  }

  func text(_ value: Double) -> String {
    (label.isEmpty ? "" : label + " ") + unit.text(value)
  }
}

/// What one run of one contender gave for one part of a row.
struct Measurement: Codable, Sendable {
  var values: [Quantity: Double] = [:]
  /// What a reader of the figures has to know.
  var note: String?

  subscript(_ quantity: Quantity) -> Double? {
    get { values[quantity] }
    set { values[quantity] = newValue }
  }
}
