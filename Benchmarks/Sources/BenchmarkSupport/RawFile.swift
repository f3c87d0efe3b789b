// A file without an engine: for the physical limits.

import Foundation

@safe public final class RawFile {
  private let descriptor: Int32
  private let bytes: Int
  private let buffer: UnsafeMutableRawBufferPointer

  /// A file of `bytes`, written and durable, as a log that is written ahead is.
  public init(_ path: String, bytes: Int) throws {
    self.bytes = bytes
    unsafe buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: RawFile.stepBytes, alignment: 4_096)
    unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0x5A)
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
    guard descriptor >= 0 else { throw RawFile.failure("create") }
    for offset in stride(from: 0, to: bytes, by: RawFile.stepBytes) {
      try write(min(RawFile.stepBytes, bytes - offset), at: offset)
    }
    guard fsync(descriptor) == 0 else { throw RawFile.failure("synchronise") }
  }

  deinit {
    close(descriptor)
    unsafe buffer.deallocate()
  }

  public static let stepBytes = 1 << 20

  /// Writes `count` bytes at `offset`, modulo the size of the file.
  public func write(_ count: Int, at offset: Int) throws {
    let offset = offset % (bytes - min(bytes, count) + 1)
    guard unsafe pwrite(descriptor, buffer.baseAddress, count, off_t(offset)) == count else {
      throw RawFile.failure("write")
    }
  }

  public func synchronize() throws {
    guard fdatasync(descriptor) == 0 else { throw RawFile.failure("synchronise") }
  }

  /// Reads the whole file through a buffer of `step` bytes, and looks at each byte.
  public func readAll(step: Int = 256 << 10) throws -> UInt64 {
    var sum: UInt64 = 0
    for offset in stride(from: 0, to: bytes, by: step) {
      let count = unsafe pread(descriptor, buffer.baseAddress, min(step, bytes - offset), off_t(offset))
      guard count > 0 else { throw RawFile.failure("read") }
      unsafe sum &+= UnsafeRawBufferPointer(rebasing: buffer[0..<count]).bytes.sum
    }
    return sum
  }

  /// Lends the file as memory.
  public func withMapping<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    let start = unsafe mmap(nil, bytes, PROT_READ, MAP_SHARED, descriptor, 0)
    guard unsafe start != MAP_FAILED else { throw RawFile.failure("map") }
    defer { unsafe munmap(start, bytes) }
    return unsafe try body(UnsafeRawBufferPointer(start: start, count: bytes))
  }

  private static func failure(_ what: String) -> BenchmarkError {
    BenchmarkError("cannot \(what) a file: \(unsafe String(cString: strerror(errno)))")
  }
}
