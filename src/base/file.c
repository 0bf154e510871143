/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static cs_code fail_open(const char *path, int errnum, struct cs_err *e)
{
    cs_code code = errnum == ENOENT                      ? CS_NOT_FOUND
                   : errnum == EACCES || errnum == EPERM ? CS_DENIED
                                                         : CS_INTERNAL;
    return cs_fail_errno(e, code, errnum, "open %s", path);
}

static int open_retry(const char *path, int flags, mode_t mode)
{
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static cs_code too_large(const char *path, size_t max, struct cs_err *e)
{
    return cs_fail(e, CS_EXHAUSTED, "read %s: file is larger than %zu bytes", path, max);
}

/* Reads to the end; grows by what the file says it holds, and copes with files that say nothing. */
static cs_code read_all(int fd, const char *path, size_t max, struct cs_buf *out, struct cs_err *e)
{
    struct stat st;
    size_t got = 0, chunk = 4096;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        if ((uint64_t)st.st_size > max)
            return too_large(path, max, e);
        chunk = (size_t)st.st_size + 1; /* one more, so that the end shows without growing */
    }
    for (;;) {
        if (!cs_buf_reserve(out, chunk))
            return cs_fail(e, CS_INTERNAL, "read %s: out of memory", path);
        ssize_t n = read(fd, out->data + out->len, chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cs_fail_errno(e, CS_INTERNAL, errno, "read %s", path);
        if (n == 0)
            return CS_OK;
        got += (size_t)n;
        out->len += (size_t)n;
        if (got > max)
            return too_large(path, max, e);
        if (chunk < 65536 && (size_t)n == chunk)
            chunk *= 2;
    }
}

cs_code cs_file_read(const char *path, size_t max, struct cs_buf *out, struct cs_err *e)
{
    size_t start = out->len;
    int CS_CLEANUP(close_fd) fd = open_retry(path, O_RDONLY, 0);
    if (fd < 0)
        return fail_open(path, errno, e);
    cs_code code = read_all(fd, path, max, out, e);
    if (code != CS_OK)
        out->len = start;
    return code;
}

static cs_code write_all(int fd, const char *path, struct cs_slice data, struct cs_err *e)
{
    while (data.len > 0) {
        ssize_t n = write(fd, data.data, data.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cs_fail_errno(e, errno == ENOSPC || errno == EDQUOT ? CS_EXHAUSTED : CS_INTERNAL, errno,
                                 "write %s", path);
        data.data += n;
        data.len -= (size_t)n;
    }
    return CS_OK;
}

/* Creates "PATH.<random>.tmp"; a name that is taken is tried again with another one. */
static cs_code create_temp(const char *path, char **temp, int *fd, struct cs_err *e)
{
    for (int tries = 0; tries < 8; tries++) {
        uint64_t r;
        CS_TRY(cs_random(&r, sizeof r, e));
        cs_free(*temp);
        *temp = cs_asprintf("%s.%016llx.tmp", path, (unsigned long long)r);
        if (*temp == NULL)
            return cs_nomem(e);
        *fd = open_retry(*temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        if (*fd >= 0)
            return CS_OK;
        if (errno != EEXIST)
            break;
    }
    return fail_open(*temp, errno, e);
}

/* The folder of path, to make a rename in it durable. Opened before the rename, so that nothing but the
 * disk can fail after it. */
static cs_code open_folder(const char *path, int *fd, struct cs_err *e)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    char *CS_CLEANUP(cs_freep) folder = n == 0 ? cs_strdup(".") : cs_strndup(path, n);
    if (folder == NULL)
        return cs_nomem(e);
    *fd = open_retry(folder, O_RDONLY | O_DIRECTORY, 0);
    return *fd >= 0 ? CS_OK : fail_open(folder, errno, e);
}

/* Everything up to the point where the temporary file is complete and on disk. Closes fd. */
static cs_code fill_temp(int fd, const char *temp, struct cs_slice data, mode_t mode, struct cs_err *e)
{
    cs_code code = write_all(fd, temp, data, e);
    /* fchmod, for the mode given to open is cut by the umask */
    if (code == CS_OK && fchmod(fd, mode) != 0)
        code = cs_fail_errno(e, CS_INTERNAL, errno, "chmod %s", temp);
    if (code == CS_OK && fsync(fd) != 0)
        code = cs_fail_errno(e, CS_INTERNAL, errno, "fsync %s", temp);
    if (close(fd) != 0 && code == CS_OK && errno != EINTR)
        code = cs_fail_errno(e, CS_INTERNAL, errno, "close %s", temp);
    return code;
}

cs_code cs_file_write_atomic(const char *path, struct cs_slice data, mode_t mode, struct cs_err *e)
{
    char *CS_CLEANUP(cs_freep) temp = NULL;
    int CS_CLEANUP(close_fd) folder = -1;
    int fd = -1;

    CS_TRY(open_folder(path, &folder, e));
    CS_TRY(create_temp(path, &temp, &fd, e));
    cs_code code = fill_temp(fd, temp, data, mode, e);
    if (code == CS_OK && rename(temp, path) != 0)
        code = cs_fail_errno(e, CS_INTERNAL, errno, "rename %s %s", temp, path);
    if (code != CS_OK) {
        (void)unlink(temp);
        return code;
    }
    /* Some file systems cannot sync a folder; they say EINVAL. */
    if (fsync(folder) != 0 && errno != EINVAL)
        return cs_fail_errno(e, CS_INTERNAL, errno, "fsync folder of %s", path);
    return CS_OK;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

cs_code cs_mkdir_all(const char *path, mode_t mode, struct cs_err *e)
{
    if (is_folder(path))
        return CS_OK;
    char *CS_CLEANUP(cs_freep) copy = cs_strdup(path);
    if (copy == NULL)
        return cs_nomem(e);
    for (char *at = copy; *at != '\0';) {
        at += strspn(at, "/");
        at += strcspn(at, "/");
        char keep = *at;
        *at = '\0';
        if (copy[0] != '\0' && mkdir(copy, mode) != 0) {
            int errnum = errno; /* another maker may have won; what is in the way may be a file */
            if (!is_folder(copy))
                return cs_fail_errno(e, errnum == EACCES ? CS_DENIED : CS_INTERNAL,
                                     errnum == EEXIST ? ENOTDIR : errnum, "mkdir %s", copy);
        }
        *at = keep;
    }
    return CS_OK;
}
