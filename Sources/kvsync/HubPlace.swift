// A space of a hub's directory, as a command names it: HUBDIR/SPACE.

import KVHubEmbedded
import KVStore

struct HubPlace {
  let directory: String
  let space: String

  /// nil when the path is no such thing; a space that does not exist yet is one.
  init?(_ path: String) {
    var path = path[...]
    while path.count > 1, path.last == "/" { path.removeLast() }
    guard let slash = path.lastIndex(of: "/") else { return nil }
    let directory = slash == path.startIndex ? "/" : String(path[..<slash])
    guard EmbeddedHubStorage.spaceNames(at: directory) != nil,
      !SystemCall.exists("\(path)/\(StoreManifest.name)")
    else { return nil }
    self.directory = directory
    space = String(path[path.index(after: slash)...])
  }

  /// Opens the hub's directory, works, closes.
  func withStorage<Result>(_ body: (EmbeddedHubStorage) async throws -> Result) async throws -> Result {
    let storage = try EmbeddedHubStorage(directory: directory)
    let result: Result
    do {
      result = try await body(storage)
    } catch {
      try? await storage.close()
      throw error
    }
    try await storage.close()
    return result
  }
}
