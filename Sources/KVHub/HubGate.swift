// The door: asks for the credential of whoever comes, and holds what they want against what it grants.
//
// Invariants:
// - Rights and principal come from the credential alone. What a hello says of itself is held against them.
// - An address that fails too often is not listened to for a while, whatever it shows then: guessing costs time, and the
//   access function is not kept busy.

import KVProtocol
import Synchronization

final class HubGate: Sendable {
  private let access: Hub.Access
  private let failures: Mutex<FailureLimiter>
  private let began = ContinuousClock.now

  init(_ options: Hub.Options) {
    access = options.access
    failures = Mutex(
      FailureLimiter(
        burst: options.failedTries, interval: options.failedTryInterval, capacity: HubLimits.rememberedAddresses))
  }

  /// Decides on somebody who has said hello from a network address.
  func admit(_ hello: Hello, from address: String) async throws(Refusal) -> Hub.Grant {
    guard failures.withLock({ $0.admits(address, now: now) }) else {
      throw Refusal(
        .tooManyTries, "too many credentials that are none have come from your address; try again in a minute")
    }
    do {
      return try await decide(hello.space, hello.token, hello.mode)
    } catch {
      if error.code == .notAuthorized { failures.withLock { $0.failed(address, now: now) } }
      throw error
    }
  }

  /// What the credential grants at this moment, if that is enough for the mode.
  func decide(_ space: String, _ token: [UInt8], _ mode: SessionMode) async throws(Refusal) -> Hub.Grant {
    // The program's function may take its time.
    let decision = await withTaskExecutorPreference(globalConcurrentExecutor) { await access.decide(space, token) }
    switch decision {
    case .refused(let reason):
      throw Refusal(.notAuthorized, reason)
    case .granted(let grant):
      guard grant.principal.map(Hub.Grant.isPrincipal) ?? true else {
        throw Refusal(.notAuthorized, "the hub has no valid name for the holder of this token; have that mended there")
      }
      guard !mode.contains(.push) || grant.right >= .write else {
        throw Refusal(
          .readOnly, "the token may only read space \"\(space)\": only pull, or use a token that may write")
      }
      return grant
    }
  }

  /// A replica belongs to one principal.
  static let otherOwner = Refusal(
    .otherOwner,
    "this replica belongs to another holder of tokens on this hub; use a token of the one who first synchronised it, or "
      + "make a new replica")

  private var now: Duration { ContinuousClock.now - began }
}
