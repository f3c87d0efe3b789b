// Who may do what on a hub, as programs say it.

extension Hub {
  /// What the holder of a credential may do with a space; each includes those before it.
  public enum Right: String, Sendable, Hashable, Comparable, CaseIterable, Codable {
    /// Pull, and compare.
    case read
    /// Push as well.
    case write
    /// Make spaces that are not there as well.
    case admin

    /// `read` before `write` before `admin`.
    public static func < (left: Right, right: Right) -> Bool { left.rank < right.rank }

    private var rank: Int { Right.allCases.firstIndex(of: self) ?? 0 }
  }

  /// What a credential stands for.
  public struct Grant: Sendable, Hashable {
    /// Whose credential it is. A replica belongs to the principal that first synchronised it with the space, for good: no
    /// other one may claim to be that replica. 1 to 128 bytes without control characters; `nil`: nobody in particular,
    /// and replicas belong to nobody.
    public var principal: String?
    /// What its holder may do with the space.
    public var right: Right
    /// Whether its holder may make the space if it is not there.
    public var mayCreateSpace: Bool

    /// A grant to a principal; only `admin` makes spaces, unless said otherwise.
    public init(principal: String?, right: Right, mayCreateSpace: Bool? = nil) {
      self.principal = principal
      self.right = right
      self.mayCreateSpace = mayCreateSpace ?? (right == .admin)
    }

    /// The rule for ``principal``.
    package static func isPrincipal(_ name: String) -> Bool {
      (1...128).contains(name.utf8.count) && name.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
    }
  }

  /// The answer to a credential.
  public enum Decision: Sendable, Hashable {
    /// Its holder may come in, and stay.
    case granted(Grant)
    /// Why not, and what to do: a text for the replica, at most 1 KiB.
    case refused(String)
  }

  /// Who may come in.
  public struct Access: Sendable {
    package let decide: @Sendable (_ space: String, _ token: [UInt8]) async -> Decision
    /// Whether somebody without a token is admitted at present.
    package let admitsStrangers: @Sendable () -> Bool

    package init(
      admitsStrangers: @escaping @Sendable () -> Bool,
      decide: @escaping @Sendable (_ space: String, _ token: [UInt8]) async -> Decision
    ) {
      self.admitsStrangers = admitsStrangers
      self.decide = decide
    }

    /// Everybody who can connect, with all rights: for the loopback interface.
    public static let everybody = Access(admitsStrangers: { true }) { _, _ in
      .granted(Grant(principal: nil, right: .admin))
    }

    /// Those whom the function grants it. `token` has at most 4,096 bytes, and is empty if none was sent.
    ///
    /// It is asked for each connection, for many at the same time, and again every ``Hub/Options/accessInterval`` for as
    /// long as the session lasts: a grant that is no longer given, or no longer goes as far as the session does, ends it.
    public static func deciding(
      _ decide: @escaping @Sendable (_ space: String, _ token: [UInt8]) async -> Decision
    ) -> Access {
      Access(admitsStrangers: { false }, decide: decide)
    }
  }
}
