// Half of a backlog is on the hub when something breaks: how much is sent again?

import BenchmarkSupport
import Foundation
import Synchronization

struct Resume: Scenario {
  enum Break: CaseIterable {
    case link
    case replica
    case hub
  }

  var backlog: Backlog

  var diskBytes: Int { backlog.diskBytes }
  var limitMeaning: String? { nil }

  /// A part for each kind of break. What a drain without a break sends is measured too, in the same run.
  func run(_ contender: Contender, _ place: Place) throws -> [Measurement] {
    let whole = try sentBytes(place, nil)
    return try Break.allCases.map { kind in
      var measurement = Measurement()
      measurement[.resentBytes] = Double(max(0, try sentBytes(place, (kind, at: whole / 2)) - whole))
      // The last segment may overdraw the window.
      measurement[.windowBytes] = Double(HubProcess.windowBytes + ReplicaProcess.segmentBytes)
      return measurement
    }
  }

  /// Bytes that the replica sends until all is acknowledged, when this breaks after so many of them.
  private func sentBytes(_ place: Place, _ broken: (Break, at: Int)?) throws -> Int {
    for path in [place.replica(), place.hub] { try? FileManager.default.removeItem(atPath: path) }
    try Child.fill(place.replica(), with: backlog, seed: place.seed)
    sync()
    var hub = try RunningHub(place.hub)
    defer { hub.child.end() }
    let isLink = broken.map { $0.0 == .link } ?? false
    let link = try LinkProxy(to: hub.port, cuts: isLink ? [broken?.at ?? 0] : [])
    defer { link.close() }
    var replica = try Child.replica(place.replica(), hub: link.url, ["--persistent"])
    defer { replica.end() }
    if let (kind, at) = broken, kind != .link {
      let isHub = kind == .hub
      link.wait(forBytes: at, whileRunning: replica)
      (isHub ? hub.child : replica).kill()
      if isHub {
        hub = try RunningHub(place.hub)
        link.connect(to: hub.port)
      } else {
        replica = try Child.replica(place.replica(), hub: link.url, ["--persistent"])
      }
    }
    let run = try replica.answer(ReplicaRun.self)
    guard run.pending == 0 else { throw BenchmarkError("\(run.pending) changes are pending") }
    replica.release()
    return link.sentBytes
  }
}
