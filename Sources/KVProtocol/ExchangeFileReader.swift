// Reads an exchange file, message by message, and checks that it is whole.
//
// Invariants
// - A file that was read to its end is the one that was written: every frame's checksum, the chain over all of them, and
//   nothing behind the end.
// - Memory is bounded by one message.

package import KVLog
import Synchronization

package final class ExchangeFileReader: Sendable {
  private struct State {
    var offset = UInt64(ExchangeFilePreamble.byteCount)
    var frames = FrameReader(phase: .session)
    var chain: FrameChain
    var isAtEnd = false
  }

  package let preamble: ExchangeFilePreamble
  package let byteCount: Int
  private let file: any LogFile
  private let state: Mutex<State>

  package init(path: String, fileSystem: any LogFileSystem = PosixFileSystem()) throws(ExchangeFileError) {
    let file: any LogFile
    var bytes = [UInt8](repeating: 0, count: ExchangeFilePreamble.byteCount)
    do throws(SystemError) {
      file = try fileSystem.open(path, .read)
      byteCount = Int(clamping: try file.size())
      bytes.removeLast(bytes.count - (try file.read(into: &bytes, 0..<bytes.count, at: 0)))
    } catch {
      throw .system(error, "read \(path)")
    }
    self.file = file
    preamble = try ExchangeFilePreamble(decoding: bytes)
    state = Mutex(State(chain: FrameChain(of: preamble.replica)))
  }

  /// Bytes read so far.
  package var offset: Int { state.withLock { Int($0.offset) } }

  /// Begins again with the first message.
  package func rewind() {
    state.withLock { $0 = State(chain: FrameChain(of: preamble.replica)) }
  }

  /// The next message; nil at the end, which was found to be as it should be.
  package func next() throws(ExchangeFileError) -> Message? {
    try state.withLock { (state) throws(ExchangeFileError) in
      while !state.isAtEnd {
        let before = state.chain.end
        guard let message = try frame(&state) else { continue }
        guard case .fileEnd(let end) = message else { return message }
        guard end == before else { throw .damaged("frames are missing or were exchanged", offset: state.offset) }
        guard state.offset == UInt64(byteCount) else {
          throw .damaged("something follows its end", offset: state.offset)
        }
        state.isAtEnd = true
      }
      return nil
    }
  }

  /// One frame; gives the message that it completes.
  private func frame(_ state: inout State) throws(ExchangeFileError) -> Message? {
    let start = state.offset
    let header = try read(state.frames.neededBytes, &state)
    do throws(ProtocolError) {
      if let message = try unsafe state.frames.consume(header.span.bytes) {
        unsafe state.chain.add(header: header.span.bytes, payload: RawSpan())
        return message
      }
    } catch {
      throw .damaged("\(error)", offset: start)
    }
    let payload = try read(state.frames.neededBytes, &state)
    do throws(ProtocolError) {
      unsafe state.chain.add(header: header.span.bytes, payload: payload.span.bytes)
      return try unsafe state.frames.consume(payload.span.bytes)
    } catch {
      throw .damaged("\(error)", offset: start)
    }
  }

  private func read(_ count: Int, _ state: inout State) throws(ExchangeFileError) -> [UInt8] {
    guard UInt64(count) <= UInt64(byteCount) - min(state.offset, UInt64(byteCount)) else { throw .cutOff }
    var bytes = [UInt8](repeating: 0, count: count)
    let got: Int
    do throws(SystemError) {
      got = try file.read(into: &bytes, 0..<count, at: state.offset)
    } catch {
      throw .system(error, "read the file")
    }
    guard got == count else { throw .cutOff }
    state.offset += UInt64(count)
    return bytes
  }
}
