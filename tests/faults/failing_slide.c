/* Preloaded before the C library: reads of one file fail, as of a disk with bad blocks or a file server that is gone.
   FAIL_PATH: the file. FAIL_ERRNO: what they fail with. FAIL_LOW, FAIL_HIGH: bytes of it that cannot be read.
   FAIL_FROM: the first call that fails, counted in each process. FAIL_COUNT: a file for the number of calls. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

static long seen = 0;

static long number(const char *name, long otherwise)
{ const char *text = getenv(name); return text ? atol(text) : otherwise; }

static int fails(int fd, long at, long n)
{
    char link[64], path[PATH_MAX];
    const char *wanted = getenv("FAIL_PATH");
    int saved = errno;
    if (!wanted || fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0) return 0;
    path[length] = 0;
    if (strcmp(path, wanted)) return 0;
    if (at >= number("FAIL_HIGH", LONG_MAX) || at + n <= number("FAIL_LOW", 0)) return 0;
    if (__atomic_fetch_add(&seen, 1, __ATOMIC_SEQ_CST) < number("FAIL_FROM", 0)) return 0;
    errno = number("FAIL_ERRNO", EIO);
    return 1;
}

__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("FAIL_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) { fprintf(file, "%ld", seen); fclose(file); }
}

ssize_t read(int fd, void *data, size_t n)
{ return fails(fd, lseek(fd, 0, SEEK_CUR), n) ? -1 : REAL(ssize_t, read, int, void *, size_t)(fd, data, n); }
ssize_t pread(int fd, void *data, size_t n, off_t at)
{ return fails(fd, at, n) ? -1 : REAL(ssize_t, pread, int, void *, size_t, off_t)(fd, data, n, at); }
ssize_t pread64(int fd, void *data, size_t n, off64_t at)
{ return fails(fd, at, n) ? -1 : REAL(ssize_t, pread64, int, void *, size_t, off64_t)(fd, data, n, at); }

static size_t stream_fails(FILE *file, size_t n)
{
    if (!fails(fileno(file), ftell(file), n)) return 0;
    return 1;
}
size_t fread(void *data, size_t size, size_t n, FILE *file)
{ return stream_fails(file, size * n) ? 0 : REAL(size_t, fread, void *, size_t, size_t, FILE *)(data, size, n, file); }
size_t __fread_chk(void *data, size_t room, size_t size, size_t n, FILE *file)
{ (void)room; return fread(data, size, n, file); }
