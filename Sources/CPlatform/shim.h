/* What Swift's modules of the C library leave out.

   Words of memory that several processes share: atomic access, and sleeping until one changes. Swift's atomics cannot be
   laid over memory that somebody else maps too, and futex(2) has no wrapper in libc. */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t shared_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
static inline void shared_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }
static inline uint64_t shared_add(uint64_t *word, uint64_t value) {
  return __atomic_add_fetch(word, value, __ATOMIC_SEQ_CST);
}
static inline int shared_exchange(uint64_t *word, uint64_t expected, uint64_t desired) {
  return __atomic_compare_exchange_n(word, &expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline uint32_t shared_load32(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
static inline uint32_t shared_add32(uint32_t *word, uint32_t value) {
  return __atomic_add_fetch(word, value, __ATOMIC_SEQ_CST);
}

/* Asks for what will be read soon. */
static inline void prefetch(const void *address) { __builtin_prefetch(address); }

/* Sleeps until the word is no longer `expected`, somebody wakes its sleepers, or `milliseconds` have passed (0: never).
   May return early for no reason. */
#if defined(__linux__)
#include <linux/futex.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline void shared_sleep(uint32_t *word, uint32_t expected, uint64_t milliseconds) {
  struct timespec timeout = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000};
  syscall(SYS_futex, word, FUTEX_WAIT, expected, milliseconds ? &timeout : 0, 0, 0);
}
static inline void shared_wake(uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, 0, 0, 0); }

/* Has the device begin with what is written of a file's range, and waits for nothing; says nothing of how it went. 32-bit
   systems, whose arguments are laid out in several ways, do without. */
static inline void begin_writeback(int descriptor, uint64_t offset, uint64_t count) {
#if defined(SYS_sync_file_range) && UINTPTR_MAX > 0xFFFFFFFFu
  syscall(SYS_sync_file_range, descriptor, offset, count, 2u /* SYNC_FILE_RANGE_WRITE */);
#endif
}

/* The kind of the file system that holds the path, as statfs(2) numbers them; 0 when that cannot be found out. */
static inline uint64_t file_system_kind(const char *path) {
  struct statfs volume;
  return statfs(path, &volume) == 0 ? (uint32_t)volume.f_type : 0;
}

/* A socket that tells of links, addresses and routes that come and go; -1 when there is none to be had. It does not
   block. Swift sees neither the structures nor the macros of netlink. */
static inline int network_changes_open(void) {
  int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (descriptor < 0) return -1;
  struct sockaddr_nl address = {.nl_family = AF_NETLINK,
                                .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                             RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE};
  if (bind(descriptor, (struct sockaddr *)&address, sizeof address) == 0) return descriptor;
  close(descriptor);
  return -1;
}

/* Whether one of the messages says that a link is up, or that an address or a route is there. */
static inline int network_changes_gain(const void *bytes, uint64_t count) {
  unsigned int left = (unsigned int)count;
  for (const struct nlmsghdr *message = (const struct nlmsghdr *)bytes; NLMSG_OK(message, left);
       message = NLMSG_NEXT(message, left)) {
    if (message->nlmsg_type == RTM_NEWADDR || message->nlmsg_type == RTM_NEWROUTE) return 1;
    if (message->nlmsg_type != RTM_NEWLINK) continue;
    if (message->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg))) return 1;
    if (((const struct ifinfomsg *)NLMSG_DATA(message))->ifi_flags & 1 /* IFF_UP */) return 1;
  }
  return 0;
}
#elif defined(__APPLE__)
#include <os/os_sync_wait_on_address.h>

static inline void shared_sleep(uint32_t *word, uint32_t expected, uint64_t milliseconds) {
  if (milliseconds == 0) {
    os_sync_wait_on_address(word, expected, sizeof *word, OS_SYNC_WAIT_ON_ADDRESS_SHARED);
  } else {
    os_sync_wait_on_address_with_timeout(
        word, expected, sizeof *word, OS_SYNC_WAIT_ON_ADDRESS_SHARED, OS_CLOCK_MACH_ABSOLUTE_TIME, milliseconds * 1000000);
  }
}
static inline void shared_wake(uint32_t *word) {
  os_sync_wake_by_address_all(word, sizeof *word, OS_SYNC_WAKE_BY_ADDRESS_SHARED);
}
#else
/* Without the system's help sleepers look every few milliseconds. */
static inline void shared_sleep(uint32_t *word, uint32_t expected, uint64_t milliseconds) {
  struct timespec pause = {0, 10000000};
  if (shared_load32(word) == expected) nanosleep(&pause, 0);
}
static inline void shared_wake(uint32_t *word) { (void)word; }
#endif
