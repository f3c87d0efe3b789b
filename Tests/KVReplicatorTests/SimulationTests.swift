import TestSupport
import Testing

@Suite struct SimulationTests {
  @Test(
    "Whatever is written, cut, delayed and lost: left in peace, all replicas and the hub are equal and nothing is pending"
  )
  func convergence() throws {
    var passedOver = 0
    for seed in SeededGenerator.seeds(2_000, from: 1) {
      var simulation = Simulation(seed: seed, replicas: 1 + Int(seed % 4))
      do { try simulation.run(steps: 50 + Int(seed % 7) * 60) } catch {
        Issue.record("seed \(seed): \(error)")
        return
      }
      passedOver += simulation.passedOver
    }
    #expect(passedOver > 0, "no commit was ever overwritten before it was shipped")
  }
}
