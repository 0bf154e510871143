/* SPDX-License-Identifier: Apache-2.0
 *
 * Agent KeyManager "disk": the same file as the server's plugin of this name, always called keys.json,
 * in a folder that is made when it is missing (doc/plugin_agent_keymanager_disk.md).
 */
#include "base/file.h"
#include "base/mem.h"
#include "config/plugin_config.h"
#include "crypto/jose.h"
#include "plugins/server/keymanager/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* What keeps the keys; see plugins/server/keymanager/disk.c. */
extern const struct plugin_builtin plugin_keymanager_disk;

static cs_code read_directory(struct cs_slice data, char **out, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct config_agent_keymanager_disk cfg;
    CS_TRY(config_read_agent_keymanager_disk(data, a, &cfg, e));
    *out = cs_strdup(cfg.directory);
    return *out != NULL ? CS_OK : cs_nomem(e);
}

/* The folder is there and can be written. */
static cs_code check_directory(const char *dir, struct cs_err *e)
{
    CS_TRY(cs_mkdir_all(dir, 0700, e));
    CS_CLEANUP(cs_freep) char *probe = cs_asprintf("%s/.probe", dir);
    if (probe == NULL)
        return cs_nomem(e);
    int fd = open(probe, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "open %s", probe);
    (void)close(fd);
    (void)unlink(probe);
    return CS_OK;
}

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    return plugin_keymanager_disk.create(env, self, e);
}

static void destroy(void *self)
{
    plugin_keymanager_disk.destroy(self);
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    CS_CLEANUP(cs_freep) char *dir = NULL;
    CS_TRY(read_directory(data, &dir, e));
    if (check_directory(dir, e) != CS_OK) {
        (void)cs_wrap(e, "directory validation failed");
        return e->code = CS_PRECONDITION;
    }
    CS_CLEANUP(cs_freep) char *path = cs_asprintf("%s/keys.json", dir);
    if (path == NULL)
        return cs_nomem(e);
    CS_CLEANUP(cs_buf_free) struct cs_buf inner = {0};
    cs_buf_add_str(&inner, "{\"keys_path\":");
    jose_json_string(&inner, cs_slice_str(path));
    cs_buf_add_str(&inner, "}");
    if (!cs_buf_ok(&inner))
        return cs_nomem(e);
    return plugin_keymanager_disk.configure(self, cs_buf_slice(&inner), e);
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    struct cs_err fault;
    CS_CLEANUP(cs_freep) char *dir = NULL;
    return plugin_notes_fault(notes, read_directory(data, &dir, &fault), &fault, e);
}

const struct plugin_builtin plugin_agent_keymanager_disk = {
    .name = "disk",
    .ops = &keymanager_keys_ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
