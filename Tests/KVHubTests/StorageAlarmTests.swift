// Which failures of the storage are told.

import KVHub
import Testing

/// An alarm that can be asked inside an expectation.
private final class Watch {
  private var alarm = StorageAlarm()

  func failed(_ error: HubStorageError, in space: String, bytes: Int, now: Duration) -> Bool {
    alarm.failed(error, in: space, bytes: bytes, now: now)
  }

  func stored(in space: String, bytes: Int) -> Bool { alarm.stored(in: space, bytes: bytes) }
}

@Suite struct StorageAlarmTests {
  private let full = HubStorageError.full("x")

  @Test func `a full disk is told once, not once a push, whatever spaces run into it`() {
    let alarm = Watch()
    #expect(alarm.failed(full, in: "a", bytes: 1000, now: .seconds(0)))
    for second in 1..<1000 {
      #expect(!alarm.failed(full, in: second % 2 == 0 ? "a" : "b", bytes: 1000, now: .seconds(second)))
    }
  }

  @Test func `small pushes that still fit are no sign of room; as large a one is, and the next time is news again`() {
    let alarm = Watch()
    #expect(!alarm.stored(in: "a", bytes: 5000))
    #expect(alarm.failed(full, in: "a", bytes: 1000, now: .seconds(0)))
    #expect(!alarm.stored(in: "a", bytes: 999))
    // The failure begins anew.
    #expect(!alarm.failed(full, in: "a", bytes: 800, now: .seconds(1)))
    #expect(alarm.stored(in: "b", bytes: 800))
    #expect(!alarm.stored(in: "a", bytes: 5000))
    #expect(alarm.failed(full, in: "a", bytes: 1000, now: .seconds(2)))
  }

  @Test func `where it failed, as much bit by bit is a sign too; and what is more than a step of the log`() {
    let alarm = Watch()
    #expect(alarm.failed(full, in: "a", bytes: 1000, now: .seconds(0)))
    for _ in 0..<20 { #expect(!alarm.stored(in: "b", bytes: 900)) }
    #expect(!alarm.stored(in: "a", bytes: 400))
    #expect(!alarm.failed(full, in: "a", bytes: 1000, now: .seconds(1)))
    #expect(!alarm.stored(in: "a", bytes: 600))
    #expect(alarm.stored(in: "a", bytes: 400))
    #expect(alarm.failed(full, in: "a", bytes: .max, now: .seconds(2)))
    #expect(!alarm.stored(in: "a", bytes: StorageAlarm.sufficient - 1))
    #expect(alarm.stored(in: "a", bytes: 1))
    // What one push met, others do not make good.
    #expect(alarm.failed(.failed("x"), in: "a", bytes: 1000, now: .seconds(3)))
    for _ in 0..<20 { #expect(!alarm.stored(in: "a", bytes: 900)) }
    #expect(alarm.stored(in: "a", bytes: 1000))
  }

  @Test func `a trouble that nobody has run into for long is a new one`() {
    let alarm = Watch()
    #expect(alarm.failed(full, in: "a", bytes: 1000, now: .seconds(0)))
    #expect(!alarm.failed(full, in: "a", bytes: 1000, now: StorageAlarm.memory - .seconds(1)))
    #expect(alarm.failed(full, in: "a", bytes: 1000, now: StorageAlarm.memory * 2))
  }

  @Test func `damage belongs to a space; what a replica did wrong is no trouble of the storage`() {
    let alarm = Watch()
    #expect(alarm.failed(.corrupt("x"), in: "a", bytes: .max, now: .zero))
    #expect(alarm.failed(.failed("x"), in: "b", bytes: .max, now: .zero))
    #expect(!alarm.failed(.corrupt("x"), in: "a", bytes: .max, now: .zero))
    #expect(!alarm.stored(in: "c", bytes: 100))
    for error in [HubStorageError.gap(expected: 1), .malformed("x"), .closed, .unknownSpace] {
      #expect(!alarm.failed(error, in: "c", bytes: 10, now: .zero))
    }
  }
}
