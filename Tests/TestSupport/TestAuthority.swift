// Certificates for tests, made by the command `openssl` when they are needed: none is kept anywhere.

import Foundation

/// An authority of its own, in a directory of its own.
package final class TestAuthority: Sendable {
  private let scratch: Scratch
  /// The authority's certificate.
  package var file: String { scratch.path("authority.pem") }

  package struct Certificate: Sendable {
    package let file: String
    package let keyFile: String
    /// The files stay for as long as somebody names them.
    fileprivate let scratch: Scratch
  }

  package struct Failed: Error {
    package var output: String
  }

  package init() async throws {
    scratch = try Scratch(inMemory: true)
    try await openssl(
      "req", "-x509", "-nodes", "-subj", "/CN=Test authority", "-days", "2", "-keyout", scratch.path("authority.key"),
      "-out", file, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
  }

  /// A certificate of this authority for these names and addresses, as in "DNS:localhost,IP:127.0.0.1". With negative
  /// days it has expired. `algorithm` is that of its key, as openssl's -newkey takes it.
  package func certificate(
    _ name: String = "hub", for names: String = "DNS:localhost,IP:127.0.0.1", days: Int = 2,
    algorithm: [String] = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
  ) async throws -> Certificate {
    let key = scratch.path("\(name).key")
    let request = scratch.path("\(name).csr")
    let extensions = scratch.path("\(name).ext")
    let file = scratch.path("\(name).pem")
    try "subjectAltName=\(names)\n".write(toFile: extensions, atomically: false, encoding: .utf8)
    try await openssl(
      ["req", "-nodes", "-subj", "/CN=\(name)", "-keyout", key, "-out", request, "-newkey"] + algorithm)
    try await openssl(
      "x509", "-req", "-in", request, "-CA", self.file, "-CAkey", scratch.path("authority.key"), "-set_serial",
      "\(UInt64.random(in: 1...UInt64.max / 2))", "-days", "\(days)", "-extfile", extensions, "-out", file)
    return Certificate(file: file, keyFile: key, scratch: scratch)
  }

  private func openssl(_ arguments: String...) async throws { try await openssl(arguments) }

  private func openssl(_ arguments: [String]) async throws {
    let output: String? = await withCheckedContinuation { continuation in
      // Away from the threads that run tests.
      Thread {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        guard (try? process.run()) != nil else { return continuation.resume(returning: "openssl cannot be started") }
        let words = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        continuation.resume(returning: process.terminationStatus == 0 ? nil : words)
      }.start()
    }
    if let output { throw Failed(output: output) }
  }
}
