/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fileset.h"

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
#define GENERATION_PREFIX "..gen_"
#define GENERATION_DIGITS 16
#define GENERATION_LEN (sizeof GENERATION_PREFIX + GENERATION_DIGITS) /* with NUL */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FD CS_CLEANUP(close_fd) int

static cs_code failed(const struct cs_fileset *f, const char *what, const char *name, struct cs_err *e)
{
    int err = errno;
    const char *base = f->base != NULL ? f->base : "", *slash = f->base != NULL && *f->dir != '\0' ? "/" : "";
    return cs_fail_errno(e, err == ENOSPC || err == EDQUOT ? CS_EXHAUSTED : CS_INTERNAL, err, "%s %s%s%s/%s",
                         what, base, slash, f->dir, name);
}

static bool is_generation(const char *name)
{
    size_t prefix = sizeof GENERATION_PREFIX - 1;
    return strncmp(name, GENERATION_PREFIX, prefix) == 0 && strlen(name) == prefix + GENERATION_DIGITS;
}

/* --- One generation --- */

static cs_code own(const struct cs_fileset *f, int fd, const char *name, struct cs_err *e)
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

static cs_code write_file(const struct cs_fileset *f, int dir, const struct cs_fileset_file *file,
                          struct cs_err *e)
{
    AUTO_FD fd = openat(dir, file->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(f, "open", file->name, e);
    CS_TRY(own(f, fd, file->name, e));
    if (write_all(fd, file->data) != CS_OK)
        return failed(f, "write", file->name, e);
    if (fchmod(fd, file->mode) != 0 || fsync(fd) != 0)
        return failed(f, "fsync", file->name, e);
    return CS_OK;
}

static cs_code fill(const struct cs_fileset *f, int root, const char *generation, struct cs_err *e)
{
    AUTO_FD dir = openat(root, generation, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return failed(f, "open", generation, e);
    for (size_t i = 0; i < f->count; i++)
        CS_TRY(write_file(f, dir, &f->files[i], e));
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
static cs_code set_link(const struct cs_fileset *f, int root, const char *temp, const char *name,
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

static cs_code set_names(const struct cs_fileset *f, int root, struct cs_err *e)
{
    for (size_t i = 0; i < f->count; i++) {
        CS_CLEANUP(cs_freep) char *target = cs_asprintf(DATA "/%s", f->files[i].name);
        if (target == NULL)
            return cs_nomem(e);
        CS_TRY(set_link(f, root, LINK_NEW, f->files[i].name, target, e));
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

/* --- What is not ours --- */

static bool is_ours(int root, const char *name)
{
    char text[PATH_MAX];
    size_t head = sizeof DATA; /* with the slash */
    ssize_t n = readlinkat(root, name, text, sizeof text);
    return n >= (ssize_t)head && memcmp(text, DATA "/", head) == 0 &&
           cs_slice_is(cs_slice_of(text + head, (size_t)n - head), name);
}

static bool is_there(int root, const char *name)
{
    struct stat st;
    return fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static cs_code leave_others_alone(const struct cs_fileset *f, int root, struct cs_err *e)
{
    char now[GENERATION_LEN];
    if (f->base == NULL)
        return CS_OK;
    present_generation(root, now);
    if (*now == '\0' && is_there(root, DATA))
        return cs_fail(e, CS_PRECONDITION, "%s/%s/" DATA " is of somebody else", f->base, f->dir);
    for (size_t i = 0; i < f->count; i++)
        if (is_there(root, f->files[i].name) && !is_ours(root, f->files[i].name))
            return cs_fail(e, CS_PRECONDITION, "%s/%s/%s is there and of somebody else", f->base, f->dir,
                           f->files[i].name);
    return CS_OK;
}

static bool is_named(const struct cs_fileset *f, const char *name)
{
    bool named = false;
    for (size_t i = 0; i < f->count && !named; i++)
        named = strcmp(f->files[i].name, name) == 0;
    return named;
}

/* Links that lead nowhere since the set has other names. */
static void drop_old_names(const struct cs_fileset *f, int root)
{
    int copy = f->base != NULL ? openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (d == NULL && copy >= 0)
        close(copy);
    for (struct dirent *en; d != NULL && (en = readdir(d)) != NULL;)
        if (!is_named(f, en->d_name) && is_ours(root, en->d_name))
            (void)unlinkat(root, en->d_name, 0);
    if (d != NULL)
        closedir(d);
}

/* The link that a writer was killed over, between making it and giving it its name. */
static void drop_begun_links(int root)
{
    char text[PATH_MAX];
    ssize_t n = readlinkat(root, DATA_NEW, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    if (is_generation(text))
        (void)unlinkat(root, DATA_NEW, 0);
    n = readlinkat(root, LINK_NEW, text, sizeof text);
    if (n > (ssize_t)sizeof DATA && memcmp(text, DATA "/", sizeof DATA) == 0)
        (void)unlinkat(root, LINK_NEW, 0);
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

/* One folder further down, made when it is missing. */
static cs_code step(const struct cs_fileset *f, const char *part, bool make, int *at, struct cs_err *e)
{
    if (*part == '\0' || strcmp(part, ".") == 0 || strcmp(part, "..") == 0)
        return cs_fail(e, CS_INVALID, "\"%.128s\" is no path inside of %s", f->dir, f->base);
    bool made = make && mkdirat(*at, part, FOLDER_MODE) == 0;
    int next = openat(*at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0 && (errno == ENOTDIR || errno == ELOOP))
        return cs_fail(e, CS_PRECONDITION, "\"%.64s\" on the way to %s/%.128s is a link or no folder", part,
                       f->base, f->dir);
    if (next < 0)
        return cs_fail_errno(e, errno == ENOENT ? CS_NOT_FOUND : CS_INTERNAL, errno, "open %s/%s", f->base,
                             f->dir);
    close(*at);
    *at = next;
    return !made || fchmod(next, FOLDER_MODE) == 0
               ? CS_OK
               : cs_fail_errno(e, CS_INTERNAL, errno, "chmod %s/%s", f->base, f->dir);
}

/* Folder by folder, so that no link can lead out of the base. */
static cs_code walk(const struct cs_fileset *f, bool make, int *root, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *copy = cs_strdup(f->dir);
    if (copy == NULL)
        return cs_nomem(e);
    AUTO_FD at = open(f->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return cs_fail_errno(e, CS_PRECONDITION, errno, "open %s", f->base);
    char *next = *copy != '\0' ? copy : NULL;
    while (next != NULL) {
        char *part = next;
        next = strchr(part, '/');
        if (next != NULL)
            *next++ = '\0';
        CS_TRY(step(f, part, make, &at, e));
    }
    *root = at;
    at = -1;
    return CS_OK;
}

static cs_code open_root(const struct cs_fileset *f, bool make, int *root, struct cs_err *e)
{
    if (f->base != NULL)
        return walk(f, make, root, e);
    if (make)
        CS_TRY(make_root(f->dir, e));
    *root = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *root >= 0
               ? CS_OK
               : cs_fail_errno(e, errno == ENOENT ? CS_NOT_FOUND : CS_INTERNAL, errno, "open %s", f->dir);
}

static cs_code new_generation(const struct cs_fileset *f, int root, char out[GENERATION_LEN],
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

cs_code cs_fileset_write(const struct cs_fileset *f, struct cs_err *e)
{
    AUTO_FD root = -1;
    char before[GENERATION_LEN], now[GENERATION_LEN];
    CS_TRY(open_root(f, true, &root, e));
    CS_TRY(leave_others_alone(f, root, e));
    present_generation(root, before);
    CS_TRY(new_generation(f, root, now, e));
    cs_code rc = set_link(f, root, DATA_NEW, DATA, now, e);
    if (rc != CS_OK) {
        drop_generation(root, now);
        return rc;
    }
    CS_TRY(set_names(f, root, e));
    drop_old_names(f, root);
    drop_begun_links(root);
    if (!sync_folder(root))
        return failed(f, "fsync", "", e);
    drop_others(root, now, before);
    return CS_OK;
}

/* Unlinks what of the set is there; with base, what is ours. */
static cs_code drop_names(const struct cs_fileset *f, int root, struct cs_err *e)
{
    char now[GENERATION_LEN];
    present_generation(root, now);
    /* first the one that takes all away at once */
    if ((f->base == NULL || *now != '\0') && unlinkat(root, DATA, 0) != 0 && errno != ENOENT)
        return failed(f, "unlink", DATA, e);
    for (size_t i = 0; i < f->count; i++)
        if ((f->base == NULL || is_ours(root, f->files[i].name)) &&
            unlinkat(root, f->files[i].name, 0) != 0 && errno != ENOENT)
            return failed(f, "unlink", f->files[i].name, e);
    return CS_OK;
}

cs_code cs_fileset_remove(const struct cs_fileset *f, struct cs_err *e)
{
    AUTO_FD root = -1;
    cs_code rc = open_root(f, false, &root, e);
    if (rc != CS_OK)
        return rc == CS_NOT_FOUND ? CS_OK : rc;
    CS_TRY(drop_names(f, root, e));
    drop_begun_links(root);
    drop_others(root, "", "");
    return sync_folder(root) ? CS_OK : failed(f, "fsync", "", e);
}

bool cs_fileset_present(const struct cs_fileset *f)
{
    AUTO_FD root = -1;
    struct stat st;
    if (open_root(f, false, &root, NULL) != CS_OK)
        return false;
    for (size_t i = 0; i < f->count; i++)
        if (!is_ours(root, f->files[i].name) || fstatat(root, f->files[i].name, &st, 0) != 0)
            return false;
    return true;
}
