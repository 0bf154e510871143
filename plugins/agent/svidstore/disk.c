/* SPDX-License-Identifier: Apache-2.0
 *
 * SVIDStore "disk": each SVID in three files of a folder, replaced together (base/fileset.h), and whoever
 * uses them told. Where an SVID goes is said by the entry, that is by the server; what may be run, and where
 * files may be at all, by the agent's configuration alone.
 */
#include "base/coll.h"
#include "base/fileset.h"
#include "base/logfields.h"
#include "base/text.h"
#include "crypto/hash.h"
#include "plugin/settings.h"
#include "plugin/svidstore.h"
#include "plugins/agent/svidstore/hook.h"
#include "plugins/agent/svidstore/place.h"

/* What this process wrote to a folder. */
struct folder {
    char *names; /* of the files, to tell sets apart */
    uint8_t digest[32];
    bool written, owed; /* the hook is to run still */
};

struct disk {
    struct plugin_env env;
    struct plugin_slot config; /* of struct config_svidstore_disk */
    struct cs_map *folders;    /* path -> struct folder; of the one call that is under way */
};

/* --- Life --- */

static void folder_free(void *p)
{
    struct folder *f = p;
    if (f != NULL)
        cs_free(f->names);
    cs_free(f);
}

static void destroy(void *self)
{
    struct disk *d = self;
    plugin_slot_destroy(&d->config);
    cs_map_free(d->folders);
    cs_free(d);
}

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct disk *d = cs_calloc(1, sizeof *d);
    *self = NULL;
    if (d == NULL)
        return cs_nomem(e);
    d->env = *env;
    plugin_slot_init(&d->config);
    d->folders = cs_map_new(folder_free);
    if (d->folders == NULL) {
        destroy(d);
        return cs_nomem(e);
    }
    *self = d;
    return CS_OK;
}

static cs_code read_config(struct cs_slice data, struct config_svidstore_disk **out, struct cs_err *e)
{
    CS_CLEANUP(plugin_settings_drop) struct config_svidstore_disk *c = plugin_settings_new(sizeof *c, NULL);
    *out = NULL;
    if (c == NULL)
        return cs_nomem(e);
    CS_TRY(config_read_svidstore_disk(data, plugin_settings_arena(c), c, e));
    *out = CS_MOVE(c);
    return CS_OK;
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct disk *d = self;
    struct config_svidstore_disk *c = NULL;
    CS_TRY(read_config(data, &c, e));
    plugin_slot_set(&d->config, c);
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    struct cs_err fault;
    CS_CLEANUP(plugin_settings_drop) struct config_svidstore_disk *c = NULL;
    return plugin_notes_fault(notes, read_config(data, &c, &fault), &fault, e);
}

/* --- Folders --- */

static const char *path_of(const struct disk_place *p, struct cs_arena *a)
{
    return *p->dir == '\0' ? p->base : cs_arena_printf(a, "%s/%s", p->base, p->dir);
}

static const char *names_of(const struct disk_place *p, struct cs_arena *a)
{
    return cs_arena_printf(a, "%s/%s/%s", p->names[DISK_CHAIN], p->names[DISK_KEY], p->names[DISK_BUNDLE]);
}

/* A folder holds one SVID: two sets would take each other's files away. */
static cs_code claim(struct disk *d, const char *path, const char *names, struct folder **out,
                     struct cs_err *e)
{
    struct folder *f = cs_map_get_str(d->folders, path);
    if (f != NULL && f->written && strcmp(f->names, names) != 0)
        return cs_fail(e, CS_PRECONDITION, "%s holds another SVID already (%s)", path, f->names);
    if (f == NULL || strcmp(f->names, names) != 0) {
        f = cs_calloc(1, sizeof *f);
        char *copy = cs_strdup(names);
        if (f == NULL || copy == NULL || cs_map_put(d->folders, cs_slice_str(path), f) != CS_OK) {
            cs_free(f);
            cs_free(copy);
            return cs_nomem(e);
        }
        f->names = copy;
    }
    *out = f;
    return CS_OK;
}

static struct cs_fileset set_of(const struct disk_place *p, struct cs_fileset_file files[DISK_FILES])
{
    for (size_t i = 0; i < DISK_FILES; i++)
        files[i] = (struct cs_fileset_file){.name = p->names[i], .mode = p->modes[i]};
    return (struct cs_fileset){
        .base = p->base, .dir = p->dir, .files = files, .count = DISK_FILES, .uid = p->uid, .gid = p->gid};
}

/* Of all that makes one set differ from another. */
static cs_code digest_of(const struct cs_fileset *s, uint8_t out[32], struct cs_err *e)
{
    CS_AUTO(crypto_hasher) h = NULL;
    CS_TRY(crypto_hasher_new(CRYPTO_SHA256, &h, e));
    const int64_t owner[2] = {s->uid, s->gid};
    CS_TRY(crypto_hasher_add(h, cs_slice_of(owner, sizeof owner), e));
    for (size_t i = 0; i < s->count; i++) {
        const uint64_t head[2] = {s->files[i].mode, s->files[i].data.len};
        CS_TRY(crypto_hasher_add(h, cs_slice_of(head, sizeof head), e));
        CS_TRY(crypto_hasher_add(h, s->files[i].data, e));
    }
    return crypto_hasher_end(h, out, e);
}

/* --- Putting --- */

static cs_code write_files(struct disk *d, struct folder *f, const struct cs_fileset *s, const char *path,
                           const struct svidstore_svid *svid, struct cs_err *e)
{
    uint8_t digest[sizeof f->digest];
    CS_TRY(digest_of(s, digest, e));
    if (f->written && memcmp(digest, f->digest, sizeof digest) == 0 && cs_fileset_present(s))
        return CS_OK;
    CS_TRY(cs_fileset_write(s, e));
    memcpy(f->digest, digest, sizeof digest);
    f->written = true;
    f->owed = true;
    CS_CLEANUP(cs_buf_free) struct cs_buf expires = {0};
    cs_time_rfc3339(&expires, svid->expires_at);
    cs_log_info(&d->env.log, "X509-SVID files written", KV("dir", path), KV(CS_F_SPIFFE_ID, svid->spiffe_id),
                KV(CS_F_EXPIRES_AT, cs_buf_cstr(&expires)));
    return CS_OK;
}

/* A program that does not run reads the files when it starts. */
static cs_code tell(struct disk *d, struct folder *f, const struct config_svidstore_hook *h, const char *path,
                    const char *spiffe_id, struct cs_err *e)
{
    struct cs_err why;
    if (h == NULL || !f->owed)
        return CS_OK;
    cs_code rc = disk_hook_run(h, spiffe_id, path, d->env.stop, &why);
    if (rc == CS_NOT_FOUND)
        cs_log_info(&d->env.log, "Nobody to tell of new X509-SVID files", KV("hook", h->name), KV_ERR(&why));
    else if (rc != CS_OK)
        return cs_fail(e, rc, "hook \"%.64s\": %.400s", h->name, why.text);
    f->owed = false;
    return CS_OK;
}

static cs_code put_at(struct disk *d, const struct disk_place *p, const struct svidstore_svid *svid,
                      struct cs_arena *a, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf chain = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf key = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf roots = {0};
    struct cs_fileset_file files[DISK_FILES];
    struct folder *f = NULL;
    const struct cs_fileset set = set_of(p, files);
    const char *path = path_of(p, a), *names = names_of(p, a);
    if (path == NULL || names == NULL)
        return cs_nomem(e);
    CS_TRY(plugin_svid_chain_pem(svid, &chain, e));
    CS_TRY(plugin_svid_key_pem(svid, &key, e));
    CS_TRY(plugin_svid_bundle_pem(svid, &roots, e));
    for (size_t i = 0; p->with_federated && i < svid->federated_count; i++)
        CS_TRY(plugin_svid_federated_pem(&svid->federated[i], &roots, e));
    files[DISK_CHAIN].data = cs_buf_slice(&chain);
    files[DISK_KEY].data = cs_buf_slice(&key);
    files[DISK_BUNDLE].data = cs_buf_slice(&roots);
    CS_TRY(claim(d, path, names, &f, e));
    CS_TRY(write_files(d, f, &set, path, svid, e));
    return tell(d, f, p->hook, path, svid->spiffe_id, e);
}

static cs_code put(void *self, const struct svidstore_svid *svid, const char *const *metadata, size_t count,
                   struct cs_err *e)
{
    struct disk *d = self;
    CS_CLEANUP(plugin_settings_drop) const struct config_svidstore_disk *c = plugin_slot_get(&d->config);
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct disk_place p;
    if (c == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    if (a == NULL)
        return cs_nomem(e);
    CS_TRY(disk_place_paths(metadata, count, c, a, &p, e));
    CS_TRY(disk_place_options(metadata, count, c, &p, e));
    return put_at(d, &p, svid, a, e);
}

/* --- Removing --- */

static cs_code remove_at(struct disk *d, const struct disk_place *p, struct cs_arena *a, struct cs_err *e)
{
    struct cs_fileset_file files[DISK_FILES];
    const struct cs_fileset set = set_of(p, files);
    const char *path = path_of(p, a), *names = names_of(p, a);
    if (path == NULL || names == NULL)
        return cs_nomem(e);
    const struct folder *f = cs_map_get_str(d->folders, path);
    if (f != NULL && f->written && strcmp(f->names, names) != 0)
        return CS_OK; /* the folder has gone over to another entry, whose files they are now */
    CS_TRY(cs_fileset_remove(&set, e));
    (void)cs_map_del(d->folders, cs_slice_str(path));
    cs_log_info(&d->env.log, "X509-SVID files removed", KV("dir", path));
    return CS_OK;
}

static cs_code remove_svid(void *self, const char *const *metadata, size_t count, struct cs_err *e)
{
    struct disk *d = self;
    CS_CLEANUP(plugin_settings_drop) const struct config_svidstore_disk *c = plugin_slot_get(&d->config);
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct disk_place p;
    if (c == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    if (a == NULL)
        return cs_nomem(e);
    CS_TRY(disk_place_paths(metadata, count, c, a, &p, e));
    return remove_at(d, &p, a, e);
}

static const struct svidstore_ops ops = {.put = put, .remove = remove_svid};

const struct plugin_builtin plugin_svidstore_disk = {
    .name = "disk",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
