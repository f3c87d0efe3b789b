// An error number of the operating system, and its words for it.

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// What a file operation failed with. The log adds which file it was and what it was doing.
package struct SystemError: Error, Hashable, Sendable {
  /// `errno`.
  package let code: Int32

  package init(code: Int32) { self.code = code }

  /// No space, or the quota is used up.
  package var isFull: Bool { code == ENOSPC || code == EDQUOT }
  package var isMissing: Bool { code == ENOENT }
  /// The file system takes no writes.
  package var isReadOnly: Bool { code == EROFS || code == EINVAL }
  package var isExisting: Bool { code == EEXIST }

  static let existing = SystemError(code: EEXIST)
  static let inputOutput = SystemError(code: EIO)
}

extension SystemError: CustomStringConvertible {
  package var description: String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
      guard let text = buffer.baseAddress, unsafe strerror_r(code, text, buffer.count) == 0 else {
        return "unknown error"
      }
      return unsafe String(cString: text)
    }
  }
}

extension LogError {
  init(
    _ error: SystemError, _ operation: String, file: String, offset: UInt64? = nil, version: Version? = nil
  ) {
    self.init(
      error.isFull ? .full : .system(error.code), operation, file: file, offset: offset, version: version)
  }
}
