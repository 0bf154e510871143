/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder for the sockets of plugins and of the host services: only for our user, and gone when we end.
 * One that was killed leaves its folder behind; the next to come takes it away. Who uses a folder holds a
 * lock on it.
 */
#include "plugin/external_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "cspire-plugins-"

/* Everything in an open folder, and in the folders in it down to `depth`. */
static void empty(int fd, unsigned depth)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again >= 0 ? fdopendir(again) : NULL;
    const struct dirent *f;
    while (d != NULL && (f = readdir(d)) != NULL) {
        if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0 || unlinkat(fd, f->d_name, 0) == 0)
            continue;
        int inner = depth > 0 ? openat(fd, f->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (inner < 0)
            continue;
        empty(inner, depth - 1);
        (void)close(inner);
        (void)unlinkat(fd, f->d_name, AT_REMOVEDIR);
    }
    if (d != NULL)
        (void)closedir(d);
    else if (again >= 0)
        (void)close(again);
}

void plugin_folder_remove(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    empty(fd, 1);
    (void)close(fd);
    (void)rmdir(path);
}

/* Ours, and nobody holds it. */
static bool is_left_over(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static void remove_left_over(const char *tmp)
{
    DIR *d = opendir(tmp);
    const struct dirent *f;
    while (d != NULL && (f = readdir(d)) != NULL) {
        if (strncmp(f->d_name, PREFIX, sizeof PREFIX - 1) != 0)
            continue;
        int fd = openat(dirfd(d), f->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && is_left_over(fd)) {
            empty(fd, 1);
            (void)unlinkat(dirfd(d), f->d_name, AT_REMOVEDIR);
        }
        if (fd >= 0)
            (void)close(fd);
    }
    if (d != NULL)
        (void)closedir(d);
}

/* The longest name in it is that of a plugin's socket, "/NUMBER/pluginNUMBER", and a path of a Unix socket
 * has 107 bytes at most. */
static const char *choose_parent(void)
{
    enum { INSIDE = 28, PATH = 107 };
    const char *tmp = getenv("TMPDIR");
    bool good = tmp != NULL && tmp[0] == '/' && strlen(tmp) + sizeof("/" PREFIX "XXXXXX") + INSIDE <= PATH;
    return good ? tmp : "/tmp";
}

cs_code plugin_folder_make(char out[PLUGIN_FOLDER_MAX], int *lock, struct cs_err *e)
{
    const char *tmp = choose_parent();
    struct stat st;
    remove_left_over(tmp);
    for (;;) {
        snprintf(out, PLUGIN_FOLDER_MAX, "%s/%s", tmp, PREFIX "XXXXXX");
        if (mkdtemp(out) == NULL) {
            int error = errno;
            out[0] = '\0';
            return cs_fail_errno(e, CS_INTERNAL, error, "failed to make a folder for plugins in %s", tmp);
        }
        *lock = open(out, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (*lock >= 0 && flock(*lock, LOCK_EX) == 0 && fstat(*lock, &st) == 0 && st.st_nlink > 0)
            return CS_OK;
        /* somebody took it for left over before it was locked */
        if (*lock >= 0)
            (void)close(*lock);
        *lock = -1;
        if (rmdir(out) == 0) {
            out[0] = '\0';
            return cs_fail(e, CS_INTERNAL, "failed to lock a folder for plugins in %s", tmp);
        }
    }
}
