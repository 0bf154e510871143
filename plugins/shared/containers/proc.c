/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/shared/containers/proc.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *container_proc(void)
{
    const char *proc = getenv("HOST_PROC");
    return proc != NULL && proc[0] != '\0' ? proc : "/proc";
}

/* --- Parts of lines and paths --- */

static bool next_part(struct cs_rd *rest, char separator, struct cs_slice *out)
{
    if (rest->p == NULL)
        return false;
    const uint8_t *end = cs_rd_left(rest) > 0 ? memchr(rest->p, separator, cs_rd_left(rest)) : NULL;
    *out = cs_slice_of(rest->p, (size_t)((end != NULL ? end : rest->end) - rest->p));
    rest->p = end != NULL ? end + 1 : NULL;
    return true;
}

bool container_next_segment(struct cs_rd *rest, struct cs_slice *out)
{
    return next_part(rest, '/', out);
}

/* --- Lines --- */

/* CS_INVALID, with the line quoted behind the text, as far as it fits. */
static cs_code bad_line(struct cs_err *e, const char *what, struct cs_slice line)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf quoted = {0};
    cs_quote(&quoted, line.len > 256 ? cs_slice_of(line.data, 256) : line);
    return cs_buf_ok(&quoted) ? cs_fail(e, CS_INVALID, "%s: %.300s", what, cs_buf_cstr(&quoted))
                              : cs_nomem(e);
}

cs_code container_cgroup_line(struct cs_slice line, struct cs_slice *path, struct cs_err *e)
{
    *path = (struct cs_slice){0};
    size_t colons = 0, i = 0;
    for (; i < line.len && colons < 2; i++)
        colons += line.data[i] == ':';
    if (colons < 2) {
        char what[96];
        (void)snprintf(what, sizeof what,
                       "invalid cgroup entry, contains %zu colon separated fields but expected at least 3",
                       colons + 1);
        return bad_line(e, what, line);
    }
    *path = cs_slice_of(line.data + i, line.len - i);
    return CS_OK;
}

/* Fields are separated by one blank each: one may be empty, such as the source of a tmpfs. */
static bool next_field(struct cs_rd *r, struct cs_slice *out)
{
    return next_part(r, ' ', out);
}

cs_code container_mountinfo_line(struct cs_slice line, struct container_mount *out, struct cs_err *e)
{
    enum { ROOT = 3, FIXED = 6 }; /* the root is the fourth field; six come before the optional ones */
    struct cs_rd r = cs_rd_of(line);
    struct cs_slice field;
    struct container_mount m = {0};
    size_t count = 0;
    bool separated = false;
    *out = m;
    while (!separated && next_field(&r, &field)) {
        separated = cs_slice_is(field, "-");
        if (count == ROOT)
            m.root = field;
        count++;
    }
    if (!separated)
        return bad_line(e, "missing separator in mountinfo line", line);
    if (count - 1 < FIXED)
        return bad_line(e, "expected at least 6 fields before separator in mountinfo line", line);
    if (!next_field(&r, &m.type) || m.type.len == 0)
        return bad_line(e, "missing filesystem type in mountinfo line", line);
    *out = m;
    return CS_OK;
}

/* --- Files --- */

typedef cs_code (*line_fn)(void *arg, size_t index, struct cs_slice line, struct cs_err *e);

/* A file that is read through a window of one line. */
struct reader {
    const char *path;
    int fd;
    uint8_t *window;
    size_t len, total, index;
};

static void reader_close(struct reader *r)
{
    if (r->fd >= 0)
        (void)close(r->fd);
    cs_free(r->window);
}

static cs_code hand_on(struct reader *r, const uint8_t *p, size_t n, line_fn fn, void *arg, struct cs_err *e)
{
    if (n > 0 && p[n - 1] == '\r')
        n--;
    return fn(arg, ++r->index, cs_slice_of(p, n), e);
}

/* All whole lines of the window; what is left of it moves to the front. */
static cs_code hand_on_lines(struct reader *r, line_fn fn, void *arg, struct cs_err *e)
{
    size_t at = 0;
    for (;;) {
        const uint8_t *eol = memchr(r->window + at, '\n', r->len - at);
        if (eol == NULL)
            break;
        size_t n = (size_t)(eol - r->window) - at;
        CS_TRY(hand_on(r, r->window + at, n, fn, arg, e));
        at += n + 1;
    }
    r->len -= at;
    memmove(r->window, r->window + at, r->len);
    return r->len < CONTAINER_LINE_MAX ? CS_OK : cs_fail(e, CS_INVALID, "bufio.Scanner: token too long");
}

static cs_code read_lines(struct reader *r, line_fn fn, void *arg, struct cs_err *e)
{
    for (;;) {
        ssize_t n = read(r->fd, r->window + r->len, CONTAINER_LINE_MAX - r->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) /* ESRCH: the process ended under our hands */
            return cs_fail_errno(e, CS_INTERNAL, errno, "read %s", r->path);
        if (n == 0)
            return r->len > 0 ? hand_on(r, r->window, r->len, fn, arg, e) : CS_OK;
        r->len += (size_t)n;
        r->total += (size_t)n;
        if (r->total > CONTAINER_FILE_MAX)
            return cs_fail(e, CS_EXHAUSTED, "%s is larger than %zu MiB", r->path, CONTAINER_FILE_MAX >> 20);
        CS_TRY(hand_on_lines(r, fn, arg, e));
    }
}

static cs_code each_line(const char *path, line_fn fn, void *arg, struct cs_err *e)
{
    CS_CLEANUP(reader_close)
    struct reader r = {.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (r.fd < 0)
        return cs_fail_errno(e, errno == ENOENT ? CS_NOT_FOUND : CS_INTERNAL, errno, "open %s", path);
    r.window = cs_malloc(CONTAINER_LINE_MAX);
    return r.window != NULL ? read_lines(&r, fn, arg, e) : cs_nomem(e);
}

/* What a line's function said for itself goes up as it is, what the file is to blame for with `before`. */
struct cgroup_walk {
    container_cgroup_fn fn;
    void *arg;
    bool answered;
};

static cs_code walk_cgroup(void *arg, size_t index, struct cs_slice line, struct cs_err *e)
{
    struct cgroup_walk *w = arg;
    struct cs_slice path;
    CS_TRY(container_cgroup_line(line, &path, e));
    cs_code rc = w->fn(w->arg, index, path, e);
    w->answered = rc != CS_OK;
    return rc;
}

cs_code container_each_cgroup(const char *proc, pid_t pid, const char *before, container_cgroup_fn fn,
                              void *arg, struct cs_err *e)
{
    struct cgroup_walk w = {.fn = fn, .arg = arg};
    struct cs_err fault = {0};
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%d/cgroup", proc, (int)pid);
    cs_code rc = each_line(path, walk_cgroup, &w, &fault);
    if (rc == CS_OK || w.answered) {
        if (rc != CS_OK && e != NULL)
            *e = fault;
        return rc;
    }
    return cs_fail(e, rc == CS_NOT_FOUND ? rc : CS_INTERNAL, "%s%s%.440s", before,
                   before[0] != '\0' ? ": " : "", fault.text);
}

struct mount_walk {
    container_mount_fn fn;
    void *arg;
    bool answered;
};

static cs_code walk_mount(void *arg, size_t index, struct cs_slice line, struct cs_err *e)
{
    struct mount_walk *w = arg;
    struct container_mount m;
    if (line.len == 0)
        return CS_OK;
    CS_TRY(container_mountinfo_line(line, &m, e));
    cs_code rc = w->fn(w->arg, index, &m, e);
    w->answered = rc != CS_OK;
    return rc;
}

cs_code container_each_mount(const char *proc, pid_t pid, container_mount_fn fn, void *arg, struct cs_err *e)
{
    struct mount_walk w = {.fn = fn, .arg = arg};
    struct cs_err fault = {0};
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%d/mountinfo", proc, (int)pid);
    cs_code rc = each_line(path, walk_mount, &w, &fault);
    if (rc == CS_OK || w.answered) {
        if (rc != CS_OK && e != NULL)
            *e = fault;
        return rc;
    }
    return cs_fail(e, rc == CS_NOT_FOUND ? rc : CS_INTERNAL, "failed to parse mount info at \"%s\": %.400s",
                   path, fault.text);
}
