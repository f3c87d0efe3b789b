#include <lmdb.h>

// Asks the processor for 4 KiB, all lines of them at once.
static inline void lmdb_prefetch(const void *start) {
  for (int offset = 0; offset < 4096; offset += 64) __builtin_prefetch((const char *)start + offset);
}
