// How the C allocator of this process keeps what was freed. By default glibc gives each of up to eight threads a core a
// heap of its own, and buffers of segments and blocks, which go from thread to thread, stay in all of them.
//
// `tools/bench replication` measures both settings; its processes have the same ones.

import CAllocator

enum Allocator {
  /// For a process with one session: one heap with room for the session's buffers, which are taken from the same memory
  /// again and again. The peak is reached within a few hundred milliseconds, and is the same after an hour.
  static func reuse() {
    #if canImport(Glibc)
      _ = mallopt(M_ARENA_MAX, 1)
      _ = mallopt(M_MMAP_THRESHOLD, 128 << 10)
      _ = mallopt(M_TOP_PAD, 4 << 20)
    #endif
  }

  /// For a hub with many: two heaps, and mappings that are given back for whatever has 64 KiB or more. A hub holds about
  /// a third less with it than by default, and no more after hours than after minutes.
  static func giveBack() {
    #if canImport(Glibc)
      _ = mallopt(M_ARENA_MAX, 2)
      _ = mallopt(M_MMAP_THRESHOLD, 64 << 10)
      _ = mallopt(M_TOP_PAD, 128 << 10)
    #endif
  }
}
