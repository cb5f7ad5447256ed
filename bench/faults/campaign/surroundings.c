/* Preloaded before the C library: disks that fail, file systems with NFS's habits, clocks that jump. Below one folder.
 *
 *   PYRAMIDAI_BELOW    the folder; files elsewhere are left alone
 *   PYRAMIDAI_TOLD     a folder, not below that one, in which FAILED-PID says which call was the first to fail since the last arming
 *   PYRAMIDAI_HABITS   words, with commas between them:
 *                      nolink=ERRNO   link() is refused with that number, files without a name are not to be had
 *                      times=S        files' times are multiples of S seconds
 *                      silly          removing a file that a process has open renames it until all have closed it
 *                      stale=N        the N-th opening or stat fails once, with ESTALE
 *                      clock=SEED     the time of day jumps by hours back and forth, five times a second
 *
 * A program that has it loaded may call `disk_arm`: from then on the calls first..last, counted from 0 (last < 0: all
 * that follow), that change something on the disk fail with an errno; `looks_arm`, which is stale=N from then on; and
 * `disk_below`, which names the folder. How many calls and looks there were, and what failed first, it may ask. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

static char below[PATH_MAX];
static long first = -1, last = -1, seen = 0;
static int number = 0;
static int no_link = 0, silly = 0;
static long whole_s = 0, stale_at = -1, looked = 0;
static uint64_t clock_seed = 0;
static int told = 0;
static char victim[PATH_MAX];

void disk_below(const char *folder) { snprintf(below, sizeof below, "%s", folder); }

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("PYRAMIDAI_BELOW"), *habits = getenv("PYRAMIDAI_HABITS"), *at;
    if (folder) disk_below(folder);
    if (!habits) return;
    if ((at = strstr(habits, "nolink="))) no_link = atoi(at + 7);
    if ((at = strstr(habits, "times="))) whole_s = atol(at + 6);
    if (strstr(habits, "silly")) silly = 1;
    if ((at = strstr(habits, "stale="))) stale_at = atol(at + 6);
    if ((at = strstr(habits, "clock="))) clock_seed = strtoull(at + 6, NULL, 10) + 1;
}

static void arm(void)
{
    victim[0] = 0;
    __atomic_store_n(&told, 0, __ATOMIC_SEQ_CST);
}
void disk_arm(long from, long to, int error)
{
    first = from; last = to; number = error;
    __atomic_store_n(&seen, 0, __ATOMIC_SEQ_CST);
    arm();
}
void looks_arm(long at)
{
    stale_at = at;
    __atomic_store_n(&looked, 0, __ATOMIC_SEQ_CST);
    arm();
}
long disk_calls(void) { return __atomic_load_n(&seen, __ATOMIC_SEQ_CST); }
long disk_looks(void) { return __atomic_load_n(&looked, __ATOMIC_SEQ_CST); }
const char *disk_victim(void) { return victim; }

static void tell(const char *call, const char *path)
{
    const char *folder = getenv("PYRAMIDAI_TOLD"), *name = strrchr(path, '/');
    char file[PATH_MAX];
    if (__atomic_exchange_n(&told, 1, __ATOMIC_SEQ_CST)) return;
    int n = snprintf(victim, sizeof victim, "%s %.200s\n", call, name ? name + 1 : path);
    if (!folder) return;
    snprintf(file, sizeof file, "%s/FAILED-%d", folder, (int)getpid());
    int fd = REAL(int, open, const char *, int, ...)(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return;
    REAL(ssize_t, write, int, const void *, size_t)(fd, victim, n);
    REAL(int, close, int)(fd);
}

/* --- which file ------------------------------------------------------------------------------------------------- */

static int is_below(const char *path) { return below[0] && path && !strncmp(path, below, strlen(below)); }

static const char *of_fd(int fd, char *path)
{
    char link[64];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    errno = saved;
    if (n < 0) return NULL;
    path[n] = 0;
    return path;
}

/* The path of a name in an open folder, or of a name alone. */
static const char *of_name(int folder, const char *name, char *path)
{
    if (!below[0] || !name || name[0] == '/' || folder == AT_FDCWD) return name;
    char start[PATH_MAX];
    if (!of_fd(folder, start)) return name;
    if (snprintf(path, PATH_MAX, "%s/%s", start, name) >= PATH_MAX) return name;
    return path;
}

/* --- a disk that fails -------------------------------------------------------------------------------------------- */

static int fails(const char *call, const char *path)
{
    if (!is_below(path)) return 0;
    long at = __atomic_fetch_add(&seen, 1, __ATOMIC_SEQ_CST);
    if (first < 0 || at < first || (last >= 0 && at > last)) return 0;
    tell(call, path);
    errno = number;
    return 1;
}
static int fd_fails(const char *call, int fd) { char path[PATH_MAX]; return below[0] && fails(call, of_fd(fd, path)); }
/* A full disk and a quota let files be removed and their times be set. */
static int removal_fails(const char *call, const char *path)
{ return number != ENOSPC && number != EDQUOT && fails(call, path); }

static int is_stale(const char *path)
{
    if (!is_below(path) || __atomic_fetch_add(&looked, 1, __ATOMIC_SEQ_CST) != stale_at) return 0;
    tell("look", path);
    errno = ESTALE;
    return 1;
}

ssize_t write(int fd, const void *data, size_t n)
{ return fd_fails("write", fd) ? -1 : REAL(ssize_t, write, int, const void *, size_t)(fd, data, n); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{ return fd_fails("pwrite", fd) ? -1 : REAL(ssize_t, pwrite, int, const void *, size_t, off_t)(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{ return fd_fails("pwrite", fd) ? -1 : REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)(fd, data, n, at); }
int fsync(int fd) { return fd_fails("fsync", fd) ? -1 : REAL(int, fsync, int)(fd); }
int fdatasync(int fd) { return fd_fails("fdatasync", fd) ? -1 : REAL(int, fdatasync, int)(fd); }
int ftruncate(int fd, off_t n) { return fd_fails("ftruncate", fd) ? -1 : REAL(int, ftruncate, int, off_t)(fd, n); }
int ftruncate64(int fd, off64_t n)
{ return fd_fails("ftruncate", fd) ? -1 : REAL(int, ftruncate64, int, off64_t)(fd, n); }
int rename(const char *from, const char *to)
{ return fails("rename", to) ? -1 : REAL(int, rename, const char *, const char *)(from, to); }
int mkdir(const char *path, mode_t mode)
{ return fails("mkdir", path) ? -1 : REAL(int, mkdir, const char *, mode_t)(path, mode); }
int rmdir(const char *path)
{ return removal_fails("rmdir", path) ? -1 : REAL(int, rmdir, const char *)(path); }

static int refuses_link(const char *path)
{
    if (!no_link || !is_below(path)) return 0;
    errno = no_link;
    return 1;
}
int link(const char *from, const char *to)
{ return refuses_link(to) || fails("link", to) ? -1 : REAL(int, link, const char *, const char *)(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags)
{
    char path[PATH_MAX];
    const char *target = of_name(b, to, path);
    if (refuses_link(target) || fails("link", target)) return -1;
    return REAL(int, linkat, int, const char *, int, const char *, int)(a, from, b, to, flags);
}

static int opening_fails(const char *path, int flags)
{
    if (is_stale(path)) return 1;
    if ((flags & O_TMPFILE) == O_TMPFILE && no_link && is_below(path)) { errno = EOPNOTSUPP; return 1; }
    return (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) && fails("create", path);
}
#define MODE(flags) mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list l; va_start(l, flags); mode = va_arg(l, int); va_end(l); }
int open(const char *path, int flags, ...)
{ MODE(flags) return opening_fails(path, flags) ? -1 : REAL(int, open, const char *, int, ...)(path, flags, mode); }
int open64(const char *path, int flags, ...)
{ MODE(flags) return opening_fails(path, flags) ? -1 : REAL(int, open64, const char *, int, ...)(path, flags, mode); }
int openat(int folder, const char *name, int flags, ...)
{
    char path[PATH_MAX];
    MODE(flags)
    if (opening_fails(of_name(folder, name, path), flags)) return -1;
    return REAL(int, openat, int, const char *, int, ...)(folder, name, flags, mode);
}
int openat64(int folder, const char *name, int flags, ...)
{
    char path[PATH_MAX];
    MODE(flags)
    if (opening_fails(of_name(folder, name, path), flags)) return -1;
    return REAL(int, openat64, int, const char *, int, ...)(folder, name, flags, mode);
}

/* --- files' times ------------------------------------------------------------------------------------------------- */

static int rounded(int code, const char *path, struct stat *found)
{
    if (code == 0 && whole_s && is_below(path)) {
        found->st_mtim.tv_sec -= found->st_mtim.tv_sec % whole_s;
        found->st_ctim.tv_sec -= found->st_ctim.tv_sec % whole_s;
        found->st_mtim.tv_nsec = found->st_ctim.tv_nsec = 0;
    }
    return code;
}
#define STAT(name, type) int name(const char *path, struct type *found) \
{ return is_stale(path) ? -1 : rounded(REAL(int, name, const char *, struct type *)(path, found), path, (void *)found); }
STAT(stat, stat) STAT(stat64, stat64) STAT(lstat, stat) STAT(lstat64, stat64)
#define FSTAT(name, type) int name(int fd, struct type *found) \
{ char path[PATH_MAX]; int code = REAL(int, name, int, struct type *)(fd, found); \
  return whole_s && below[0] ? rounded(code, of_fd(fd, path), (void *)found) : code; }
FSTAT(fstat, stat) FSTAT(fstat64, stat64)
#define FSTATAT(name, type) int name(int folder, const char *given, struct type *found, int flags) \
{ char space[PATH_MAX]; const char *path = of_name(folder, given, space); \
  if (is_stale(path)) return -1; \
  return rounded(REAL(int, name, int, const char *, struct type *, int)(folder, given, found, flags), path, (void *)found); }
FSTATAT(fstatat, stat) FSTATAT(fstatat64, stat64)
int utimensat(int folder, const char *name, const struct timespec times[2], int flags)
{
    char path[PATH_MAX];
    if (removal_fails("utime", of_name(folder, name, path))) return -1;
    return REAL(int, utimensat, int, const char *, const struct timespec *, int)(folder, name, times, flags);
}

/* --- silly renames ------------------------------------------------------------------------------------------------ */

static int is_number(const char *name) { return name[0] >= '0' && name[0] <= '9'; }

/* Whether any process of this machine has the file open. */
static int is_open(const char *path)
{
    int found = 0, saved = errno;
    DIR *processes = opendir("/proc");
    for (struct dirent *one; processes && !found && (one = readdir(processes));) {
        if (!is_number(one->d_name)) continue;
        char folder[300], link[600], target[PATH_MAX];
        snprintf(folder, sizeof folder, "/proc/%s/fd", one->d_name);
        DIR *files = opendir(folder);
        for (struct dirent *file; files && !found && (file = readdir(files));) {
            if (!is_number(file->d_name)) continue;
            snprintf(link, sizeof link, "%s/%s", folder, file->d_name);
            ssize_t n = readlink(link, target, sizeof target - 1);
            if (n > 0) { target[n] = 0; found = !strcmp(target, path); }
        }
        if (files) closedir(files);
    }
    if (processes) closedir(processes);
    errno = saved;
    return found;
}

static int renamed_instead(const char *path)
{
    static unsigned count = 0;
    if (!silly || !is_below(path) || strstr(path, "/.nfs") || !is_open(path)) return 0;
    char other[PATH_MAX];
    const char *name = strrchr(path, '/');
    snprintf(other, sizeof other, "%.*s/.nfs%08x%08x", (int)(name - path), path, (unsigned)getpid(),
             __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST));
    return !REAL(int, rename, const char *, const char *)(path, other);
}
int unlink(const char *path)
{
    if (removal_fails("unlink", path)) return -1;
    return renamed_instead(path) ? 0 : REAL(int, unlink, const char *)(path);
}
int unlinkat(int folder, const char *name, int flags)
{
    char space[PATH_MAX];
    const char *path = of_name(folder, name, space);
    if (removal_fails(flags & AT_REMOVEDIR ? "rmdir" : "unlink", path)) return -1;
    if (!(flags & AT_REMOVEDIR) && renamed_instead(path)) return 0;
    return REAL(int, unlinkat, int, const char *, int)(folder, name, flags);
}
int close(int fd)
{
    char path[PATH_MAX];
    const char *name = silly && below[0] ? of_fd(fd, path) : NULL;
    int code = REAL(int, close, int)(fd);
    if (name && is_below(name) && strstr(name, "/.nfs") && !is_open(name)) {
        int saved = errno;
        REAL(int, unlink, const char *)(name);
        errno = saved;
    }
    return code;
}

/* --- clocks ------------------------------------------------------------------------------------------------------- */

static long jump_s(void)
{
    if (!clock_seed) return 0;
    struct timespec now;
    REAL(int, clock_gettime, clockid_t, struct timespec *)(CLOCK_MONOTONIC, &now);
    uint64_t x = clock_seed * 0x9E3779B97F4A7C15ull + (uint64_t)now.tv_sec * 5 + now.tv_nsec / 200000000 + getpid();
    x ^= x >> 31; x *= 0xBF58476D1CE4E5B9ull; x ^= x >> 27;
    return (long)(x % (2 * 12 * 3600)) - 12 * 3600;
}
int clock_gettime(clockid_t which, struct timespec *now)
{
    int code = REAL(int, clock_gettime, clockid_t, struct timespec *)(which, now);
    if (code == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += jump_s();
    return code;
}
int gettimeofday(struct timeval *now, void *zone)
{
    int code = REAL(int, gettimeofday, struct timeval *, void *)(now, zone);
    if (code == 0) now->tv_sec += jump_s();
    return code;
}
time_t time(time_t *kept)
{
    time_t now = REAL(time_t, time, time_t *)(NULL) + jump_s();
    if (kept) *kept = now;
    return now;
}
