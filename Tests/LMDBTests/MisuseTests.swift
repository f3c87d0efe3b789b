// Mistakes of the program end it with a sentence, before they can damage anything.

import LMDB
import Testing

/// Ended by a signal: a thrown error would be a failure too, but not this one.
func trapped(_ result: ExitTest.Result?) -> Bool {
  if case .signal = result?.exitStatus { true } else { false }
}

@Suite struct MisuseTests {
  let scratch: ScratchFile

  init() throws { scratch = try ScratchFile() }

  @Test func `a second writer on the same thread would wait for ever`() async {
    let result = await #expect(processExitsWith: .failure) { [folder = scratch.folder as String] in
      let (environment, _) = try ScratchFile(of: folder).opened()
      let writer = try environment.beginWrite()
      _ = try environment.beginWrite()
      writer.abort()
    }
    #expect(trapped(result))
  }

  @Test func `a commit with an open cursor is refused`() async {
    let result = await #expect(processExitsWith: .failure) { [folder = scratch.folder as String] in
      let (environment, rows) = try ScratchFile(of: folder).opened()
      let writer = try environment.beginWrite()
      let cursor = try writer.cursor(rows)
      try writer.commit()
      _ = try cursor.first()
    }
    #expect(trapped(result))
  }

  @Test func `a cursor of a writer that ended is refused`() async {
    let result = await #expect(processExitsWith: .failure) { [folder = scratch.folder as String] in
      let (environment, rows) = try ScratchFile(of: folder).opened()
      let writer = try environment.beginWrite()
      let cursor = try writer.cursor(rows)
      writer.abort()
      _ = try cursor.first()
    }
    #expect(trapped(result))
  }

  @Test func `a table of another environment is refused`() async {
    let result = await #expect(processExitsWith: .failure) { [folder = scratch.folder as String] in
      let (first, rows) = try ScratchFile(of: folder).opened()
      let (other, _) = try ScratchFile(of: folder, file: "other").opened()
      _ = first
      _ = try other.reader().value(rows, [1])
    }
    #expect(trapped(result))
  }

  @Test func `a change while an entry is lent is refused`() async {
    let result = await #expect(processExitsWith: .failure) { [folder = scratch.folder as String] in
      let (environment, rows) = try ScratchFile(of: folder).opened()
      var writer = try environment.beginWrite()
      try writer.put(rows, [1], [1])
      let cursor = try writer.cursor(rows)
      _ = try cursor.first()
      try cursor.withEntry { _, _ in try writer.put(rows, [2], [2]) }
      writer.abort()
    }
    #expect(trapped(result))
  }

  @Test func `reading where no entry is refused`() async {
    let result = await #expect(processExitsWith: .failure) { [folder = scratch.folder as String] in
      let (environment, rows) = try ScratchFile(of: folder).opened()
      let cursor = try environment.reader().cursor(rows)
      _ = try cursor.first()
      _ = try cursor.entry()
    }
    #expect(trapped(result))
  }

  @Test func `reading an entry that the writer deleted is refused`() async {
    let result = await #expect(processExitsWith: .failure) { [folder = scratch.folder as String] in
      let (environment, rows) = try ScratchFile(of: folder).opened()
      var writer = try environment.beginWrite()
      try writer.put(rows, [1], [1])
      let cursor = try writer.cursor(rows)
      _ = try cursor.first()
      _ = try writer.delete(rows, [1])
      _ = try cursor.entry()
      writer.abort()
    }
    #expect(trapped(result))
  }
}
