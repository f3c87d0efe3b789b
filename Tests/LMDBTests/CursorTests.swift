// What cursors promise: the order, the ends, and their place while a writer changes what is under them.

import LMDB
import Testing

@Suite struct CursorTests {
  let scratch: ScratchFile
  let environment: LMDBEnvironment
  let rows: Table

  init() throws {
    scratch = try ScratchFile()
    (environment, rows) = try scratch.opened()
  }

  /// Even numbers below `count`, each with itself as the value.
  func fill(_ count: Int) throws {
    try environment.write { writer in
      for number in stride(from: 0, to: count, by: 2) { try writer.put(rows, key(number), key(number)) }
    }
  }

  @Test func `a cursor goes through all keys in order, both ways`() throws {
    try fill(5_000)
    let wanted = stride(from: 0, to: 5_000, by: 2).map { Entry(key: key($0), value: key($0)) }
    let cursor = try environment.reader().cursor(rows)
    var forward: [Entry] = []
    while try cursor.next() { forward.append(try cursor.entry()) }
    #expect(forward == wanted)
    var backward: [Entry] = []
    while try cursor.previous() { backward.append(try cursor.entry()) }
    #expect(backward == wanted.reversed())
  }

  @Test func `keys are in the order of their bytes, a prefix first`() throws {
    let keys: [[UInt8]] = [[0], [0, 0], [0, 1], [1], [1, 255], [2], [127], [128], [255], [255, 0]]
    try environment.write { for key in keys.shuffled() { try $0.put(rows, key, []) } }
    let cursor = try environment.reader().cursor(rows)
    var found: [[UInt8]] = []
    while try cursor.next() { found.append(cursor.key()) }
    #expect(found == keys)
  }

  @Test func `past either end a cursor stays, and comes back to the outermost entry`() throws {
    try fill(10)
    let cursor = try environment.reader().cursor(rows)
    #expect(try !cursor.previous(), "a new cursor stands before the first entry")
    #expect(try cursor.last())
    for _ in 0..<3 { #expect(try !cursor.next()) }
    #expect(try cursor.previous())
    #expect(cursor.key() == key(8))
    #expect(try cursor.first())
    for _ in 0..<3 { #expect(try !cursor.previous()) }
    #expect(try cursor.next())
    #expect(cursor.key() == key(0))
  }

  @Test func `a seek finds the key or the next greater one`() throws {
    try fill(1_000)
    let cursor = try environment.reader().cursor(rows)
    #expect(try cursor.seek(key(500)))
    #expect(cursor.key() == key(500))
    #expect(try cursor.seek(key(501)))
    #expect(cursor.key() == key(502))
    #expect(try cursor.previous())
    #expect(cursor.key() == key(500))
    #expect(try !cursor.seek(key(999)))
    #expect(try !cursor.next())
    #expect(try cursor.previous())
    #expect(cursor.key() == key(998))
    #expect(try cursor.seek([]))
    #expect(cursor.key() == key(0))
  }

  @Test func `in an empty table there is nowhere to stand`() throws {
    let cursor = try environment.reader().cursor(rows)
    #expect(try !cursor.first())
    #expect(try !cursor.last())
    #expect(try !cursor.next())
    #expect(try !cursor.previous())
    #expect(try !cursor.seek([1]))
  }

  @Test func `a cursor keeps its reader, and the reader the environment`() throws {
    try fill(100)
    var cursor: LMDBCursor? = try environment.reader().cursor(rows)
    for _ in 0..<20 {
      try environment.write {
        try $0.removeAll(rows); try $0.put(rows, [1], [1])
      }
    }
    var count = 0
    while try cursor?.next() == true { count += 1 }
    #expect(count == 50)
    cursor = nil
    #expect(try environment.reader().entryCount(rows) == 1)
  }

  @Test func `a walk lends every entry from where the cursor stands to the end, both ways`() throws {
    try fill(5_000)
    let wanted = stride(from: 0, to: 5_000, by: 2).map { Entry(key: key($0), value: key($0)) }
    let cursor = try environment.reader().cursor(rows)
    for (start, isBackwards) in [(0, false), (2_400, false), (4_998, true), (2_400, true)] {
      #expect(try cursor.seek(key(start)))
      let expected = isBackwards ? wanted[...(start / 2)].reversed() : Array(wanted[(start / 2)...])
      #expect(try cursor.walked(backwards: isBackwards) == expected)
      #expect(try isBackwards ? !cursor.previous() : !cursor.next())
      #expect(try isBackwards ? cursor.next() : cursor.previous())
      #expect(cursor.key() == key(isBackwards ? 0 : 4_998))
    }
  }

  @Test func `a walk that is stopped, or whose closure throws, leaves the cursor on the entry lent last`() throws {
    struct Enough: Error {}
    try fill(2_000)
    let cursor = try environment.reader().cursor(rows)
    for throwing in [false, true] {
      #expect(try cursor.first())
      var lent = 0
      let stop = {
        try cursor.walk(backwards: false) { _, _ in
          lent += 1
          if lent == 700, throwing { throw Enough() }
          return lent < 700
        }
      }
      if throwing { #expect(throws: Enough.self) { try stop() } } else { try stop() }
      #expect(try cursor.entry() == Entry(key: key(1_398), value: key(1_398)))
      #expect(try cursor.next())
      #expect(cursor.key() == key(1_400))
    }
  }

  @Test func `a writer's cursor can delete as it goes`() throws {
    try fill(3_000)
    var writer = try environment.beginWrite()
    do {
      let cursor = try writer.cursor(rows)
      var count = 0
      while try cursor.next() {
        count += 1
        if count.isMultiple(of: 3) { #expect(try writer.delete(rows, cursor.key())) }
      }
      #expect(count == 1_500)
    }
    try writer.commit()
    #expect(try environment.reader().entryCount(rows) == 1_000)
  }

  @Test func `a writer's cursor goes on from where it stood, whatever was changed`() throws {
    try fill(10)
    var writer = try environment.beginWrite()
    do {
      let cursor = try writer.cursor(rows)
      #expect(try cursor.seek(key(4)))
      try writer.put(rows, key(5), [5])
      try writer.put(rows, key(4), [44])
      #expect(try cursor.entry() == Entry(key: key(4), value: [44]))
      #expect(try cursor.next())
      #expect(cursor.key() == key(5))
      _ = try writer.delete(rows, key(5))
      #expect(try cursor.previous())
      #expect(cursor.key() == key(4))
      _ = try writer.delete(rows, key(4))
      _ = try writer.delete(rows, key(6))
      #expect(try cursor.next())
      #expect(cursor.key() == key(8))
      try writer.removeAll(rows)
      #expect(try !cursor.next())
      #expect(try !cursor.previous())
    }
    try writer.commit()
  }

  @Test func `a cursor that outlives an aborted writer is released without harm`() throws {
    let writer = try environment.beginWrite()
    var cursor: LMDBWriterCursor? = try writer.cursor(rows)
    writer.abort()
    cursor = nil
    _ = cursor
    try fill(10)
    #expect(try environment.reader().entryCount(rows) == 5)
  }
}
