// The few system calls the tool makes itself, on descriptors: the only file here that sees a pointer or a platform.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

enum SystemCall {
  static let standardInput: Int32 = 0
  static let standardOutput: Int32 = 1
  static let standardError: Int32 = 2

  static let noSpace = ENOSPC
  static let quotaExceeded = EDQUOT
  static let accessDenied = EACCES
  static let notPermitted = EPERM
  static let readOnlyFileSystem = EROFS
  static let brokenPipe = EPIPE

  struct Failed: Error {
    var number: Int32
  }

  /// Reads up to `limit` bytes to the end of `buffer`; 0 at the end of the file.
  static func read(_ descriptor: Int32, appendingTo buffer: inout [UInt8], limit: Int) throws(Failed) -> Int {
    let start = buffer.count
    buffer.append(contentsOf: repeatElement(0, count: limit))
    let count = read(descriptor, into: &buffer, at: start)
    buffer.removeLast(limit - max(count.bytes, 0))
    if count.bytes < 0 { throw Failed(number: count.error) }
    return count.bytes
  }

  /// Fills `buffer` from `offset` with what one read gives; 0 bytes at the end of the file, -1 with an error.
  static func read(_ descriptor: Int32, into buffer: inout [UInt8], at offset: Int) -> (bytes: Int, error: Int32) {
    unsafe buffer.withUnsafeMutableBytes { space in
      guard let base = space.baseAddress, offset < space.count else { return (0, 0) }
      while true {
        let count = unsafe systemRead(descriptor, base + offset, space.count - offset)
        if count >= 0 { return (count, 0) }
        if errno != EINTR { return (-1, errno) }
      }
    }
  }

  /// Writes all of `bytes`.
  static func write(_ descriptor: Int32, _ bytes: [UInt8]) throws(Failed) {
    let error: Int32 = unsafe bytes.withUnsafeBytes { all in
      guard let base = all.baseAddress else { return 0 }
      var done = 0
      while done < all.count {
        let count = unsafe systemWrite(descriptor, base + done, all.count - done)
        if count >= 0 {
          done += count
        } else if errno == EAGAIN {
          // Somebody made the descriptor non-blocking (a pipe shared with another program): wait until it takes more.
          var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
          _ = unsafe poll(&wait, 1, -1)
        } else if errno != EINTR {
          return errno
        }
      }
      return 0
    }
    if error != 0 { throw Failed(number: error) }
  }

  static func openForReading(_ path: String) throws(Failed) -> Int32 {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { throw Failed(number: errno) }
    return descriptor
  }

  static func close(_ descriptor: Int32) {
    _ = systemClose(descriptor)
  }

  /// The size of a regular file; nil for pipes, terminals and devices, whose end is not known.
  static func regularFileBytes(_ descriptor: Int32) -> Int? {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    return Int(status.st_size)
  }

  static func isDirectory(_ descriptor: Int32) -> Bool {
    var status = stat()
    return unsafe fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  static func rename(_ path: String, to new: String) { _ = systemRename(path, new) }

  static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

  /// Were one of the three standard descriptors closed, the next file to be opened would get its number, and the output
  /// of a command would go into a file of the store. Each is opened such that using it is an error.
  static func occupyStandardDescriptors() {
    for descriptor in [standardInput, standardOutput, standardError] where fcntl(descriptor, F_GETFD) < 0 {
      _ = unsafe open("/dev/null", descriptor == standardInput ? O_WRONLY : O_RDONLY)
    }
  }

  /// Connections and spaces need more open files than a shell usually allows at first.
  static func raiseOpenFiles() {
    #if canImport(Glibc)
      let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    #else
      let resource = RLIMIT_NOFILE
    #endif
    var limit = rlimit()
    guard unsafe getrlimit(resource, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
    limit.rlim_cur = min(limit.rlim_max, 65_536)
    _ = unsafe setrlimit(resource, &limit)
  }

  static func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

  /// A reader that went away is then an error of `write`, which ends the command quietly, not a signal.
  static func ignoreBrokenPipes() { _ = signal(SIGPIPE, SIG_IGN) }

  static func describe(_ number: Int32) -> String {
    guard let text = unsafe strerror(number) else { return "error \(number)" }
    return unsafe String(cString: text)
  }

  /// The arguments after the program's name, as the bytes they are.
  static var arguments: [[UInt8]] {
    var arguments: [[UInt8]] = []
    for index in 1..<max(1, Int(CommandLine.argc)) {
      guard let start = unsafe CommandLine.unsafeArgv[index] else { break }
      var bytes: [UInt8] = []
      var next = unsafe start
      while unsafe next.pointee != 0 {
        bytes.append(unsafe UInt8(bitPattern: next.pointee))
        unsafe next += 1
      }
      arguments.append(bytes)
    }
    return arguments
  }

  static func exit(_ status: ExitStatus) -> Never { systemExit(status.rawValue) }
}

// The system's names, which the functions above would hide.

private func systemRead(_ descriptor: Int32, _ bytes: UnsafeMutableRawPointer, _ count: Int) -> Int {
  unsafe read(descriptor, bytes, count)
}

private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
  unsafe write(descriptor, bytes, count)
}

private func systemClose(_ descriptor: Int32) -> Int32 { close(descriptor) }
private func systemRename(_ path: String, _ new: String) -> Int32 { unsafe rename(path, new) }
private func systemExit(_ status: Int32) -> Never { exit(status) }
