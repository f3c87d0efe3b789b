// The PEM files of TLS: what each side has, and how it becomes what NIOSSL wants.
//
// Invariants:
// - TLS 1.3, nothing older. Certificates are always verified: the hub's by every replica, the name included; a replica's
//   by a hub that asks for one.
// - What cannot be read or understood is an error that names the file. No key is asked for at a terminal.

import NIOCore
import NIOSSL

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What a hub needs for TLS.
package struct ServerTLS: Sendable, Hashable {
  /// The hub's certificate, followed by those between it and the authority's.
  package var certificateFile: String
  package var keyFile: String
  /// Replicas must have a certificate of one of these authorities; `nil`: none is asked for.
  package var clientAuthorityFile: String?

  package init(certificateFile: String, keyFile: String, clientAuthorityFile: String? = nil) {
    self.certificateFile = certificateFile
    self.keyFile = keyFile
    self.clientAuthorityFile = clientAuthorityFile
  }

  var files: [String] { [certificateFile, keyFile] + (clientAuthorityFile.map { [$0] } ?? []) }

  func context() throws(TransportError) -> NIOSSLContext {
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: try PEMFile.certificates(certificateFile).map { .certificate($0) },
      privateKey: .privateKey(try PEMFile.key(keyFile)))
    if let clientAuthorityFile {
      configuration.trustRoots = .certificates(try PEMFile.certificates(clientAuthorityFile))
      configuration.certificateVerification = .noHostnameVerification
    }
    return try configuration.context(certificateFile: certificateFile, keyFile: keyFile)
  }
}

/// What a replica needs for TLS.
package struct ClientTLS: Sendable, Hashable {
  /// The authorities of which one must have signed the hub's certificate; `nil`: those that the system trusts.
  package var authorityFile: String?
  /// The replica's own certificate and key, for hubs that ask for them.
  package var certificateFile: String?
  package var keyFile: String?
  /// The name that the hub's certificate must be for; `nil`: the host connected to.
  package var hubName: String?

  package init(
    authorityFile: String? = nil, certificateFile: String? = nil, keyFile: String? = nil, hubName: String? = nil
  ) {
    self.authorityFile = authorityFile
    self.certificateFile = certificateFile
    self.keyFile = keyFile
    self.hubName = hubName
  }

  func context() throws(TransportError) -> NIOSSLContext {
    var configuration = TLSConfiguration.makeClientConfiguration()
    if let authorityFile { configuration.trustRoots = .certificates(try PEMFile.certificates(authorityFile)) }
    guard let certificateFile else {
      return try configuration.context(certificateFile: authorityFile ?? "", keyFile: "")
    }
    let keyFile = keyFile ?? certificateFile
    configuration.certificateChain = try PEMFile.certificates(certificateFile).map { .certificate($0) }
    configuration.privateKey = .privateKey(try PEMFile.key(keyFile))
    return try configuration.context(certificateFile: certificateFile, keyFile: keyFile)
  }
}

extension TLSConfiguration {
  fileprivate func context(certificateFile: String, keyFile: String) throws(TransportError) -> NIOSSLContext {
    var configuration = self
    configuration.minimumTLSVersion = .tlsv13
    // Those that count without being asked for, and Ed25519.
    configuration.verifySignatureAlgorithms = [
      .ecdsaSecp256R1Sha256, .ed25519, .rsaPssRsaeSha256, .rsaPkcs1Sha256, .ecdsaSecp384R1Sha384, .rsaPssRsaeSha384,
      .rsaPkcs1Sha384, .rsaPssRsaeSha512, .rsaPkcs1Sha512,
    ]
    // Closing waits so long for the other side's last word.
    configuration.shutdownTimeout = .milliseconds(500)
    do {
      return try NIOSSLContext(configuration: configuration)
    } catch {
      throw .badTLSFile(path: certificateFile, reason: "it does not go with the key \(keyFile)")
    }
  }
}

private enum PEMFile {
  /// Far above any chain of certificates; a path that was mistyped may be a large file.
  static let maximumBytes = 1 << 20

  static func certificates(_ path: String) throws(TransportError) -> [NIOSSLCertificate] {
    let bytes = try read(path)
    guard let certificates = try? NIOSSLCertificate.fromPEMBytes(bytes), !certificates.isEmpty else {
      throw .badTLSFile(path: path, reason: "it holds no certificate in PEM format")
    }
    return certificates
  }

  static func key(_ path: String) throws(TransportError) -> NIOSSLPrivateKey {
    let bytes = try read(path)
    do {
      // Without this function a passphrase would be asked for at the terminal.
      return try NIOSSLPrivateKey(bytes: bytes, format: .pem) { (setter: NIOSSLPassphraseSetter<[UInt8]>) in setter([])
      }
    } catch {
      throw .badTLSFile(path: path, reason: "it holds no private key in PEM format without a passphrase")
    }
  }

  private static func read(_ path: String) throws(TransportError) -> [UInt8] {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw .badTLSFile(path: path, reason: reason(errno)) }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: maximumBytes)
    var count = 0
    while count < maximumBytes {
      let part = unsafe bytes.withUnsafeMutableBytes { space in
        guard let base = space.baseAddress else { return 0 }
        return unsafe systemRead(descriptor, base + count, space.count - count)
      }
      guard part >= 0 else { throw .badTLSFile(path: path, reason: reason(errno)) }
      if part == 0 { break }
      count += part
    }
    guard count > 0, count < maximumBytes else {
      throw .badTLSFile(path: path, reason: count == 0 ? "it is empty" : "it is larger than any PEM file")
    }
    bytes.removeLast(maximumBytes - count)
    return bytes
  }

  private static func reason(_ number: CInt) -> String {
    switch number {
    case ENOENT, ENOTDIR: "there is no such file"
    case EACCES, EPERM: "this user may not read it"
    case EISDIR: "it is a directory"
    default: "it cannot be read (system error \(number))"
    }
  }
}

private func systemRead(_ descriptor: CInt, _ bytes: UnsafeMutableRawPointer, _ count: Int) -> Int {
  unsafe read(descriptor, bytes, count)
}

/// What tells one version of a file from another.
struct FileStamp: Equatable {
  private var seconds: Int
  private var nanoseconds: Int
  private var bytes: Int
  private var number: UInt64

  /// `nil` when there is no such file.
  init?(_ path: String) {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    #if canImport(Darwin)
      let time = status.st_mtimespec
    #else
      let time = status.st_mtim
    #endif
    seconds = Int(time.tv_sec)
    nanoseconds = Int(time.tv_nsec)
    bytes = Int(status.st_size)
    number = UInt64(status.st_ino)
  }
}
