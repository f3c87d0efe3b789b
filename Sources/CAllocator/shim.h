/* glibc's tuning of malloc, which Swift's Glibc module leaves out; empty elsewhere. */
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
