// Where blocking work of asynchronous calls runs.

import Dispatch

enum BlockingWork {
  static let queue = DispatchQueue(label: "kvsync.blocking", attributes: .concurrent)
}
