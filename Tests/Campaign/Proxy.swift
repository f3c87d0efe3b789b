// What stands between a replica and the hub, and fails as networks do: it holds bytes up or swallows them, in one direction or
// both, cuts links, and lets nobody in.
//
// Invariants
// - What was held arrives later, in its order. A link of which something was swallowed is never heard of again: it is cut when
//   the network is whole again.
// - A descriptor is closed when both directions of its link are through with it.

import Foundation
import Synchronization

final class Proxy: Sendable {
  /// What becomes of bytes that go in one direction.
  enum Flow: Sendable {
    case open, held, swallowed
  }

  struct Weather: Sendable {
    var toHub = Flow.open
    var toReplica = Flow.open
    /// New links are closed at once.
    var refuses = false
  }

  struct CannotListen: Error {
    var number: Int32
  }

  private final class Link: Sendable {
    let replica: Int32
    let hub: Int32
    let isSpoiled = Atomic(false)
    let isCut = Atomic(false)

    init(replica: Int32, hub: Int32) { (self.replica, self.hub) = (replica, hub) }

    deinit {
      close(replica)
      close(hub)
    }

    func cut() {
      isCut.store(true, ordering: .relaxed)
      shutdown(replica, Int32(SHUT_RDWR))
      shutdown(hub, Int32(SHUT_RDWR))
    }
  }

  private struct State {
    var weather = Weather()
    var target: UInt16 = 0
    var links: [Link] = []
  }

  private let listener: Int32
  let port: UInt16
  private let state = Mutex(State())

  init() throws {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    self.listener = listener
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = unsafe Self.with(&address) { pointer in unsafe bind(listener, pointer, length) }
    guard bound == 0, listen(listener, 64) == 0 else { throw CannotListen(number: errno) }
    _ = unsafe Self.with(&address) { pointer in unsafe getsockname(listener, pointer, &length) }
    port = UInt16(bigEndian: address.sin_port)
    Thread.detachNewThread { [weak self] in
      while true {
        let replica = accept(listener, nil, nil)
        guard replica >= 0 else { return }
        _ = fcntl(replica, F_SETFD, FD_CLOEXEC)
        guard let self else {
          close(replica)
          return
        }
        admit(replica)
      }
    }
  }

  /// Calls `body` with `address` on this machine.
  private static func with(_ address: inout sockaddr_in, _ body: (UnsafeMutablePointer<sockaddr>) -> Int32) -> Int32 {
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body($0) }
    }
  }

  /// Leads links made from now on there.
  func lead(to port: UInt16) { state.withLock { $0.target = port } }

  var weather: Weather {
    get { state.withLock { $0.weather } }
    set { state.withLock { $0.weather = newValue } }
  }

  /// Cuts all links; with `spoiled`, those of which something was swallowed.
  func cut(spoiled: Bool = false) {
    for link in state.withLock({ $0.links }) where !spoiled || link.isSpoiled.load(ordering: .relaxed) { link.cut() }
  }

  func end() {
    cut()
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
  }

  private func admit(_ replica: Int32) {
    let (weather, target) = state.withLock { ($0.weather, $0.target) }
    let hub = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    let link = Link(replica: replica, hub: hub)
    var address = sockaddr_in()
    address.sin_port = target.bigEndian
    let length = socklen_t(MemoryLayout<sockaddr_in>.size)
    guard !weather.refuses, unsafe Self.with(&address, { unsafe connect(hub, $0, length) }) == 0 else { return }
    state.withLock { state in
      state.links.removeAll { $0.isCut.load(ordering: .relaxed) }
      state.links.append(link)
    }
    Thread.detachNewThread { [self] in pump(link, from: replica, to: hub, \.toHub) }
    Thread.detachNewThread { [self] in pump(link, from: hub, to: replica, \.toReplica) }
  }

  private func pump(_ link: Link, from source: Int32, to target: Int32, _ flow: KeyPath<Weather, Flow>) {
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    reading: while true {
      let count = unsafe buffer.withUnsafeMutableBytes { unsafe recv(source, $0.baseAddress, $0.count, 0) }
      guard count > 0 else { break }
      while true {
        switch weather[keyPath: flow] {
        case .held where !link.isCut.load(ordering: .relaxed): usleep(2_000)
        case .swallowed:
          link.isSpoiled.store(true, ordering: .relaxed)
          continue reading
        default:
          guard !link.isSpoiled.load(ordering: .relaxed), Self.send(buffer[..<count], to: target) else { break reading }
          continue reading
        }
      }
    }
    link.cut()
  }

  private static func send(_ bytes: ArraySlice<UInt8>, to target: Int32) -> Bool {
    unsafe bytes.withUnsafeBytes { all in
      var sent = 0
      while sent < all.count {
        let count = unsafe Foundation.send(
          target, all.baseAddress?.advanced(by: sent), all.count - sent, Int32(MSG_NOSIGNAL))
        guard count > 0 else { return false }
        sent += count
      }
      return true
    }
  }
}
