// Refuses file systems that other machines see too: neither locks nor shared memory reach across a network.

#if canImport(Darwin)
  import Foundation
#else
  import CPlatform
#endif

enum FileSystemKind {
  /// Throws ``StoreError`` `notAllowed` when `path` lies on a network file system.
  static func refuseNetwork(_ path: String) throws(StoreError) {
    guard let name = network(path) else { return }
    throw StoreError(
      .notAllowed,
      "the path is on a network file system (\(name)), where a store cannot be protected from other machines. Put the store on a local disk, and synchronise through a hub.",
      path: path)
  }

  #if canImport(Darwin)
    private static func network(_ path: String) -> String? {
      var volume = statfs()
      guard unsafe statfs(path, &volume) == 0, volume.f_flags & UInt32(MNT_LOCAL) == 0 else { return nil }
      return unsafe withUnsafeBytes(of: &volume.f_fstypename) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
    }
  #else
    /// As statfs(2) and linux/magic.h number them.
    private static let networks: [UInt64: String] = [
      0x6969: "NFS", 0x517B: "SMB", 0xFF53_4D42: "CIFS", 0xFE53_4D42: "SMB 2", 0x5346_414F: "AFS",
      0x6B41_4653: "AFS", 0x7375_7245: "Coda", 0x564C: "NCP", 0x00C3_6400: "Ceph", 0x0BD0_0BD0: "Lustre",
      0x0116_1970: "GFS2", 0x7461_636F: "OCFS2",
    ]

    private static func network(_ path: String) -> String? { networks[unsafe file_system_kind(path)] }
  #endif
}
