// What is wrong with bytes that should have been records, commits or changes.

/// Bytes that do not follow the format. Cheap, because thrown while parsing untrusted input; the caller adds where they
/// came from.
package struct LogFormatError: Error, Hashable, Sendable {
  package enum Reason: String, Hashable, Sendable {
    case cutShort = "it ends in the middle of a value"
    case leftOver = "bytes are left over at the end"
    case overLimit = "a length is over its limit"
    case unknownKind = "a record is of an unknown kind"
    case notZero = "reserved bytes are not zero"
    case badFlags = "unknown flags are set"
    case badVersion = "a version is out of order"
    case badKey = "a key is empty or too long"
    case badDeletion = "a deletion carries a value"
    case notText = "a text is not UTF-8"
    case badValue = "a value is not one of those allowed"
  }

  package let reason: Reason
  /// Bytes from the start of the span that was parsed.
  package let offset: Int

  @inlinable
  package init(_ reason: Reason, at offset: Int) {
    self.reason = reason
    self.offset = offset
  }
}

extension LogFormatError: CustomStringConvertible {
  package var description: String { "\(reason.rawValue) (byte \(offset))" }
}
