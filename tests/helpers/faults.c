// Fails or kills a process at its N-th write operation on files below a folder; loaded by
// LD_PRELOAD, driven by faults.py. Operations: opening for writing, writing, flushing, closing,
// renaming, linking, removing, making a folder.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, FAIL, FAIL_ON };
enum { DESCRIPTORS = 4096 };

static char below[4096];
static long at = -1, done = 0;
static int mode = COUNT, error_number = 0;
static char watched[DESCRIPTORS];

// Begin to count: fault (kill, or errno `error`) at operation `n`, from 1.
void faults_set(const char* folder, long n, int how, int error) {
  snprintf(below, sizeof below, "%s", folder);
  at = n;
  mode = how;
  error_number = error;
  done = 0;
  memset(watched, 0, sizeof watched);
}

long faults_done(void) { return done; }

static int is_below(const char* path) {
  return below[0] && path && !strncmp(path, below, strlen(below));
}

static int is_watched(int fd) { return fd > 2 && fd < DESCRIPTORS && watched[fd]; }

static int fault(void) {
  long n = __sync_add_and_fetch(&done, 1);
  if (mode == COUNT || (mode == FAIL_ON ? n < at : n != at)) return 0;
  if (mode == KILL) kill(getpid(), SIGKILL);
  errno = error_number;
  return 1;
}

// Removing something succeeds on a full disk; a process may be killed there.
static void removal(void) {
  if (mode == KILL || mode == COUNT) fault();
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int note(int fd, int counted) {
  if (fd >= 0 && fd < DESCRIPTORS) watched[fd] = (char)counted;
  return fd;
}

#define OPEN(name, parameters, arguments) \
  int name parameters { \
    REAL(name); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t permissions = va_arg(rest, mode_t); \
    va_end(rest); \
    int counted = is_below(path) && (flags & O_ACCMODE) != O_RDONLY; \
    if (counted && fault()) return -1; \
    return note(real arguments, counted); \
  }
OPEN(open, (const char* path, int flags, ...), (path, flags, permissions))
OPEN(open64, (const char* path, int flags, ...), (path, flags, permissions))
OPEN(openat, (int folder, const char* path, int flags, ...), (folder, path, flags, permissions))
OPEN(openat64, (int folder, const char* path, int flags, ...), (folder, path, flags, permissions))

#define STREAM(name) \
  FILE* name(const char* path, const char* how) { \
    REAL(name); \
    int counted = is_below(path) && strpbrk(how, "wa+"); \
    if (counted && fault()) return NULL; \
    FILE* file = real(path, how); \
    if (file) note(fileno(file), counted); \
    return file; \
  }
STREAM(fopen)
STREAM(fopen64)

size_t fwrite(const void* data, size_t size, size_t count, FILE* file) {
  REAL(fwrite);
  if (is_watched(fileno(file)) && fault()) return 0;
  return real(data, size, count, file);
}

int fclose(FILE* file) {
  REAL(fclose);
  int bad = is_watched(fileno(file)) && fault();
  if (fileno(file) >= 0) note(fileno(file), 0);
  int result = real(file);
  if (!bad) return result;
  errno = error_number;
  return EOF;
}

ssize_t write(int fd, const void* data, size_t size) {
  REAL(write);
  if (is_watched(fd)) {
    if (mode == KILL && done + 1 == at && size > 1) real(fd, data, size / 2);  // half of it
    if (fault()) return -1;
  }
  return real(fd, data, size);
}

#define ON_DESCRIPTOR(type, name, parameters, arguments) \
  type name parameters { \
    REAL(name); \
    if (is_watched(fd) && fault()) return -1; \
    return real arguments; \
  }
ON_DESCRIPTOR(ssize_t, pwrite64, (int fd, const void* data, size_t size, off64_t place),
              (fd, data, size, place))
ON_DESCRIPTOR(ssize_t, writev, (int fd, const struct iovec* data, int count), (fd, data, count))
ON_DESCRIPTOR(int, fdatasync, (int fd), (fd))
ON_DESCRIPTOR(int, ftruncate64, (int fd, off64_t size), (fd, size))

int fsync(int fd) {  // also of descriptors that were opened for reading
  REAL(fsync);
  if (below[0] && fault()) return -1;
  return real(fd);
}

int close(int fd) {
  REAL(close);
  int bad = is_watched(fd) && fault();
  note(fd, 0);
  int result = real(fd);
  if (!bad) return result;
  errno = error_number;
  return -1;
}

#define ON_PATH(name, path, parameters, arguments) \
  int name parameters { \
    REAL(name); \
    if (is_below(path) && fault()) return -1; \
    return real arguments; \
  }
ON_PATH(rename, to, (const char* from, const char* to), (from, to))
ON_PATH(renameat, to, (int a, const char* from, int b, const char* to), (a, from, b, to))
ON_PATH(link, to, (const char* from, const char* to), (from, to))
ON_PATH(linkat, to, (int a, const char* from, int b, const char* to, int f), (a, from, b, to, f))
ON_PATH(mkdir, path, (const char* path, mode_t permissions), (path, permissions))

#define REMOVAL(name, parameters, arguments) \
  int name parameters { \
    REAL(name); \
    if (is_below(path)) removal(); \
    return real arguments; \
  }
REMOVAL(unlink, (const char* path), (path))
REMOVAL(unlinkat, (int folder, const char* path, int flags), (folder, path, flags))
REMOVAL(rmdir, (const char* path), (path))
