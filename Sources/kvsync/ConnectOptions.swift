// What every command that connects to a hub takes: whom it trusts, what it shows, and the token.
//
// Invariant: a token is never on the command line, where every user of the machine can read it. It comes from a file, which
// is read again for each connection, or from the environment.

import ArgumentParser
import Foundation
import KVReplicator

struct ConnectOptions: ParsableArguments {
  @Option(
    name: .customLong("ca-file"),
    help: ArgumentHelp("Trust hubs with a certificate of this authority (PEM).", valueName: "FILE"), completion: .file()
  )
  var authorityFile: String?
  @Option(help: ArgumentHelp("Show this certificate to the hub (PEM).", valueName: "FILE"), completion: .file())
  var clientCertificate: String?
  @Option(
    help: ArgumentHelp("Its key (PEM); by default in the same file.", valueName: "FILE"), completion: .file())
  var clientKey: String?
  @Option(
    help: ArgumentHelp("The token for the hub; by default $KVSYNC_TOKEN.", valueName: "FILE"), completion: .file())
  var tokenFile: String?
  @Flag(help: "Connect without TLS to other machines as well.") var insecure = false

  /// The environment variable that holds a token.
  static let variable = "KVSYNC_TOKEN"

  func validate() throws {
    if clientKey != nil, clientCertificate == nil {
      throw ValidationError("--client-key goes with --client-certificate.")
    }
  }

  func apply(to configuration: inout Replicator.Configuration) {
    configuration.tls.authorityFile = authorityFile
    configuration.tls.certificateFile = clientCertificate
    configuration.tls.keyFile = clientKey
    configuration.allowsInsecure = insecure
    configuration.token = { [tokenFile] in try Self.token(tokenFile) }
  }

  private static func token(_ file: String?) throws -> [UInt8] {
    guard let file else { return trimmed(Array((ProcessInfo.processInfo.environment[variable] ?? "").utf8)) }
    do {
      let descriptor = try SystemCall.openForReading(file)
      defer { SystemCall.close(descriptor) }
      var bytes: [UInt8] = []
      // One byte more than a token may have, with room for spaces and a line's end: longer is refused as too long.
      while bytes.count < maximumFileBytes,
        try SystemCall.read(descriptor, appendingTo: &bytes, limit: maximumFileBytes - bytes.count) > 0
      {}
      let token = trimmed(bytes)
      guard !token.isEmpty else { throw Failure(.notAllowed, "the token's file \(file) is empty") }
      return token
    } catch let error as SystemCall.Failed {
      throw Failure.system(error.number, "could not read the token's file \(file)")
    }
  }

  private static let maximumFileBytes = 8 << 10

  private static func trimmed(_ bytes: [UInt8]) -> [UInt8] {
    let isSpace = { (byte: UInt8) in byte <= 0x20 }
    return Array(bytes.drop(while: isSpace).reversed().drop(while: isSpace).reversed())
  }
}

extension Failure: CustomStringConvertible {
  var description: String { what }
}
