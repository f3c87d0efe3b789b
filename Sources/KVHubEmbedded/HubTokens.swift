// The tokens of a hub's directory: created, listed and revoked by any process, asked for by the one that serves.
//
// Invariants:
// - What is kept cannot be turned back into a token: it is SHA-256 of 256 random bits.
// - The file is replaced as a whole, by one process at a time. Whoever asks sees it as it is: its stamp is looked at each
//   time.
// - Where it fails, it fails closed: a list that cannot be read, or that was there and is gone, admits nobody.

import Foundation
import KVProtocol
import KVStore
import Synchronization

public import KVHub

/// The tokens that a hub's directory knows.
///
/// ```swift
/// let tokens = try HubTokens(directory: "/var/lib/kvsync")
/// let (text, _) = try tokens.create(for: "alice", spaces: ["notes"], right: .write, lifetime: .seconds(90 * 86_400))
/// options.access = .tokens(tokens)
/// ```
///
/// As long as none was created, everybody is admitted, and a hub listens on the loopback interface only. Any number of
/// processes may use the list at the same time, also while another one serves the hub; what one changes the others see at
/// once.
public final class HubTokens: Sendable {
  /// More would make the list slow to write. What has expired or was revoked makes room.
  public static let maximumCount = 4_096
  /// Spaces that a token may name.
  public static let maximumSpaces = 256

  private enum List {
    /// None was ever created.
    case none
    case tokens([String: HubToken])
    case damaged(String)
  }

  private struct Cache {
    /// nil: nobody has asked yet.
    var list: List?
    var stamp: Stamp?
  }

  private struct Stamp: Equatable {
    var modified: Date?
    var bytes: Int?
    var number: Int?
  }

  private let directory: HubDirectory
  private let now: @Sendable () -> UInt64
  private let cache = Mutex(Cache())

  /// The tokens of a hub's directory, which is made if it does not exist. Throws `StoreError`: `foreign`, `inUse` (the
  /// directory is being made), `newerFormat`, `corrupt`, `notAllowed`, `full`, `noStore` (the directory above is missing),
  /// `system`.
  public convenience init(directory path: String) throws {
    try self.init(directory: path, now: { UInt64(max(0, Date().timeIntervalSince1970 * 1_000)) })
  }

  init(directory path: String, now: @escaping @Sendable () -> UInt64) throws {
    directory = HubDirectory(path: path)
    self.now = now
    try directory.makeIfMissing()
  }

  /// Creates a token and gives its text, which is nowhere else: it cannot be asked for again. Durable when it returns.
  ///
  /// `principal` is 1 to 128 bytes without control characters; `spaces` are at most 256 valid names, `nil` for all.
  ///
  /// Throws ``KVHub/HubError`` with `invalidToken` where these rules are broken or there are ``maximumCount`` active tokens;
  /// `StoreError`: `corrupt` (the list is damaged), `inUse` (another process is changing it), `notAllowed`, `full`, `system`.
  public func create(
    for principal: String, spaces: [String]? = nil, right: Hub.Right = .write, lifetime: Duration? = nil
  ) throws -> (text: String, token: HubToken) {
    guard Hub.Grant.isPrincipal(principal) else {
      throw HubError(.invalidToken, "the holder's name has 1 to 128 bytes and no control characters; choose another")
    }
    if let spaces {
      guard (1...Self.maximumSpaces).contains(spaces.count), spaces.allSatisfy(SpaceName.isValid) else {
        throw HubError(.invalidToken, "a token names 1 to 256 spaces, and \(SpaceName.rule)")
      }
    }
    return try change { tokens in
      let now = now()
      if tokens.count >= Self.maximumCount { tokens = tokens.filter { $0.value.state(at: now) == .active } }
      guard tokens.count < Self.maximumCount else {
        throw HubError(.invalidToken, "the hub has \(Self.maximumCount) tokens, which is all it may have; revoke some")
      }
      var text = TokenText.random()
      while tokens[text.id] != nil { text = .random() }
      let milliseconds = lifetime.map { UInt64(max(0, $0 / .milliseconds(1)).rounded()) }
      let token = HubToken(
        id: text.id, principal: principal, spaces: spaces, right: right, created: now,
        expires: milliseconds.map { now + $0 }, revoked: nil, hash: SHA256.hash(Array(text.text.utf8)))
      tokens[token.id] = token
      return (text.text, token)
    }
  }

  /// All tokens, in the order of their creation; also those that were revoked or have expired. Throws `StoreError`:
  /// `corrupt`.
  public func list() throws -> [HubToken] {
    try tokens().values.sorted { ($0.created, $0.id) < ($1.created, $1.id) }
  }

  /// Ends a token, and with it the sessions that it opened, within a second or two. Gives the token, or `nil` when there
  /// is none with this id. Revoking it again changes nothing. Throws as ``create(for:spaces:right:lifetime:)`` does.
  public func revoke(_ id: String) throws -> HubToken? {
    guard try tokens()[id] != nil else { return nil }
    return try change { tokens in
      let revoked = tokens[id]?.revoked ?? now()
      tokens[id]?.revoked = revoked
      return tokens[id]
    }
  }

  /// Whether a token was ever created.
  public var isEmpty: Bool {
    if case .none = current() { true } else { false }
  }

  // MARK: Asking

  func decide(_ space: String, _ text: [UInt8]) -> Hub.Decision {
    switch current() {
    case .none:
      return .granted(Hub.Grant(principal: nil, right: .admin))
    case .damaged(let reason):
      return .refused("the hub cannot read its list of tokens (\(reason)); have it mended there")
    case .tokens(let tokens):
      guard !text.isEmpty else {
        return .refused("the hub admits nobody without a token; get one there with kvsync token create")
      }
      guard let token = TokenText.id(in: text).flatMap({ tokens[$0] }), token.matches(text) else {
        return .refused("the hub does not know this token; check that it is whole, and the hub's own")
      }
      guard token.opens(space) else {
        return .refused("the token \(token.id) is not for space \"\(space)\"; get another one there")
      }
      switch token.state(at: now()) {
      case .revoked: return .refused("the token \(token.id) was revoked; get another one there")
      case .expired: return .refused("the token \(token.id) has expired; get another one there")
      case .active:
        let names = token.right == .write && token.spaces != nil
        return .granted(
          Hub.Grant(principal: token.principal, right: token.right, mayCreateSpace: names || token.right == .admin))
      }
    }
  }

  /// Throws unless the holder has a token that may write to the space, or nobody has any token.
  func checkWriter(_ holder: String?, of space: String) throws {
    guard !isEmpty else { return }
    guard let holder else {
      throw StoreError(
        .notAllowed, "the hub admits holders of tokens only. Say whose replica wrote the file.", path: directory.path)
    }
    let mayWrite = try list().contains { token in
      token.principal == holder && token.right >= .write && token.opens(space) && token.state(at: now()) == .active
    }
    guard mayWrite else {
      throw StoreError(
        .notAllowed,
        "\(holder) has no token that may write to space \"\(space)\". Create one, or name the right holder.",
        path: directory.path)
    }
  }

  // MARK: The file

  private func tokens() throws -> [String: HubToken] {
    switch current() {
    case .none: return [:]
    case .tokens(let tokens): return tokens
    case .damaged(let reason):
      throw StoreError(
        .corrupt,
        "the list of tokens is of no use: \(reason). Restore it; or, with no hub running, remove it and \(markPath) to begin "
          + "without tokens.",
        path: directory.tokens)
    }
  }

  private func current() -> List {
    let attributes = try? FileManager.default.attributesOfItem(atPath: directory.tokens)
    let stamp = attributes.map { attributes in
      Stamp(
        modified: attributes[.modificationDate] as? Date, bytes: (attributes[.size] as? NSNumber)?.intValue,
        number: (attributes[.systemFileNumber] as? NSNumber)?.intValue)
    }
    return cache.withLock { cache in
      if let list = cache.list, stamp == cache.stamp { return list }
      let wasThere = cache.stamp != nil || FileManager.default.fileExists(atPath: markPath)
      let list = stamp != nil ? read() : wasThere ? .damaged("it is gone") : List.none
      cache = Cache(list: list, stamp: stamp)
      return list
    }
  }

  private func read() -> List {
    guard let data = FileManager.default.contents(atPath: directory.tokens) else {
      return .damaged("it cannot be read")
    }
    guard let tokens = try? JSONDecoder().decode([HubToken].self, from: data),
      tokens.allSatisfy({ $0.hash.count == SHA256.byteCount })
    else { return .damaged("it is damaged") }
    return .tokens(Dictionary(tokens.map { ($0.id, $0) }) { first, _ in first })
  }

  private func change<Result>(_ body: (inout [String: HubToken]) throws -> Result) throws -> Result {
    let lock = try lock()
    defer { lock.release() }
    var tokens = try tokens()
    let result = try body(&tokens)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let data = try encoder.encode(tokens.values.sorted { ($0.created, $0.id) < ($1.created, $1.id) })
    try directory.replace(directory.tokens, with: data, mode: 0o600)
    if !FileManager.default.fileExists(atPath: markPath) { try directory.replace(markPath, with: Data(), mode: 0o600) }
    return result
  }

  /// Says that there has been a list: without one that is a list that is gone.
  private var markPath: String { "\(directory.tokens).required" }

  /// Another process holds it for milliseconds.
  private func lock() throws -> StoreLock {
    let deadline = ContinuousClock.now + .seconds(5)
    while true {
      do throws(StoreError) {
        return try StoreLock("\(directory.tokens).lock", store: directory.path)
      } catch {
        guard error.code == .inUse, ContinuousClock.now < deadline else { throw error }
        usleep(5_000)
      }
    }
  }
}

extension Hub.Access {
  /// Those who have a token; everybody as long as none was created.
  public static func tokens(_ tokens: HubTokens) -> Self {
    Self(admitsStrangers: { tokens.isEmpty }) { tokens.decide($0, $1) }
  }
}
