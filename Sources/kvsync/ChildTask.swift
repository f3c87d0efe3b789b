// The tool itself in a process of its own, for work that may end the process that does it.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

struct ChildTask {
  enum End: Equatable {
    case exited(Int32)
    case signalled(Int32)
  }

  /// What it wrote to standard output.
  var output: [UInt8]
  var end: End

  /// Whether it ended as a program does that followed damaged data.
  var crashed: Bool {
    guard case .signalled(let signal) = end else { return false }
    return [SIGABRT, SIGBUS, SIGSEGV, SIGILL, SIGTRAP, SIGFPE].contains(signal)
  }

  /// Runs `kvsync ARGUMENTS` to its end. Standard error is shared with it.
  static func run(_ arguments: [String]) throws(Failure) -> ChildTask {
    var ends: [Int32] = [0, 0]
    guard unsafe pipe(&ends) == 0 else { throw .system(errno, "could not start a process") }
    let (read, write) = (ends[0], ends[1])
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    defer { close(read) }
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_adddup2(&actions, write, SystemCall.standardOutput)
    var pointers: [UnsafeMutablePointer<CChar>?] = unsafe (["kvsync"] + arguments).map { unsafe strdup($0) }
    unsafe pointers.append(nil)
    defer { for index in unsafe pointers.indices { unsafe free(pointers[index]) } }
    var identifier: pid_t = 0
    let number = unsafe posix_spawn(&identifier, executable, &actions, nil, pointers, environ)
    close(write)
    guard number == 0 else { throw .system(number, "could not start a process") }

    var output: [UInt8] = []
    while let count = try? SystemCall.read(read, appendingTo: &output, limit: 64 << 10), count > 0 {}
    var status: Int32 = 0
    while unsafe waitpid(identifier, &status, 0) < 0, errno == EINTR {}
    let signal = status & 0x7F
    return ChildTask(output: output, end: signal == 0 ? .exited(status >> 8 & 0xFF) : .signalled(signal))
  }

  private static var executable: String {
    #if canImport(Darwin)
      var size: UInt32 = 0
      unsafe _NSGetExecutablePath(nil, &size)
      var path = [CChar](repeating: 0, count: Int(size))
      guard unsafe _NSGetExecutablePath(&path, &size) == 0 else { return CommandLine.arguments[0] }
      return String(decoding: path.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    #else
      "/proc/self/exe"
    #endif
  }
}
