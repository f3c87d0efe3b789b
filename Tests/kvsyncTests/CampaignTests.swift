// A few runs of `tools/campaign`, which has as many as are asked for.

import Foundation
import TestSupport
import Testing

@Suite("Campaign", .timeLimit(.minutes(120)))
struct CampaignTests {
  @Test("Cut off, frozen, killed and started again at random, replicas and a hub come to the same, and lose nothing")
  func runs() async throws {
    let runs = ProcessInfo.processInfo.environment["KVSYNC_RUNS"] ?? "4"
    let place = try Workplace()
    let campaign = URL(fileURLWithPath: Workplace.tool).deletingLastPathComponent().appendingPathComponent("Campaign")
    let outcome = try await place.run(
      campaign.path, ["--runs", runs, "--parallel", "4", "--seconds", "1"], input: [])
    print(outcome.text)
    #expect(outcome.status == 0, "\(outcome.text.suffix(8_000))")
  }
}
