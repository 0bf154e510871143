/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/svidfiles.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA "..data"
#define DATA_NEW "..data_new"
#define LINK_NEW "..link_new"
#define FOLDER_MODE 0755
#define FILE_MODE 0600
#define GENERATION_PREFIX "..gen_"
#define GENERATION_DIGITS 16
#define GENERATION_LEN (sizeof GENERATION_PREFIX + GENERATION_DIGITS) /* with NUL */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FD CS_CLEANUP(close_fd) int

static cs_code failed(const struct agent_svid_files *f, const char *what, const char *name, struct cs_err *e)
{
    int err = errno;
    return cs_fail_errno(e, err == ENOSPC || err == EDQUOT ? CS_EXHAUSTED : CS_INTERNAL, err, "%s %s/%s",
                         what, f->dir, name);
}

static bool is_generation(const char *name)
{
    size_t prefix = sizeof GENERATION_PREFIX - 1;
    return strncmp(name, GENERATION_PREFIX, prefix) == 0 && strlen(name) == prefix + GENERATION_DIGITS;
}

/* --- One generation --- */

static cs_code own(const struct agent_svid_files *f, int fd, const char *name, struct cs_err *e)
{
    if (f->uid < 0 && f->gid < 0)
        return CS_OK;
    uid_t uid = f->uid < 0 ? (uid_t)-1 : (uid_t)f->uid;
    gid_t gid = f->gid < 0 ? (gid_t)-1 : (gid_t)f->gid;
    return fchown(fd, uid, gid) == 0 ? CS_OK : failed(f, "chown", name, e);
}

static cs_code write_all(int fd, struct cs_slice data)
{
    while (data.len > 0) {
        ssize_t n = write(fd, data.data, data.len);
        if (n < 0 && errno != EINTR)
            return CS_INTERNAL;
        if (n > 0) {
            data.data += n;
            data.len -= (size_t)n;
        }
    }
    return CS_OK;
}

/* Some file systems cannot sync a folder; they say EINVAL. */
static bool sync_folder(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL;
}

static cs_code write_file(const struct agent_svid_files *f, int dir, const struct agent_svid_file *file,
                          struct cs_err *e)
{
    AUTO_FD fd = openat(dir, file->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    if (fd < 0)
        return failed(f, "open", file->name, e);
    CS_TRY(own(f, fd, file->name, e));
    if (write_all(fd, file->data) != CS_OK)
        return failed(f, "write", file->name, e);
    if (fchmod(fd, FILE_MODE) != 0 || fsync(fd) != 0)
        return failed(f, "fsync", file->name, e);
    return CS_OK;
}

static cs_code fill(const struct agent_svid_files *f, int root, const char *generation, struct cs_err *e)
{
    AUTO_FD dir = openat(root, generation, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return failed(f, "open", generation, e);
    for (size_t i = 0; i < AGENT_SVID_FILES; i++)
        CS_TRY(write_file(f, dir, &f->at[i], e));
    CS_TRY(own(f, dir, generation, e));
    if (fchmod(dir, FOLDER_MODE) != 0 || !sync_folder(dir))
        return failed(f, "fsync", generation, e);
    return CS_OK;
}

static void drop_generation(int root, const char *generation)
{
    AUTO_FD dir = openat(root, generation, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int copy = dir >= 0 ? dup(dir) : -1;
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (d == NULL && copy >= 0)
        close(copy);
    for (struct dirent *en; d != NULL && (en = readdir(d)) != NULL;)
        if (strcmp(en->d_name, ".") != 0 && strcmp(en->d_name, "..") != 0)
            (void)unlinkat(dir, en->d_name, 0);
    if (d != NULL)
        closedir(d);
    (void)unlinkat(root, generation, AT_REMOVEDIR);
}

/* All but the two named (either may be ""). What does not go is tried again next time. */
static void drop_others(int root, const char *keep, const char *keep_too)
{
    int copy = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (d == NULL && copy >= 0)
        close(copy);
    for (struct dirent *en; d != NULL && (en = readdir(d)) != NULL;)
        if (is_generation(en->d_name) && strcmp(en->d_name, keep) != 0 && strcmp(en->d_name, keep_too) != 0)
            drop_generation(root, en->d_name);
    if (d != NULL)
        closedir(d);
}

/* --- Links --- */

static bool link_is(int root, const char *name, const char *target)
{
    char text[PATH_MAX];
    ssize_t n = readlinkat(root, name, text, sizeof text);
    return n >= 0 && cs_slice_is(cs_slice_of(text, (size_t)n), target);
}

/* Replaces whatever has the name, in one step. */
static cs_code set_link(const struct agent_svid_files *f, int root, const char *temp, const char *name,
                        const char *target, struct cs_err *e)
{
    if (link_is(root, name, target))
        return CS_OK;
    (void)unlinkat(root, temp, 0);
    if (symlinkat(target, root, temp) != 0)
        return failed(f, "symlink", temp, e);
    if (renameat(root, temp, root, name) == 0)
        return CS_OK;
    cs_code rc = failed(f, "rename", name, e);
    (void)unlinkat(root, temp, 0);
    return rc;
}

static cs_code set_names(const struct agent_svid_files *f, int root, struct cs_err *e)
{
    for (size_t i = 0; i < AGENT_SVID_FILES; i++) {
        CS_CLEANUP(cs_freep) char *target = cs_asprintf(DATA "/%s", f->at[i].name);
        if (target == NULL)
            return cs_nomem(e);
        CS_TRY(set_link(f, root, LINK_NEW, f->at[i].name, target, e));
    }
    return CS_OK;
}

static void present_generation(int root, char out[GENERATION_LEN])
{
    char text[PATH_MAX];
    ssize_t n = readlinkat(root, DATA, text, sizeof text - 1);
    out[0] = '\0';
    if (n < 0)
        return;
    text[n] = '\0';
    if (is_generation(text))
        memcpy(out, text, GENERATION_LEN);
}

/* --- The folder --- */

/* Each folder on the way that is missing, open to the workload, which has to get through: the umask is
 * stricter. */
static cs_code make_root(const char *path, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *copy = cs_strdup(path);
    if (copy == NULL)
        return cs_nomem(e);
    for (char *at = copy + strspn(copy, "/"); *at != '\0'; at += strspn(at, "/")) {
        at += strcspn(at, "/");
        char keep = *at;
        *at = '\0';
        if (mkdir(copy, FOLDER_MODE) == 0 ? chmod(copy, FOLDER_MODE) != 0 : errno != EEXIST)
            return cs_fail_errno(e, CS_INTERNAL, errno, "mkdir %s", copy);
        *at = keep;
    }
    return CS_OK;
}

static cs_code open_root(const struct agent_svid_files *f, int *root, struct cs_err *e)
{
    CS_TRY(make_root(f->dir, e));
    *root = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *root >= 0 ? CS_OK : cs_fail_errno(e, CS_INTERNAL, errno, "open %s", f->dir);
}

static cs_code new_generation(const struct agent_svid_files *f, int root, char out[GENERATION_LEN],
                              struct cs_err *e)
{
    uint64_t r;
    CS_TRY(cs_random(&r, sizeof r, e));
    (void)snprintf(out, GENERATION_LEN, GENERATION_PREFIX "%0*llx", GENERATION_DIGITS, (unsigned long long)r);
    if (mkdirat(root, out, 0700) != 0)
        return failed(f, "mkdir", out, e);
    cs_code rc = fill(f, root, out, e);
    if (rc != CS_OK)
        drop_generation(root, out);
    return rc;
}

cs_code agent_svid_files_write(const struct agent_svid_files *f, struct cs_err *e)
{
    AUTO_FD root = -1;
    char before[GENERATION_LEN], now[GENERATION_LEN];
    CS_TRY(open_root(f, &root, e));
    present_generation(root, before);
    CS_TRY(new_generation(f, root, now, e));
    cs_code rc = set_link(f, root, DATA_NEW, DATA, now, e);
    if (rc != CS_OK) {
        drop_generation(root, now);
        return rc;
    }
    CS_TRY(set_names(f, root, e));
    if (!sync_folder(root))
        return failed(f, "fsync", "", e);
    drop_others(root, now, before);
    return CS_OK;
}

cs_code agent_svid_files_remove(const struct agent_svid_files *f, struct cs_err *e)
{
    AUTO_FD root = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return errno == ENOENT ? CS_OK : cs_fail_errno(e, CS_INTERNAL, errno, "open %s", f->dir);
    /* first the one that takes all three away at once */
    if (unlinkat(root, DATA, 0) != 0 && errno != ENOENT)
        return failed(f, "unlink", DATA, e);
    for (size_t i = 0; i < AGENT_SVID_FILES; i++)
        if (unlinkat(root, f->at[i].name, 0) != 0 && errno != ENOENT)
            return failed(f, "unlink", f->at[i].name, e);
    drop_others(root, "", "");
    return sync_folder(root) ? CS_OK : failed(f, "fsync", "", e);
}
