// Fails or kills a process at its N-th write operation on files below a folder; loaded by
// LD_PRELOAD, driven by faults.py. Operations: opening for writing, writing, growing, flushing,
// closing what was written, renaming, linking, removing, making a folder. Streams of stdio become
// descriptors of ours, so that what their buffers write is an operation, too.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, FAIL, FAIL_ON, SHORT, PAUSE };
enum { DESCRIPTORS = 4096 };
enum { FOREIGN, READ, WRITTEN };  // what a descriptor is

static char below[PATH_MAX];
static long at = -1, done = 0;
static int mode = COUNT, error_number = 0, log_fd = -1, run = 0;
static char watched[DESCRIPTORS];

// Begin to count: fault (kill, errno `error`, half a write, or a pause of `error` ms) at operation
// `n`, from 1. Every operation is a line in the file `log`: `number`, its name and its path.
void faults_set(const char* folder, long n, int how, int error, int log, int number) {
  snprintf(below, sizeof below, "%s", folder);
  at = n;
  mode = how;
  error_number = error;
  log_fd = log;
  run = number;
  done = 0;
  memset(watched, 0, sizeof watched);
}

static int is_below(int folder, const char* path) {
  char whole[2 * PATH_MAX];
  if (!below[0] || !path) return 0;
  if (path[0] != '/') {
    char link[64];
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, whole, PATH_MAX);
    if (length < 0) return 0;
    snprintf(whole + length, sizeof whole - (size_t)length, "/%s", path);
    path = whole;
  }
  size_t length = strlen(below);
  return !strncmp(path, below, length) && (path[length] == '/' || !path[length]);
}

static int kind(int fd) { return fd > 2 && fd < DESCRIPTORS ? watched[fd] : FOREIGN; }

static void record(const char* name, int fd, const char* path) {
  if (log_fd < 0) return;
  char link[64], target[PATH_MAX] = "", line[PATH_MAX + 128];
  if (!path) {
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = 0;
    path = target;
  }
  int length = snprintf(line, sizeof line, "%d %s %s\n", run, name, path);
  syscall(SYS_write, log_fd, line, length);
}

// Count an operation; whether it is the one to fail at, or to be killed at.
static int is_hit(const char* name, int fd, const char* path) {
  int before = errno;
  record(name, fd, path);
  errno = before;
  long n = __sync_add_and_fetch(&done, 1);
  if (mode == PAUSE && n == at) usleep((useconds_t)error_number * 1000);
  return mode >= KILL && mode <= FAIL_ON && (mode == FAIL_ON ? n >= at : n == at);
}

static int fault(const char* name, int fd, const char* path) {
  if (!is_hit(name, fd, path)) return 0;
  if (mode == KILL) kill(getpid(), SIGKILL);
  errno = error_number;
  return 1;
}

// Removing something succeeds on a full disk; a process may be killed there.
static void removal(const char* name, const char* path) {
  if (is_hit(name, -1, path) && mode == KILL) kill(getpid(), SIGKILL);
}

#define REAL(name)               \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int note(int fd, int what) {
  if (fd >= 0 && fd < DESCRIPTORS) watched[fd] = (char)what;
  return fd;
}

#define OPEN(name, folder, parameters, arguments)                                        \
  int name parameters {                                                                  \
    REAL(name);                                                                          \
    va_list rest;                                                                        \
    va_start(rest, flags);                                                               \
    mode_t permissions = va_arg(rest, mode_t);                                           \
    va_end(rest);                                                                        \
    int what = !is_below(folder, path) ? FOREIGN : (flags & O_ACCMODE) ? WRITTEN : READ; \
    if (what == WRITTEN && fault("open", -1, path)) return -1;                           \
    return note(real arguments, what);                                                   \
  }
OPEN(open, AT_FDCWD, (const char* path, int flags, ...), (path, flags, permissions))
OPEN(open64, AT_FDCWD, (const char* path, int flags, ...), (path, flags, permissions))
OPEN(openat, base, (int base, const char* path, int flags, ...), (base, path, flags, permissions))
OPEN(openat64, base, (int base, const char* path, int flags, ...), (base, path, flags, permissions))

// --- what is done with a descriptor ---

// On a write: kill after half of it, write half of it, or fail; else all of it is written.
#define HALVED(name, whole, half)                                 \
  if (kind(fd) != WRITTEN) return whole;                          \
  int halves = (mode == KILL || mode == SHORT) && done + 1 == at; \
  ssize_t written = halves ? half : -1;                           \
  if (fault(name, fd, NULL)) return -1;                           \
  if (mode == SHORT && halves && written > 0) return written;     \
  return whole

ssize_t write(int fd, const void* data, size_t size) {
  REAL(write);
  HALVED("write", real(fd, data, size), size > 1 ? real(fd, data, size / 2) : -1);
}

#define PLACED(name, offset)                                                                       \
  ssize_t name(int fd, const void* data, size_t size, offset place) {                              \
    REAL(name);                                                                                    \
    HALVED("write", real(fd, data, size, place), size > 1 ? real(fd, data, size / 2, place) : -1); \
  }
PLACED(pwrite, off_t)
PLACED(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec* data, int count) {
  REAL(writev);
  HALVED("write", real(fd, data, count),
         count > 0 ? syscall(SYS_write, fd, data->iov_base, data->iov_len / 2) : -1);
}

#define ON_DESCRIPTOR(type, name, parameters, arguments)          \
  type name parameters {                                          \
    REAL(name);                                                   \
    if (kind(fd) == WRITTEN && fault(#name, fd, NULL)) return -1; \
    return real arguments;                                        \
  }
ON_DESCRIPTOR(int, fdatasync, (int fd), (fd))
ON_DESCRIPTOR(int, ftruncate, (int fd, off_t size), (fd, size))
ON_DESCRIPTOR(int, ftruncate64, (int fd, off64_t size), (fd, size))
ON_DESCRIPTOR(int, fallocate, (int fd, int how, off_t from, off_t size), (fd, how, from, size))
ON_DESCRIPTOR(int, fallocate64, (int fd, int how, off64_t from, off64_t size),
              (fd, how, from, size))
ON_DESCRIPTOR(ssize_t, sendfile, (int fd, int from, off_t* place, size_t size),
              (fd, from, place, size))
ON_DESCRIPTOR(ssize_t, sendfile64, (int fd, int from, off64_t* place, size_t size),
              (fd, from, place, size))
ON_DESCRIPTOR(ssize_t, pwritev, (int fd, const struct iovec* data, int count, off_t place),
              (fd, data, count, place))
ON_DESCRIPTOR(ssize_t, pwritev64, (int fd, const struct iovec* data, int count, off64_t place),
              (fd, data, count, place))

ssize_t copy_file_range(int from, off64_t* a, int fd, off64_t* b, size_t size, unsigned flags) {
  REAL(copy_file_range);
  if (kind(fd) == WRITTEN && fault("copy_file_range", fd, NULL)) return -1;
  return real(from, a, fd, b, size, flags);
}

static int allocated(int result, int fd) {  // its error is its result
  return kind(fd) == WRITTEN && fault("fallocate", fd, NULL) ? error_number : result;
}
int posix_fallocate(int fd, off_t from, off_t size) {
  REAL(posix_fallocate);
  return allocated(real(fd, from, size), fd);
}
int posix_fallocate64(int fd, off64_t from, off64_t size) {
  REAL(posix_fallocate64);
  return allocated(real(fd, from, size), fd);
}

int fsync(int fd) {  // also of folders, which are opened for reading
  REAL(fsync);
  if (kind(fd) != FOREIGN && fault("fsync", fd, NULL)) return -1;
  return real(fd);
}

int close(int fd) {
  REAL(close);
  int bad = kind(fd) == WRITTEN && fault("close", fd, NULL);
  note(fd, FOREIGN);
  int result = real(fd);
  if (!bad) return result;
  errno = error_number;
  return -1;
}

// --- streams of stdio ---

static ssize_t stream_read(void* fd, char* data, size_t size) {
  return read((int)(long)fd, data, size);
}
static ssize_t stream_write(void* fd, const char* data, size_t size) {
  size_t sum = 0;  // fewer than `size` are an error here; stdio's own streams go on, too
  for (ssize_t written; sum < size; sum += (size_t)written) {
    written = write((int)(long)fd, data + sum, size - sum);
    if (written < 0) break;
  }
  return (ssize_t)sum;
}
static int stream_seek(void* fd, off64_t* place, int from) {
  *place = lseek64((int)(long)fd, *place, from);
  return *place < 0 ? -1 : 0;
}
static int stream_close(void* fd) { return close((int)(long)fd); }

#define STREAM(name)                                                                         \
  FILE* name(const char* path, const char* how) {                                            \
    REAL(name);                                                                              \
    if (!is_below(AT_FDCWD, path) || !strpbrk(how, "wa+")) return real(path, how);           \
    int flags = (how[0] == 'w'   ? O_TRUNC | O_CREAT                                         \
                 : how[0] == 'a' ? O_APPEND | O_CREAT                                        \
                                 : 0) |                                                      \
                (strchr(how, '+') ? O_RDWR : O_WRONLY) | (strchr(how, 'e') ? O_CLOEXEC : 0); \
    int fd = open64(path, flags, 0666);                                                      \
    if (fd < 0) return NULL;                                                                 \
    cookie_io_functions_t calls = {stream_read, stream_write, stream_seek, stream_close};    \
    return fopencookie((void*)(long)fd, how, calls);                                         \
  }
STREAM(fopen)
STREAM(fopen64)

// --- what is done with a name ---

#define ON_PATH(name, folder, path, parameters, arguments)           \
  int name parameters {                                              \
    REAL(name);                                                      \
    if (is_below(folder, path) && fault(#name, -1, path)) return -1; \
    return real arguments;                                           \
  }
#define HERE AT_FDCWD
ON_PATH(rename, HERE, to, (const char* from, const char* to), (from, to))
ON_PATH(renameat, b, to, (int a, const char* from, int b, const char* to), (a, from, b, to))
ON_PATH(renameat2, b, to, (int a, const char* from, int b, const char* to, unsigned f),
        (a, from, b, to, f))
int link(const char* from, const char* to) {  // of two that try, one succeeds
  REAL(link);
  if (!is_below(HERE, to)) return real(from, to);
  if (fault("link", -1, to)) return -1;
  int result = real(from, to);
  if (!result) record("linked", -1, to);
  return result;
}
ON_PATH(linkat, b, to, (int a, const char* from, int b, const char* to, int f), (a, from, b, to, f))
ON_PATH(symlink, HERE, to, (const char* from, const char* to), (from, to))
ON_PATH(symlinkat, b, to, (const char* from, int b, const char* to), (from, b, to))
ON_PATH(mkdir, HERE, path, (const char* path, mode_t permissions), (path, permissions))
ON_PATH(mkdirat, b, path, (int b, const char* path, mode_t permissions), (b, path, permissions))
ON_PATH(truncate, HERE, path, (const char* path, off_t size), (path, size))
ON_PATH(truncate64, HERE, path, (const char* path, off64_t size), (path, size))

#define REMOVAL(name, folder, parameters, arguments)  \
  int name parameters {                               \
    REAL(name);                                       \
    if (is_below(folder, path)) removal(#name, path); \
    return real arguments;                            \
  }
REMOVAL(unlink, HERE, (const char* path), (path))
REMOVAL(unlinkat, b, (int b, const char* path, int flags), (b, path, flags))
REMOVAL(rmdir, HERE, (const char* path), (path))
REMOVAL(remove, HERE, (const char* path), (path))
