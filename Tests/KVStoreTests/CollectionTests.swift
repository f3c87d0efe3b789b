import Foundation
import KVLog
import KVStore
import TestSupport
import Testing

/// Codable values under a prefix.
@Suite(.timeLimit(.minutes(1))) struct CollectionTests {
  private struct Note: Codable, Sendable, Equatable {
    var text: String
    var tags: [String: Int] = [:]
    var date: Date?
  }

  let scratch: Scratch
  let store: Store

  init() async throws {
    scratch = try Scratch()
    store = try await Store.open(at: scratch.path("store"))
  }

  @Test("Values come back as they were put, under their keys and no others, in the order of their identifiers")
  func values() async throws {
    let notes = store.collection("notes", of: Note.self)
    let others = store.collection("notes2", of: Note.self)
    let date = Date(timeIntervalSince1970: 1_700_000_000.123)
    var expected: [String: Note] = [:]
    for (index, id) in ["b", "a/b", "ü", "", "Z", "with space"].enumerated() {
      expected[id] = Note(text: "text \(index) / é", tags: ["x": index], date: index % 2 == 0 ? date : nil)
      try await notes.put(expected[id]!, for: id)
      try await others.put(Note(text: "other"), for: id)
    }
    for (id, note) in expected { #expect(try notes.value(for: id) == note) }
    #expect(try notes.value(for: "none") == nil)
    let all = try notes.all()
    #expect(all.map(\.id) == ["", "Z", "a/b", "b", "with space", "ü"])
    #expect(Dictionary(uniqueKeysWithValues: all.map { ($0.id, $0.value) }) == expected)
    try await notes.delete("b")
    #expect(try notes.value(for: "b") == nil && notes.all().count == 5)
    #expect(try others.all().count == 6)
    #expect(try store.contains(notes.key(for: "Z")))
  }

  @Test("Equal values are equal bytes, whatever the order of their members")
  func equalBytes() async throws {
    let notes = store.collection("notes", of: Note.self)
    let names = (0..<30).map { "tag\($0)" }
    for round in 0..<4 {
      var tags: [String: Int] = [:]
      tags.reserveCapacity(round * 100)
      for name in names.shuffled() { tags[name] = 1 }
      try await notes.put(Note(text: "t", tags: tags), for: "\(round)")
    }
    let values = try (0..<4).map { try #require(try store.value(for: notes.key(for: "\($0)"))) }
    #expect(Set(values).count == 1)
  }

  @Test("Values take part in transactions, which see their own")
  func transactions() async throws {
    let notes = store.collection("notes", of: Note.self)
    try await notes.put(Note(text: "old"), for: "a")
    try await store.write { transaction in
      #expect(try notes.value(for: "a", in: transaction) == Note(text: "old"))
      try notes.put(Note(text: "new"), for: "b", in: &transaction)
      try notes.delete("a", in: &transaction)
      #expect(try notes.value(for: "a", in: transaction) == nil)
      #expect(try notes.value(for: "b", in: transaction) == Note(text: "new"))
    }
    #expect(try notes.all().map(\.id) == ["b"])
    #expect(store.counters().localVersion == 2)
  }

  @Test("Changes are those of the collection from now on, and one that cannot be decoded spoils only itself")
  func changes() async throws {
    let notes = store.collection("notes", of: Note.self)
    try await notes.put(Note(text: "before"), for: "a")
    let changes = notes.changes()
    try await notes.put(Note(text: "one"), for: "a")
    try await store.put("not JSON", for: notes.key(for: "b"))
    try await store.put("x", for: "elsewhere")
    try await notes.delete("a")
    try await notes.put(Note(text: "last"), for: "c")
    var seen: [String] = []
    for try await change in changes {
      let value = Result { try change.value }
      switch value {
      case .success(let note): seen.append("\(change.id) \(note?.text ?? "deleted")")
      case .failure(let error):
        #expect(error is DecodingError)
        seen.append("\(change.id) ?")
      }
      #expect(change.kind == .local && change.state == .pending)
      if change.id == "c" { break }
    }
    // Read together, the two changes of "a" are one.
    #expect(seen == ["b ?", "a deleted", "c last"])
    #expect(throws: DecodingError.self) { try notes.all() }
  }

  @Test("A live collection gives its values and then what becomes of them")
  func live() async throws {
    let notes = store.collection("notes", of: Note.self)
    for index in 0..<5 { try await notes.put(Note(text: "\(index)"), for: "\(index)") }
    try await store.put("x", for: "notes")
    var contents: [String: Note] = [:]
    var currents = 0
    for try await element in notes.live() {
      switch element {
      case .reset: contents = [:]
      case .row(let entry), .change(let entry): contents[entry.id] = try entry.value
      case .current(let version):
        #expect(contents == Dictionary(uniqueKeysWithValues: try notes.all().map { ($0.id, $0.value) }))
        #expect(version == store.counters().localVersion)
        currents += 1
        if currents == 1 { try await notes.put(Note(text: "new"), for: "1") }
        if currents == 2 { try await notes.delete("3") }
      }
      if currents == 3 { break }
    }
    #expect(contents.keys.sorted() == ["0", "1", "2", "4"] && contents["1"] == Note(text: "new"))
  }
}
