// The messages between a replica and a hub.
//
// Who sends what: hello, push, restore, rowsRequest, previewRequest, headRequest only the replica; welcome,
// acknowledgement, feed, page, restored, rows, preview, head only the hub;
// refuse, credit, ping, pong, goodbye both. The layout of each is written beside its type.

package import KVLog

package enum Message: Hashable, Sendable {
  case hello(Hello)
  case welcome(Welcome)
  /// The session ends: why, and what to do. The last message of its sender.
  case refuse(Refusal)
  case push(Push)
  case acknowledgement(Acknowledgement)
  case feed(Feed)
  case page(Page)
  /// The receiver of pushes or feeds takes this many bytes more.
  case credit(Int)
  /// Are you there? Answered by a pong with the same number.
  case ping(UInt64)
  case pong(UInt64)
  case restore(Restore)
  case restored(Restored)
  case rowsRequest(RowsRequest)
  case rows(Rows)
  case previewRequest(PreviewRequest)
  case preview(Preview)
  /// The end of an exchange file; has no place on a connection.
  case fileEnd(FileEnd)
  /// What is your newest version? Answered by a head with the same number.
  case headRequest(UInt64)
  /// The newest version at some moment after the request was received.
  case head(UInt64, Version)
  /// All that was to be said has been said. The last message of its sender.
  case goodbye

  package var kind: MessageKind {
    switch self {
    case .hello: .hello
    case .welcome: .welcome
    case .refuse: .refuse
    case .push: .push
    case .acknowledgement: .acknowledgement
    case .feed: .feed
    case .page: .page
    case .credit: .credit
    case .ping: .ping
    case .pong: .pong
    case .restore: .restore
    case .restored: .restored
    case .rowsRequest: .rowsRequest
    case .rows: .rows
    case .previewRequest: .previewRequest
    case .preview: .preview
    case .fileEnd: .fileEnd
    case .goodbye: .goodbye
    case .headRequest: .headRequest
    case .head: .head
    }
  }

  /// The credit that sending it uses up; 0 for what is not subject to credit.
  package var chargedBytes: Int {
    switch self {
    case .push(let push): push.chargedBytes
    case .feed(let feed): feed.chargedBytes
    case .page(let page): page.chargedBytes
    default: 0
    }
  }
}
