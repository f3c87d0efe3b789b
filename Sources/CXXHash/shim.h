// The library's functions, for long inputs, and behind the prefix XXH_INLINE_ the same ones for the compiler to inline:
// for an input of a hundred bytes the call costs more than the work.
#include <xxhash.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
