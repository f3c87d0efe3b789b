import Testing

@testable import KVReplicator

@Suite struct HubAddressTests {
  @Test(
    "An address is read and written back",
    arguments: [
      ("kvsync://hub.example.com:7000/notes", "hub.example.com", 7000, "notes"),
      ("kvsync://10.0.0.1:1/a.b-c_d", "10.0.0.1", 1, "a.b-c_d"),
      ("kvsync://[::1]:65535/notes", "::1", 65_535, "notes"),
    ])
  func addresses(text: String, host: String, port: Int, space: String) throws {
    let address = try HubAddress(text)
    #expect(address == HubAddress(host: host, port: port, space: space))
    #expect(address.description == text)
    let secure = text.replacing("kvsync://", with: "kvsyncs://")
    #expect(try HubAddress(secure) == HubAddress(host: host, port: port, space: space, usesTLS: true))
    #expect(try HubAddress(secure).description == secure)
  }

  @Test("Without a port the default one is meant", arguments: ["kvsync://hub/notes", "kvsync://[fe80::1]/notes"])
  func defaultPort(text: String) throws {
    #expect(try HubAddress(text).port == HubAddress.defaultPort)
  }

  @Test(
    "What is no address is refused with what is wrong and how it is written",
    arguments: [
      "", "notes", "http://hub/notes", "kvsync://", "kvsync://hub", "kvsync://hub/", "kvsync:///notes",
      "kvsync://hub:0/notes", "kvsync://hub:65536/notes", "kvsync://hub:x/notes", "kvsync://hub:/notes",
      "kvsync://::1/notes", "kvsync://[::1/notes", "kvsync://[::1]x/notes", "kvsync://hub/a/b", "kvsync://hub/Notes",
      "kvsync://hub/.notes", "kvsync://hub/no tes", "kvsync://hub/" + String(repeating: "n", count: 65),
      "kvsync://user@hub/notes",
    ])
  func refused(text: String) {
    let error = #expect(throws: ReplicatorError.self) { try HubAddress(text) }
    #expect(error?.code == .invalidAddress)
    #expect(error?.message.contains("kvsync://HOST:PORT/SPACE") == true)
  }
}
