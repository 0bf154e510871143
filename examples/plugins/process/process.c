/* SPDX-License-Identifier: Apache-2.0
 *
 * A WorkloadAttestor: which program is this, and which service does it belong to?
 *
 *     exe:/usr/bin/curl      path of the executable, as the workload's mount namespace has it
 *     sha256:9f86d081...     SHA-256 of the executable that runs, not of what has its path by now
 *     cgroup:/system.slice/web.service
 *     unit:web.service       service of the system's own systemd; those of users, who name theirs as they
 * like, have none
 *
 * plugin_data: max_size, the largest executable that is hashed, in bytes (default 256 MiB; 0: none is).
 */
#include <cspire/plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SIZE (INT64_C(256) * 1024 * 1024)

struct process {
    struct cspire_env *env;
    pthread_mutex_t lock; /* configure may come while workloads are attested */
    int64_t max_size;
};

static int64_t get_max_size(struct process *self)
{
    pthread_mutex_lock(&self->lock);
    int64_t n = self->max_size;
    pthread_mutex_unlock(&self->lock);
    return n;
}

/* --- The executable --- */

/* Reads on until the end of the file, which may be shorter than it was. */
static int hash_file(struct cspire_call *call, int fd, EVP_MD_CTX *ctx)
{
    static const size_t chunk = 64 * 1024;
    unsigned char *buf = cspire_alloc(call, chunk);
    for (off_t at = 0; buf != NULL;) {
        if (cspire_cancelled(call))
            return ECANCELED;
        ssize_t n = pread(fd, buf, chunk, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? 0 : errno;
        if (!EVP_DigestUpdate(ctx, buf, (size_t)n))
            return EIO;
        at += n;
    }
    return ENOMEM;
}

static enum cspire_code add_sha256(struct cspire_call *call, int fd)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int err = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) ? hash_file(call, fd, ctx) : ENOMEM;
    if (err == 0 && !EVP_DigestFinal_ex(ctx, sum, &len))
        err = EIO;
    EVP_MD_CTX_free(ctx);
    if (err != 0)
        return cspire_fail(call, CSPIRE_INTERNAL, "hash the executable: %s", strerror(err));
    for (unsigned int i = 0; i < len; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    return cspire_reply_selector(call, "sha256:%s", hex);
}

/* dir is /proc/PID: once opened it stays with that process, and is empty when the process has ended, whoever
 * has its number by then. */
static enum cspire_code add_executable(struct process *self, struct cspire_call *call, int dir)
{
    char path[4096];
    ssize_t n = readlinkat(dir, "exe", path, sizeof path - 1);
    int fd = n > 0 ? openat(dir, "exe", O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int err = errno;
        if (fd >= 0)
            close(fd);
        return cspire_fail(call, CSPIRE_INTERNAL, "open the executable: %s", strerror(err));
    }
    path[n] = '\0';
    enum cspire_code code = cspire_reply_selector(call, "exe:%s", path);
    if (code == CSPIRE_OK && S_ISREG(st.st_mode) && st.st_size <= get_max_size(self))
        code = add_sha256(call, fd);
    close(fd);
    return code;
}

/* --- The service --- */

/* The unit that a cgroup below system.slice belongs to: its first part that is no slice. What comes after it
 * is the service's own, and may have any name. NULL: none. */
static const char *unit_of(const char *path, size_t *len)
{
    static const char system_slice[] = "/system.slice/", slice[] = ".slice";
    if (strncmp(path, system_slice, sizeof system_slice - 1) != 0)
        return NULL;
    for (const char *p = path + sizeof system_slice - 1; *p != '\0'; p += *len + (p[*len] == '/')) {
        *len = strcspn(p, "/");
        if (*len < sizeof slice || strncmp(p + *len - (sizeof slice - 1), slice, sizeof slice - 1) != 0)
            return *len > 0 ? p : NULL;
    }
    return NULL;
}

/* A line of /proc/PID/cgroup: NUMBER:CONTROLLERS:PATH. The unified hierarchy is number 0, systemd's own in
 * the older layout is "name=systemd". */
static enum cspire_code add_cgroup(struct cspire_call *call, char *line)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL)
        return CSPIRE_OK;
    *path++ = '\0';
    if (strcmp(line, "0:") != 0 && strcmp(controllers, ":name=systemd") != 0)
        return CSPIRE_OK;
    enum cspire_code code = cspire_reply_selector(call, "cgroup:%s", path);
    size_t len;
    const char *unit = unit_of(path, &len);
    if (code == CSPIRE_OK && unit != NULL)
        code = cspire_reply_selector(call, "unit:%.*s", (int)len, unit);
    return code;
}

static enum cspire_code add_cgroups(struct cspire_call *call, int dir)
{
    int fd = openat(dir, "cgroup", O_RDONLY | O_CLOEXEC);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (f == NULL) {
        int err = errno;
        if (fd >= 0)
            close(fd);
        return cspire_fail(call, CSPIRE_INTERNAL, "read the cgroup: %s", strerror(err));
    }
    char line[8192];
    enum cspire_code code = CSPIRE_OK;
    while (code == CSPIRE_OK && fgets(line, sizeof line, f) != NULL)
        code = add_cgroup(call, line);
    fclose(f);
    return code;
}

/* --- The plugin --- */

static enum cspire_code attest(void *arg, struct cspire_call *call, int32_t pid)
{
    struct process *self = arg;
    char path[32];
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return cspire_fail(call, errno == ENOENT ? CSPIRE_NOT_FOUND : CSPIRE_INTERNAL, "open %s: %s", path,
                           strerror(errno));
    enum cspire_code code = add_executable(self, call, dir);
    if (code == CSPIRE_OK)
        code = add_cgroups(call, dir);
    close(dir);
    return code;
}

static enum cspire_code read_options(struct cspire_call *call, const struct cspire_config *config,
                                     int64_t *max_size)
{
    static const char *const names[] = {"max_size"};
    *max_size = MAX_SIZE;
    enum cspire_code code = cspire_config_only(call, config, names, 1);
    if (code == CSPIRE_OK)
        code = cspire_config_int(call, config, "max_size", max_size);
    if (code == CSPIRE_OK && *max_size < 0)
        code = cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "max_size must not be negative");
    return code;
}

static enum cspire_code configure(void *arg, struct cspire_call *call, const struct cspire_config *config)
{
    struct process *self = arg;
    int64_t max_size;
    enum cspire_code code = read_options(call, config, &max_size);
    if (code != CSPIRE_OK)
        return code;
    pthread_mutex_lock(&self->lock);
    self->max_size = max_size;
    pthread_mutex_unlock(&self->lock);
    cspire_logf(self->env, CSPIRE_DEBUG, "executables of up to %lld bytes are hashed", (long long)max_size);
    return CSPIRE_OK;
}

static enum cspire_code validate(void *self, struct cspire_call *call, const struct cspire_config *config)
{
    (void)self;
    int64_t max_size;
    if (read_options(call, config, &max_size) == CSPIRE_OK)
        return CSPIRE_OK;
    return cspire_reply_note(call, "%s", cspire_call_error(call));
}

static enum cspire_code create(struct cspire_call *call, void **out)
{
    struct process *self = calloc(1, sizeof *self);
    if (self == NULL)
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    self->env = cspire_call_env(call);
    self->max_size = MAX_SIZE;
    pthread_mutex_init(&self->lock, NULL);
    *out = self;
    return CSPIRE_OK;
}

static void destroy(void *arg)
{
    struct process *self = arg;
    pthread_mutex_destroy(&self->lock);
    free(self);
}

static const struct cspire_workload_attestor_ops ops = {.size = sizeof ops, .attest = attest};

static const struct cspire_plugin plugin = {
    .size = sizeof plugin,
    .kind = CSPIRE_WORKLOAD_ATTESTOR,
    .ops = {.workload_attestor = &ops},
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};

int main(int argc, char **argv)
{
    return cspire_plugin_main(argc, argv, &plugin);
}
