// Calls of the C library that fail at the n-th time: preloaded into a program by injection.py.
//
// arm_faults(kind, nth, onward): from now on, the nth call of that kind (0: none) fails, and every
// later one, too, if onward is not 0. share_calls() returns where the calls of each kind are counted
// from then on; forks share that memory.
//   write   ENOSPC  to regular files, except standard output
//   print   ENOSPC  to standard output that is a regular file
//   rename  EIO
//   fsync   EIO
//   open    ENOSPC  for writing, and new folders; not below /dev and /proc
//   malloc  ENOMEM  of 64 kB or more
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum Kind { kNone, kWrite, kPrint, kRename, kFsync, kOpen, kMalloc, kKinds };

static const size_t kLarge = 65536;
static _Atomic int armed = kNone;
static int failing = 0;
static int forever = 0;
static _Atomic int* counts = NULL;

int* share_calls(void) {
  const size_t size = kKinds * sizeof *counts;
  counts = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return (int*)counts;
}

void arm_faults(int kind, int nth, int onward) {
  failing = nth;
  forever = onward;
  for (int other = 0; other < kKinds; other++) atomic_store(&counts[other], 0);
  atomic_store(&armed, kind);
}

static int Fails(enum Kind kind, int error) {
  if (counts == NULL) return 0;
  const int call = atomic_fetch_add(&counts[kind], 1) + 1;
  if (atomic_load(&armed) != (int)kind || failing == 0 || !(forever ? call >= failing : call == failing)) return 0;
  errno = error;
  return 1;
}

static int WriteFails(int file) {
  const enum Kind kind = file == STDOUT_FILENO ? kPrint : kWrite;
  struct stat status;
  if (counts == NULL) return 0;
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
  return Fails(kind, ENOSPC);
}

static int OpenFails(const char* path, int flags) {
  if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) == 0) return 0;
  if (strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/", 6) == 0) return 0;
  return Fails(kOpen, ENOSPC);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void* bytes, size_t count) {
  return WriteFails(file) ? -1 : REAL(write)(file, bytes, count);
}

ssize_t pwrite(int file, const void* bytes, size_t count, off_t place) {
  return WriteFails(file) ? -1 : REAL(pwrite)(file, bytes, count, place);
}

ssize_t pwrite64(int file, const void* bytes, size_t count, off64_t place) {
  return WriteFails(file) ? -1 : REAL(pwrite64)(file, bytes, count, place);
}

ssize_t writev(int file, const struct iovec* parts, int count) {
  return WriteFails(file) ? -1 : REAL(writev)(file, parts, count);
}

ssize_t sendfile(int file, int from, off_t* place, size_t count) {
  ssize_t (*real)(int, int, off_t*, size_t) = dlsym(RTLD_NEXT, "sendfile");
  return WriteFails(file) ? -1 : real(file, from, place, count);
}

ssize_t sendfile64(int file, int from, off64_t* place, size_t count) {
  ssize_t (*real)(int, int, off64_t*, size_t) = dlsym(RTLD_NEXT, "sendfile64");
  return WriteFails(file) ? -1 : real(file, from, place, count);
}

ssize_t copy_file_range(int from, off64_t* in, int file, off64_t* out, size_t count, unsigned how) {
  return WriteFails(file) ? -1 : REAL(copy_file_range)(from, in, file, out, count, how);
}

size_t fwrite(const void* bytes, size_t size, size_t count, FILE* file) {
  return WriteFails(fileno(file)) ? 0 : REAL(fwrite)(bytes, size, count, file);
}

int posix_fallocate(int file, off_t place, off_t count) {
  return WriteFails(file) ? ENOSPC : REAL(posix_fallocate)(file, place, count);
}

int posix_fallocate64(int file, off64_t place, off64_t count) {
  return WriteFails(file) ? ENOSPC : REAL(posix_fallocate64)(file, place, count);
}

int rename(const char* from, const char* to) {
  return Fails(kRename, EIO) ? -1 : REAL(rename)(from, to);
}

int renameat(int a, const char* from, int b, const char* to) {
  return Fails(kRename, EIO) ? -1 : REAL(renameat)(a, from, b, to);
}

int fsync(int file) { return Fails(kFsync, EIO) ? -1 : REAL(fsync)(file); }

int fdatasync(int file) { return Fails(kFsync, EIO) ? -1 : REAL(fdatasync)(file); }

int mkdir(const char* path, mode_t mode) {
  return OpenFails(path, O_CREAT) ? -1 : REAL(mkdir)(path, mode);
}

#define OPEN(name)                                                    \
  int name(const char* path, int flags, ...) {                        \
    va_list rest;                                                     \
    va_start(rest, flags);                                            \
    const mode_t mode = va_arg(rest, mode_t);                         \
    va_end(rest);                                                     \
    return OpenFails(path, flags) ? -1 : REAL(name)(path, flags, mode); \
  }

#define OPEN_AT(name)                                                         \
  int name(int folder, const char* path, int flags, ...) {                    \
    va_list rest;                                                             \
    va_start(rest, flags);                                                    \
    const mode_t mode = va_arg(rest, mode_t);                                 \
    va_end(rest);                                                             \
    return OpenFails(path, flags) ? -1 : REAL(name)(folder, path, flags, mode); \
  }

OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)

FILE* fopen(const char* path, const char* mode) {
  return mode[0] != 'r' && OpenFails(path, O_CREAT) ? NULL : REAL(fopen)(path, mode);
}

FILE* fopen64(const char* path, const char* mode) {
  return mode[0] != 'r' && OpenFails(path, O_CREAT) ? NULL : REAL(fopen64)(path, mode);
}

// glibc's own names: dlsym may allocate, so it cannot find malloc.
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  return size >= kLarge && Fails(kMalloc, ENOMEM) ? NULL : __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
  const int large = size > 0 && count >= kLarge / size;
  return large && Fails(kMalloc, ENOMEM) ? NULL : __libc_calloc(count, size);
}

void* realloc(void* old, size_t size) {
  return size >= kLarge && Fails(kMalloc, ENOMEM) ? NULL : __libc_realloc(old, size);
}

void* memalign(size_t alignment, size_t size) {
  return size >= kLarge && Fails(kMalloc, ENOMEM) ? NULL : __libc_memalign(alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void** made, size_t alignment, size_t size) {
  *made = memalign(alignment, size);
  return *made == NULL ? ENOMEM : 0;
}
