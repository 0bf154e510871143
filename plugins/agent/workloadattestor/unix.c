/* SPDX-License-Identifier: Apache-2.0
 *
 * WorkloadAttestor "unix": user, groups, and on demand path and digest of a process, from /proc
 * (doc/plugin_agent_workloadattestor_unix.md).
 */
#include "base/text.h"
#include "config/plugin_config.h"
#include "crypto/hash.h"
#include "plugin/workloadattestor.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATUS_MAX ((size_t)1 << 20) /* 65,536 supplementary groups of ten digits fit */
#define NSS_BUFFER 16384             /* grows to NSS_BUFFER_MAX */
#define NSS_BUFFER_MAX ((size_t)4 << 20)
#define DIGEST_CHUNK 65536

struct unix_attestor {
    pthread_mutex_t lock;
    bool configured;
    struct config_unix config;
};

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    (void)env;
    struct unix_attestor *u = cs_calloc(1, sizeof *u);
    *self = u;
    if (u == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&u->lock, NULL); /* cannot fail without attributes on Linux */
    return CS_OK;
}

static void destroy(void *self)
{
    struct unix_attestor *u = self;
    pthread_mutex_destroy(&u->lock);
    cs_free(u);
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct unix_attestor *u = self;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct config_unix config;
    CS_TRY(config_read_unix(data, a, &config, e));
    pthread_mutex_lock(&u->lock);
    u->config = config; /* holds no strings */
    u->configured = true;
    pthread_mutex_unlock(&u->lock);
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct config_unix config;
    struct cs_err fault;
    return plugin_notes_fault(notes, config_read_unix(data, a, &config, &fault), &fault, e);
}

/* --- /proc --- */

static void proc_path(char out[PATH_MAX], pid_t pid, const char *leaf)
{
    const char *root = getenv("HOST_PROC");
    (void)snprintf(out, PATH_MAX, "%s/%d/%s", root != NULL && root[0] != '\0' ? root : "/proc", (int)pid,
                   leaf);
}

/* cs_file_read goes by the size, which /proc does not tell. */
static cs_code read_status(pid_t pid, struct cs_buf *out, struct cs_err *e)
{
    char path[PATH_MAX];
    proc_path(path, pid, "status");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? cs_fail(e, CS_INTERNAL, "failed to get process: process does not exist")
                               : cs_fail_errno(e, CS_INTERNAL, errno, "failed to get process: open %s", path);
    ssize_t n = 1;
    while (n > 0 && out->len < STATUS_MAX && cs_buf_reserve(out, 4096)) {
        n = read(fd, out->data + out->len, 4096);
        if (n > 0)
            out->len += (size_t)n;
    }
    int error = errno;
    (void)close(fd);
    if (!cs_buf_ok(out))
        return cs_nomem(e);
    if (n < 0) /* ESRCH: the process ended under our hands */
        return cs_fail_errno(e, CS_INTERNAL, error, "failed to get process: read %s", path);
    return CS_OK;
}

/* The text behind "NAME:" of the status file; false when there is no such line. */
static bool status_line(struct cs_slice status, const char *name, struct cs_slice *out)
{
    size_t name_len = strlen(name);
    const uint8_t *p = status.data;
    const uint8_t *end = p + status.len;
    while (p < end) {
        const uint8_t *eol = memchr(p, '\n', (size_t)(end - p));
        if (eol == NULL)
            eol = end;
        if ((size_t)(eol - p) > name_len && memcmp(p, name, name_len) == 0 && p[name_len] == ':') {
            *out = cs_slice_of(p + name_len + 1, (size_t)(eol - p) - name_len - 1);
            return true;
        }
        p = eol + 1;
    }
    return false;
}

/* Next number of a line of blanks and digits, as text; false at the end. */
static bool next_number(struct cs_slice *line, char out[16])
{
    size_t i = 0;
    while (i < line->len && (line->data[i] < '0' || line->data[i] > '9'))
        i++;
    size_t n = 0;
    for (; i < line->len && line->data[i] >= '0' && line->data[i] <= '9'; i++)
        if (n < 15)
            out[n++] = (char)line->data[i];
    out[n] = '\0';
    *line = cs_slice_of(line->data + i, line->len - i);
    return n > 0;
}

/* --- Names --- */

static bool to_id(const char *digits, uint32_t *out)
{
    int64_t n = 0;
    if (cs_parse_i64(cs_slice_str(digits), &n, NULL) != CS_OK || n < 0 || n > (int64_t)UINT32_MAX)
        return false;
    *out = (uint32_t)n;
    return true;
}

/* A buffer that grows until the C library's look-up fits; its owner is the scope. */
struct nss_buffer {
    char *data;
    size_t size;
};

static void nss_buffer_free(struct nss_buffer *b)
{
    cs_free(b->data);
}

static bool nss_grow(struct nss_buffer *b)
{
    size_t size = b->size > 0 ? b->size * 2 : NSS_BUFFER;
    char *grown = size <= NSS_BUFFER_MAX ? cs_realloc(b->data, size) : NULL;
    if (grown == NULL)
        return false;
    b->data = grown;
    b->size = size;
    return true;
}

static cs_code add_user(struct workloadattestor_values *out, struct nss_buffer *b, const char *uid,
                        struct cs_err *e)
{
    CS_TRY(workloadattestor_add(out, "uid", uid, e));
    uint32_t id;
    if (!to_id(uid, &id))
        return CS_OK;
    struct passwd pw;
    struct passwd *found = NULL;
    while (b->size > 0 || nss_grow(b)) {
        int rc = getpwuid_r(id, &pw, b->data, b->size, &found);
        if (rc != ERANGE || !nss_grow(b))
            break;
    }
    return found != NULL ? workloadattestor_add(out, "user", found->pw_name, e) : CS_OK;
}

static cs_code add_group(struct workloadattestor_values *out, struct nss_buffer *b, const char *gid,
                         const char *id_kind, const char *name_kind, struct cs_err *e)
{
    CS_TRY(workloadattestor_add(out, id_kind, gid, e));
    uint32_t id;
    if (!to_id(gid, &id))
        return CS_OK;
    struct group gr;
    struct group *found = NULL;
    while (b->size > 0 || nss_grow(b)) {
        int rc = getgrgid_r(id, &gr, b->data, b->size, &found);
        if (rc != ERANGE || !nss_grow(b))
            break;
    }
    return found != NULL ? workloadattestor_add(out, name_kind, found->gr_name, e) : CS_OK;
}

/* Effective ids (the second number of the line), then the supplementary groups. */
static cs_code add_ids(struct workloadattestor_values *out, struct cs_slice status, struct cs_err *e)
{
    CS_CLEANUP(nss_buffer_free) struct nss_buffer b = {0};
    struct cs_slice line;
    char number[16];
    if (!status_line(status, "Uid", &line) || !next_number(&line, number))
        return cs_fail(e, CS_INTERNAL, "UIDs lookup: no UIDs for process");
    (void)next_number(&line, number);
    CS_TRY(add_user(out, &b, number, e));
    if (!status_line(status, "Gid", &line) || !next_number(&line, number))
        return cs_fail(e, CS_INTERNAL, "GIDs lookup: no GIDs for process");
    (void)next_number(&line, number);
    CS_TRY(add_group(out, &b, number, "gid", "group", e));
    if (!status_line(status, "Groups", &line))
        return CS_OK;
    while (next_number(&line, number))
        CS_TRY(add_group(out, &b, number, "supplementary_gid", "supplementary_group", e));
    return CS_OK;
}

/* --- Path and digest --- */

static cs_code add_path(struct workloadattestor_values *out, pid_t pid, struct cs_err *e)
{
    char link[PATH_MAX];
    char target[PATH_MAX];
    proc_path(link, pid, "exe");
    ssize_t n = readlink(link, target, sizeof target - 1);
    if (n < 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "path lookup: readlink %s", link);
    target[n] = '\0';
    return workloadattestor_add(out, "path", target, e);
}

static cs_code digest_fd(int fd, const char *path, uint8_t digest[32], struct cs_err *e)
{
    CS_AUTO(crypto_hasher) h = NULL;
    CS_TRY(crypto_hasher_new(CRYPTO_SHA256, &h, e));
    CS_CLEANUP(cs_freep) uint8_t *chunk = cs_malloc(DIGEST_CHUNK);
    if (chunk == NULL)
        return cs_nomem(e);
    for (;;) {
        ssize_t n = read(fd, chunk, DIGEST_CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cs_fail_errno(e, CS_INTERNAL, errno, "SHA256 digest: read %s", path);
        if (n == 0)
            break;
        CS_TRY(crypto_hasher_add(h, cs_slice_of(chunk, (size_t)n), e));
    }
    return crypto_hasher_end(h, digest, e);
}

static cs_code digest_limited(int fd, const char *path, int64_t limit, uint8_t digest[32], struct cs_err *e)
{
    struct stat st;
    if (limit > 0) {
        if (fstat(fd, &st) != 0)
            return cs_fail_errno(e, CS_INTERNAL, errno, "SHA256 digest: stat %s", path);
        if (st.st_size > limit)
            return cs_fail(e, CS_INTERNAL, "SHA256 digest: workload %s exceeds size limit (%lld > %lld)",
                           path, (long long)st.st_size, (long long)limit);
    }
    return digest_fd(fd, path, digest, e);
}

static cs_code add_digest(struct workloadattestor_values *out, pid_t pid, int64_t limit, struct cs_err *e)
{
    char path[PATH_MAX];
    proc_path(path, pid, "exe"); /* through /proc: the file that runs, also in another mount namespace */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "SHA256 digest: open %s", path);
    uint8_t digest[32];
    cs_code rc = digest_limited(fd, path, limit, digest, e);
    (void)close(fd);
    CS_TRY(rc);
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    cs_hex_encode(&hex, cs_slice_of(digest, sizeof digest));
    return cs_buf_ok(&hex) ? workloadattestor_add(out, "sha256", cs_buf_cstr(&hex), e) : cs_nomem(e);
}

static cs_code attest(void *self, pid_t pid, struct workloadattestor_values *out, struct cs_err *e)
{
    struct unix_attestor *u = self;
    pthread_mutex_lock(&u->lock);
    bool configured = u->configured;
    struct config_unix config = u->config;
    pthread_mutex_unlock(&u->lock);
    if (!configured)
        return cs_fail(e, CS_PRECONDITION, "not configured");

    uint8_t room[8192];
    CS_CLEANUP(cs_buf_free) struct cs_buf status = cs_buf_on(room, sizeof room);
    CS_TRY(read_status(pid, &status, e));
    CS_TRY(add_ids(out, cs_buf_slice(&status), e));
    if (!config.discover_workload_path)
        return CS_OK;
    CS_TRY(add_path(out, pid, e));
    return config.workload_size_limit >= 0 ? add_digest(out, pid, config.workload_size_limit, e) : CS_OK;
}

static const struct workloadattestor_ops ops = {.attest = attest};

const struct plugin_builtin plugin_workloadattestor_unix = {
    .name = "unix",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
