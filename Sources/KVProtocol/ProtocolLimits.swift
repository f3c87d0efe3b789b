// Every number of the protocol in one place, each with its reason.

import KVLog

package enum ProtocolLimits {
  /// The first bytes of a hello: what is not kvsync is told apart before anything else is read.
  package static let magic: [UInt8] = [0x4B, 0x56, 0x53, 0x59]  // "KVSY"
  /// The protocols this build speaks.
  package static let versions: ClosedRange<UInt16> = 1...1

  // MARK: Frames

  /// The payload of a frame. Bounds what a receiver buffers before it can check anything.
  package static let maximumFrameBytes = 1 << 20
  /// The payload of a frame from somebody who has not been welcomed: a hello with a token and some scopes.
  package static let maximumHandshakeBytes = 16 << 10
  /// The smallest frame limit a party may announce: every message but segments and rows fits in it.
  package static let minimumFrameBytes = 16 << 10
  /// A message after assembly: the largest commit, its record header and envelope, and the fields around it.
  package static let maximumMessageBytes = LogLimits.maximumCommitBytes + (64 << 10)

  // MARK: Segments and credit

  /// Segments are cut at the first commit border at or past this: some 1,000 changes of 100 bytes, which makes the
  /// cost of a message invisible, and a slow link still shows progress several times a second. Twice as much drains no
  /// faster, and memory comes in twice as large lumps.
  package static let segmentBytes = 128 << 10
  /// No segment is cut later: with more, credit and memory come in lumps, and nothing gets faster.
  package static let maximumSegmentBytes = 1 << 20
  /// What one session may hold on one side: read ahead, in flight, being applied.
  package static let memoryBudgetBytes = 8 << 20
  /// The credit a receiver starts with: half the budget, so that sending has the other half. At 128 KiB a segment
  /// that is thirty-two in flight, which fills 100 Mbit/s at 300 ms.
  package static let windowBytes = memoryBudgetBytes / 2
  /// No party may grant or hold more: keeps the sum of grants far from overflow.
  package static let maximumCredit = 1 << 30
  /// Waiting pushes are admitted together up to this: one durable step for many small commits, and still a short one.
  package static let admissionBytes = 1 << 20
  /// Exceptions a replica may leave unconfirmed, as bytes of a welcome. Far above what fits in a window; a replica
  /// beyond it does not record its acknowledgements.
  package static let maximumUnconfirmedBytes = 16 << 20

  // MARK: Comparing rows

  /// A page of row hashes.
  package static let rowsPageBytes = 256 << 10
  /// The smallest page worth a round trip; also holds any one row.
  package static let minimumRowsPageBytes = 4 << 10

  // MARK: Previews

  /// Commits that one preview looks through: a hundredth of a second of reading…
  package static let previewedBytes = 8 << 20
  /// …and when it lists keys, each of which is looked up and sent.
  package static let previewedBytesWithKeys = 1 << 20

  // MARK: Names and secrets

  /// A space's name is a directory's name on the hub: short, and the same on every file system.
  package static let maximumSpaceNameBytes = 64
  /// Ranges of keys in a hello: a page more or less splits one of them.
  package static let maximumIntervals = 512
  /// Enough for a signed token; leaves room for scopes in the first frame.
  package static let maximumTokenBytes = 4 << 10
  /// The text of a refusal.
  package static let maximumMessageTextBytes = 1 << 10

  // MARK: Time

  /// From the connection's first byte to the end of the handshake, so that idle strangers cost little.
  package static let handshakeTimeout: Duration = .seconds(10)
  /// Of one connection so many messages are handled before others of its event loop have their turn.
  package static let messagesPerTurn = 256
  /// From the call to a connected socket.
  package static let connectTimeout: Duration = .seconds(10)
  /// Nothing heard for this long: a ping goes out.
  package static let heartbeatInterval: Duration = .seconds(10)
  /// Nothing heard for this long: the link is dead. Three heartbeats, so that a lost packet is not an outage.
  package static let idleLimit: Duration = .seconds(30)

  /// The link lives, nothing is on its way, and what the hub owes has not come for this long: it never will. A hub that
  /// waits for a slow disk, or serves hundreds before this one, needs seconds.
  package static let stallLimit: Duration = .seconds(60)
  /// What is on its way is waited for as long as a link would take that is barely one.
  package static let slowestBytesPerSecond = 1 << 10
  /// So much received is more than pings and pongs: a long message is coming in.
  package static let stallBytes = 4 << 10

  // MARK: Sending

  /// Bytes handed to the socket and not yet taken by the kernel, above which a sender waits…
  package static let outboundHighBytes = 128 << 10
  /// …until they are down to this. The kernel's own buffer keeps the link busy meanwhile; more here would only be held
  /// in memory twice.
  package static let outboundLowBytes = 64 << 10
  /// Received messages that wait to be taken before the socket is no longer read.
  package static let inboundHighMessages = 4
}
