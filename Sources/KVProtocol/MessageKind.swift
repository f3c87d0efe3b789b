// The kinds of messages, as the frame header names them.

package enum MessageKind: UInt8, Sendable, CaseIterable {
  case hello = 1
  case welcome = 2
  case refuse = 3
  case push = 4
  case acknowledgement = 5
  case feed = 6
  case credit = 7
  case ping = 8
  case pong = 9
  case rowsRequest = 10
  case rows = 11
  case goodbye = 12
  case restore = 13
  case restored = 14
  case page = 15
  case previewRequest = 22
  case preview = 23
  /// In files only.
  case fileEnd = 24
  case headRequest = 20
  case head = 21

  /// Whether a message of this kind may need more than one frame: it carries commits, exceptions or rows.
  package var mayBeFragmented: Bool {
    switch self {
    case .welcome, .push, .acknowledgement, .feed, .rows, .restore, .restored, .preview, .page: true
    case .hello, .refuse, .credit, .ping, .pong, .rowsRequest, .goodbye, .previewRequest, .fileEnd, .headRequest, .head:
      false
    }
  }
}
