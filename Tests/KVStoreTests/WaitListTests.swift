import KVLog
import TestSupport
import Testing

@testable import KVStore

@Suite struct WaitListTests {
  @Test("Whoever waits is taken once, when the version is reached or by name, in any order of coming and going")
  func model() {
    var random = SeededGenerator()
    var list = WaitList<UInt64>()
    var model: [UInt64: Version] = [:]
    var reached: Version = 0
    for number: UInt64 in 1...3_000 {
      switch random.below(10) {
      case 0..<6:
        let version = reached + 1 + Version(random.below(40))
        list.add(number, for: version, number: number)
        model[number] = version
      case 6..<8:
        guard let (name, version) = model.randomElement(using: &random) else { continue }
        #expect(list.remove(name, for: version) == name)
        #expect(list.remove(name, for: version) == nil)
        model[name] = nil
      default:
        reached += Version(random.below(5))
        let due = model.filter { $0.value <= reached }
        #expect(Set(list.take(through: reached)) == Set(due.keys))
        for name in due.keys { model[name] = nil }
      }
      #expect(list.isEmpty == model.isEmpty)
    }
    #expect(list.take(through: .max).count == model.count)
  }
}
