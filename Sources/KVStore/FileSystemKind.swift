// Refuses file systems that other machines see too: neither locks nor shared memory reach across a network.

#if canImport(Darwin)
  import Foundation
#else
  import CPlatform
#endif

package enum FileSystemKind {
  package static func refusal(_ name: String, _ path: String) -> StoreError {
    StoreError(
      .notAllowed,
      "the path is on a network file system (\(name)), where a store cannot be protected from other machines. Put the store on a local disk, and synchronise through a hub.",
      path: path)
  }

  /// The directory that names the path: what there is when nothing is there yet.
  private static func parent(_ path: String) -> String {
    var names = path[...]
    while names.count > 1, names.hasSuffix("/") { names = names.dropLast() }
    guard let slash = names.lastIndex(of: "/") else { return "." }
    return String(names[...slash])
  }

  #if canImport(Darwin)
    /// The network file system that holds the path, or the directory in which it is to be made.
    package static func network(holding path: String) -> String? {
      var volume = statfs()
      guard unsafe statfs(path, &volume) == 0 || unsafe statfs(parent(path), &volume) == 0,
        volume.f_flags & UInt32(MNT_LOCAL) == 0
      else { return nil }
      return unsafe withUnsafeBytes(of: &volume.f_fstypename) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
    }
  #else
    /// As statfs(2), linux/magic.h and the file systems' sources number them. FUSE is one number for what is local and
    /// what is not (sshfs, GlusterFS, s3fs, the shared folders of virtual machines): it counts as a network.
    private static let networks: [UInt64: String] = [
      0x6969: "NFS", 0x517B: "SMB", 0xFF53_4D42: "CIFS", 0xFE53_4D42: "SMB 2", 0x0102_1997: "9P", 0x5346_414F: "AFS",
      0x6B41_4653: "AFS", 0x7375_7245: "Coda", 0x564C: "NCP", 0x00C3_6400: "Ceph", 0x6573_5546: "FUSE",
      0x0BD0_0BD0: "Lustre", 0x0116_1970: "GFS2", 0x7461_636F: "OCFS2", 0x4750_4653: "GPFS", 0x1983_0326: "BeeGFS",
      0x2003_0528: "OrangeFS", 0x786F_4256: "VirtualBox shared folder",
    ]

    /// What a file system of this kind is called if other machines may have it too; nil: it is of this machine alone.
    package static func network(_ kind: UInt64) -> String? { networks[kind] }

    /// The network file system that holds the path, or the directory in which it is to be made.
    package static func network(holding path: String) -> String? {
      let kind = unsafe file_system_kind(path)
      return network(kind != 0 ? kind : unsafe file_system_kind(parent(path)))
    }
  #endif
}
