// A process under test, with pipes to it, started and killed as a shell would.
//
// Invariants
// - Every child is waited for; one that is still running when its object goes is killed.
// - Descriptors are not inherited by other children that are started at the same time (O_CLOEXEC).

import Dispatch
package import Foundation
import Synchronization

package final class ChildProcess: Sendable {
  package struct Ended: Sendable, Equatable {
    /// The exit status, or 128 plus the signal, as in a shell.
    package var status: Int32
  }

  package struct CannotStart: Error {
    package var path: String
    package var number: Int32
  }

  private struct State {
    var ended: Ended?
    var input: Int32?
  }

  private static let starting = NSLock()

  package let identifier: pid_t
  package let output: Int32
  private let errorFile: String
  private let state: Mutex<State>

  /// Starts `path`. Standard input is a pipe unless `inputFile` is given; standard output is a pipe; standard error goes to
  /// the file `errorFile`.
  package init(_ path: String, _ arguments: [String], inputFile: String? = nil, errorFile: String) throws {
    // No other child may start between making a pipe and marking it: it would keep the pipe's other end open.
    Self.starting.lock()
    defer { Self.starting.unlock() }
    let (inputRead, inputWrite) = try Self.pipe()
    let (outputRead, outputWrite) = try Self.pipe()
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    if let inputFile {
      unsafe posix_spawn_file_actions_addopen(&actions, 0, inputFile, O_RDONLY, 0)
    } else {
      unsafe posix_spawn_file_actions_adddup2(&actions, inputRead, 0)
    }
    unsafe posix_spawn_file_actions_adddup2(&actions, outputWrite, 1)
    unsafe posix_spawn_file_actions_addopen(&actions, 2, errorFile, O_WRONLY | O_CREAT | O_TRUNC, 0o600)

    var pointers: [UnsafeMutablePointer<CChar>?] = unsafe ([path] + arguments).map { unsafe strdup($0) }
    unsafe pointers.append(nil)
    defer { for index in unsafe pointers.indices { unsafe free(pointers[index]) } }
    var identifier: pid_t = 0
    let result = unsafe posix_spawnp(&identifier, path, &actions, nil, pointers, environ)
    close(inputRead)
    close(outputWrite)
    guard result == 0 else {
      close(inputWrite)
      close(outputRead)
      throw CannotStart(path: path, number: result)
    }
    self.identifier = identifier
    self.errorFile = errorFile
    output = outputRead
    if inputFile != nil { close(inputWrite) }
    state = Mutex(State(ended: nil, input: inputFile == nil ? inputWrite : nil))
  }

  deinit {
    kill(SIGKILL)
    _ = waitBlocking()
    closeInput()
    close(output)
  }

  private static func pipe() throws -> (read: Int32, write: Int32) {
    var ends: [Int32] = [0, 0]
    guard unsafe Foundation.pipe(&ends) == 0 else { throw CannotStart(path: "pipe", number: errno) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    return (ends[0], ends[1])
  }

  /// Writes all of `bytes`; false when the process has closed its end.
  @discardableResult
  package func write(_ bytes: [UInt8]) -> Bool {
    guard let input = state.withLock({ $0.input }) else { return false }
    return unsafe bytes.withUnsafeBytes { all in
      var done = 0
      while done < all.count {
        let count = unsafe Foundation.write(input, all.baseAddress?.advanced(by: done), all.count - done)
        if count > 0 { done += count } else if errno != EINTR { return false }
      }
      return true
    }
  }

  package func closeInput() {
    let input = state.withLock { state in
      defer { state.input = nil }
      return state.input
    }
    if let input { close(input) }
  }

  /// What it has written to standard error so far.
  package var messages: String {
    String(decoding: FileManager.default.contents(atPath: errorFile) ?? Data(), as: UTF8.self)
  }

  /// The next bytes of standard output; empty at its end.
  package func readSome() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 64 << 10)
    let count = unsafe bytes.withUnsafeMutableBytes { unsafe read(output, $0.baseAddress, $0.count) }
    return Array(bytes.prefix(max(0, count)))
  }

  package func readAll() -> [UInt8] {
    var all: [UInt8] = []
    while true {
      let some = readSome()
      if some.isEmpty { return all }
      all += some
    }
  }

  package func kill(_ signal: Int32) {
    state.withLock { state in
      // A process that has been waited for has given up its number, which may be somebody else's by now.
      if state.ended == nil { _ = Foundation.kill(identifier, signal) }
    }
  }

  /// Waits for the end, away from the threads that run tests.
  package func wait() async -> Ended {
    await withCheckedContinuation { continuation in
      DispatchQueue.global().async { continuation.resume(returning: self.waitBlocking()) }
    }
  }

  package func waitBlocking() -> Ended {
    if let ended = state.withLock({ $0.ended }) { return ended }
    // WNOWAIT leaves the process's number taken until `ended` is set under the lock.
    var information = unsafe siginfo_t()
    while unsafe waitid(P_PID, id_t(identifier), &information, WEXITED | WNOWAIT) != 0, errno == EINTR {}
    return state.withLock { state in
      if let ended = state.ended { return ended }
      var status: Int32 = 0
      _ = unsafe waitpid(identifier, &status, 0)
      let signal = status & 0x7F
      let ended = Ended(status: signal == 0 ? status >> 8 & 0xFF : 128 + signal)
      state.ended = ended
      return ended
    }
  }
}
