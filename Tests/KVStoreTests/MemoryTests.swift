// Memory: what goes through all of a store takes as much of it for many rows as for few.

import Foundation
import TestSupport
import Testing

@Suite struct MemoryTests {
  #if os(Linux)
    /// `KVSYNC_ROWS` has the number of rows of the long run.
    @Test("Writing, scanning, counting, following, backing up and deleting take no more memory for four times the rows")
    func isFlat() async throws {
      let many = Int(ProcessInfo.processInfo.environment["KVSYNC_ROWS"] ?? "") ?? 96_000
      // Enough of them to fill the largest transaction of the index.
      let few = many / 4
      let scratch = try Scratch()
      // One heap, which gives back what is large: what is seen is what the store holds, and not what eight heaps keep. What
      // is allocated once, for good, the first rows have seen.
      let child = try ChildProcess(
        "memory", scratch.path("store"), "\(few)", "\(few)", "\(many)",
        environment: ["MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"])
      #expect(try await child.line() == "open")
      var peaks: [String: [Int: Int]] = [:]
      while case let line = try await child.line(within: 300), line != "closed" {
        let words = line.split(separator: " ")
        let numbers = words.dropFirst().compactMap { Int($0) }
        try #require(numbers.count == 3, "\(line)")
        #expect(numbers[0] == numbers[1], "\(line)")
        peaks[String(words[0]), default: [:]][numbers[0]] = numbers[2]
      }
      #expect(peaks.keys.sorted() == ["backup", "changes", "count", "delete", "keys", "query", "scan", "write"])
      for (operation, peak) in peaks.sorted(by: { $0.key < $1.key }) {
        let (before, after) = (try #require(peak[few]), try #require(peak[many]))
        print("\(operation): \(before) then \(after) bytes")
        // The rows are 45 million bytes more, their keys alone five, 72 for each, when they are arrays. Of some batches or pages there
        // are now two at a time and now three, and a busy machine folds larger generations.
        let noise = max(4 << 20, (many - few) * 24)
        #expect(after - before < noise, "\(operation): \(before) then \(after) bytes")
        #expect(after < 20 << 20, "\(operation): \(after) bytes")
      }
    }

    /// `KVSYNC_BACKLOG` has the number of changes of the long run.
    @Test(
      "A backlog that is all in conflict, or all refused, takes no more memory when it is twice as long, and all is kept"
    )
    func decisionsAreFlat() async throws {
      let many = Int(ProcessInfo.processInfo.environment["KVSYNC_BACKLOG"] ?? "") ?? 20_000
      let few = many / 2
      let scratch = try Scratch()
      let child = try ChildProcess(
        "decisions", scratch.path("store"), "\(few)", "\(many)",
        environment: ["MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"])
      #expect(try await child.line() == "open")
      var peaks: [String: [Int: Int]] = [:]
      while case let line = try await child.line(within: 3_000), line != "closed" {
        let words = line.split(separator: " ")
        let numbers = words.dropFirst().compactMap { Int($0) }
        try #require(numbers.count == 3, "\(line)")
        #expect(numbers[0] == numbers[1], "\(line)")
        peaks[String(words[0]), default: [:]][numbers[0]] = numbers[2]
      }
      #expect(peaks.keys.sorted() == ["conflicts", "decided", "parked"])
      for (operation, peak) in peaks.sorted(by: { $0.key < $1.key }) {
        let (before, after) = (try #require(peak[few]), try #require(peak[many]))
        print("\(operation): \(before) then \(after) bytes")
        // Two stores. Generations and transactions grow with them, up to their bounds, which 2 M changes reach.
        #expect(after < (operation == "decided" ? 80 : 56) << 20, "\(operation): \(after) bytes")
        let growth = operation == "decided" ? 32 : 16
        if many >= 400_000 { #expect(after - before < growth << 20, "\(operation): \(before) then \(after) bytes") }
      }
    }
  #endif
}
