// The few words that a connection's event loop and its user share.
//
// Invariants:
// - `isWelcomed` goes from false to true once; the user sets it before the other side may know.
// - Bytes count as a sign of life when they arrive, finished message or not: on a slow link a large message takes
//   longer than any idle limit.

import NIOCore
import Synchronization

final class LinkState: Sendable {
  private let welcomed: Atomic<Bool>
  private let lastReceived: Atomic<UInt64>
  private let receivedBytes = Atomic<Int>(0)
  private let frameBytes: Atomic<Int>
  /// When the frame under way began, or the part of it before; 0: none is under way.
  private let frameBegan = Atomic<UInt64>(0)
  private let held = Atomic(false)

  init(isWelcomed: Bool, frameBytes: Int) {
    welcomed = Atomic(isWelcomed)
    lastReceived = Atomic(NIODeadline.now().uptimeNanoseconds)
    self.frameBytes = Atomic(frameBytes)
  }

  /// Frames of session size and of every kind are taken.
  var isWelcomed: Bool {
    get { welcomed.load(ordering: .acquiring) }
    set { welcomed.store(newValue, ordering: .releasing) }
  }

  /// The largest payload that the other side takes.
  var outboundFrameBytes: Int {
    get { frameBytes.load(ordering: .relaxed) }
    set { frameBytes.store(newValue, ordering: .relaxed) }
  }

  func received(_ bytes: Int) {
    lastReceived.store(NIODeadline.now().uptimeNanoseconds, ordering: .relaxed)
    receivedBytes.wrappingAdd(bytes, ordering: .relaxed)
  }

  /// Bytes have been looked at: whether a part of a frame was completed, and whether another one is under way.
  func read(hasCompleted: Bool, isUnderWay: Bool) {
    if !isUnderWay {
      frameBegan.store(0, ordering: .relaxed)
    } else if hasCompleted || frameBegan.load(ordering: .relaxed) == 0 {
      frameBegan.store(NIODeadline.now().uptimeNanoseconds, ordering: .relaxed)
    }
  }

  /// Nothing is read because the reader is behind: that the frame under way stands still is not the other side's fault.
  var isHeld: Bool {
    get { held.load(ordering: .relaxed) }
    set {
      held.store(newValue, ordering: .relaxed)
      if !newValue { read(hasCompleted: true, isUnderWay: frameBegan.load(ordering: .relaxed) != 0) }
    }
  }

  /// For how long a frame, or the next part of a message, has been under way.
  var unfinishedTime: Duration {
    let began = frameBegan.load(ordering: .relaxed)
    let now = NIODeadline.now().uptimeNanoseconds
    return began == 0 || isHeld || now < began ? .zero : .nanoseconds(Int64(now - began))
  }

  /// Time since anything was heard of the other side.
  var silence: Duration {
    let now = NIODeadline.now().uptimeNanoseconds
    let last = lastReceived.load(ordering: .relaxed)
    return .nanoseconds(now > last ? Int64(now - last) : 0)
  }

  var totalReceivedBytes: Int { receivedBytes.load(ordering: .relaxed) }
}
