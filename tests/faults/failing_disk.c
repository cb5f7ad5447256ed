/* Preloaded before the C library: lets chosen calls on files below one folder fail, as a full or dying disk does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long first = -1, last = -1, seen = 0;
static int number = 0;
static char victim[128];

/* From now on calls first..last (counted from 0; last < 0: all after) on files below a folder fail with an errno. */
void disk_arm(const char *below, long from, long to, int error)
{
    strncpy(folder, below, sizeof folder - 1);
    first = from; last = to; number = error;
    __atomic_store_n(&seen, 0, __ATOMIC_SEQ_CST);
    victim[0] = 0;
}

void disk_disarm(void) { first = -1; folder[0] = 0; }
long disk_calls(void) { return seen; }
const char *disk_victim(void) { return victim; }

static int fails(const char *call, const char *path)
{
    if (!folder[0] || !path || strncmp(path, folder, strlen(folder))) return 0;
    long at = __atomic_fetch_add(&seen, 1, __ATOMIC_SEQ_CST);
    if (first < 0 || at < first || (last >= 0 && at > last)) return 0;
    if (!victim[0]) {
        const char *name = strrchr(path, '/');
        snprintf(victim, sizeof victim, "%s %.90s", call, name ? name + 1 : path);
    }
    errno = number;
    return 1;
}

static int fd_fails(const char *call, int fd)
{
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (n < 0) return 0;
    path[n] = 0;
    return fails(call, path);
}

#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t n)
{ return fd_fails("write", fd) ? -1 : REAL(ssize_t, write, int, const void *, size_t)(fd, data, n); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{ return fd_fails("pwrite", fd) ? -1 : REAL(ssize_t, pwrite, int, const void *, size_t, off_t)(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{ return fd_fails("pwrite", fd) ? -1 : REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)(fd, data, n, at); }
int fsync(int fd) { return fd_fails("fsync", fd) ? -1 : REAL(int, fsync, int)(fd); }
int fdatasync(int fd) { return fd_fails("fdatasync", fd) ? -1 : REAL(int, fdatasync, int)(fd); }
int ftruncate(int fd, off_t n) { return fd_fails("ftruncate", fd) ? -1 : REAL(int, ftruncate, int, off_t)(fd, n); }
int ftruncate64(int fd, off64_t n) { return fd_fails("ftruncate", fd) ? -1 : REAL(int, ftruncate64, int, off64_t)(fd, n); }
int rename(const char *from, const char *to)
{ return fails("rename", to) ? -1 : REAL(int, rename, const char *, const char *)(from, to); }
int link(const char *from, const char *to)
{ return fails("link", to) ? -1 : REAL(int, link, const char *, const char *)(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags)
{ return fails("link", to) ? -1 : REAL(int, linkat, int, const char *, int, const char *, int)(a, from, b, to, flags); }
int mkdir(const char *path, mode_t mode)
{ return fails("mkdir", path) ? -1 : REAL(int, mkdir, const char *, mode_t)(path, mode); }

static int creates(int flags) { return flags & O_CREAT; }
int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (creates(flags)) { __builtin_va_list l; __builtin_va_start(l, flags); mode = __builtin_va_arg(l, int); __builtin_va_end(l); }
    if (creates(flags) && fails("create", path)) return -1;
    return REAL(int, open, const char *, int, ...)(path, flags, mode);
}
int open64(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (creates(flags)) { __builtin_va_list l; __builtin_va_start(l, flags); mode = __builtin_va_arg(l, int); __builtin_va_end(l); }
    if (creates(flags) && fails("create", path)) return -1;
    return REAL(int, open64, const char *, int, ...)(path, flags, mode);
}
