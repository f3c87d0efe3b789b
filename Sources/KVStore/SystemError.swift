// What the operating system's error numbers mean to a user of the store.

import Foundation

extension StoreError.Code {
  package init(errno number: Int32) {
    switch number {
    case ENOENT, ENOTDIR: self = .noStore
    case EACCES, EPERM, EROFS: self = .notAllowed
    case ENOSPC, EDQUOT: self = .full
    default: self = .system
    }
  }
}

func describe(errno number: Int32) -> String {
  unsafe String(cString: strerror(number))
}

extension StoreError {
  /// A directory could not be made.
  package static func creating(_ path: String, _ number: Int32) -> StoreError {
    let hint = number == ENOENT ? " Create the directory above it first." : ""
    return StoreError(Code(errno: number), "cannot make the directory: \(describe(errno: number)).\(hint)", path: path)
  }
}
