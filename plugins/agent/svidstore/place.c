/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/agent/svidstore/place.h"

#include "base/text.h"
#include "plugin/svidstore.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>

#define PATH_LEN_MAX 1024
#define NAME_LEN_MAX 200
#define NSS_BUFFER ((size_t)16384)
#define NSS_BUFFER_MAX ((size_t)4 << 20)
#define ID_MAX INT64_C(4294967294) /* the one above means "leave it" to chown */

static const char *const file_keys[DISK_FILES] = {"certchainfile", "keyfile", "bundlefile"};
static const char *const option_keys[] = {"user",         "uid",         "group",         "gid",
                                          "certfilemode", "keyfilemode", "withfederated", "hook"};

/* --- Paths --- */

/* The configured directory that an absolute path leads into, the innermost one; NULL: none. */
static const char *base_of(const struct config_svidstore_disk *cfg, const char *path)
{
    const char *best = NULL;
    size_t best_len = 0;
    for (size_t i = 0; i < cfg->directories.len; i++) {
        size_t len = strlen(cfg->directories.at[i]);
        if (len > best_len && strncmp(path, cfg->directories.at[i], len) == 0 && path[len] == '/') {
            best = cfg->directories.at[i];
            best_len = len;
        }
    }
    return best;
}

static bool is_file_name(const char *name)
{
    size_t len = strlen(name);
    bool good = len > 0 && len <= NAME_LEN_MAX && *name != '.';
    for (; *name != '\0' && good; name++)
        good = (unsigned char)*name >= ' ' && *name != 0x7f;
    return good;
}

/* No part is empty, "." or "..". */
static bool is_inside(const char *dir)
{
    while (*dir != '\0') {
        size_t n = strcspn(dir, "/");
        if (n == 0 || (n == 1 && dir[0] == '.') || (n == 2 && dir[0] == '.' && dir[1] == '.'))
            return false;
        dir += n;
        if (*dir == '/' && *++dir == '\0')
            return false;
    }
    return true;
}

static cs_code split(const char *key, const char *path, const struct config_svidstore_disk *cfg,
                     struct cs_arena *a, struct disk_place *out, size_t file, struct cs_err *e)
{
    const char *base = *path == '/' ? base_of(cfg, path) : cfg->directories.at[0];
    if (strlen(path) > PATH_LEN_MAX)
        return cs_fail(e, CS_INVALID, "%s is too long", key);
    if (base == NULL)
        return cs_fail(e, CS_INVALID, "%s \"%.256s\" is in none of the configured directories", key, path);
    const char *inside = *path == '/' ? path + strlen(base) + 1 : path;
    const char *slash = strrchr(inside, '/');
    const char *name = slash != NULL ? slash + 1 : inside;
    const char *dir = cs_arena_strndup(a, inside, slash != NULL ? (size_t)(slash - inside) : 0);
    if (dir == NULL)
        return cs_nomem(e);
    if (!is_file_name(name) || !is_inside(dir) || slash == inside)
        return cs_fail(e, CS_INVALID, "%s \"%.256s\" is no path of a file", key, path);
    if (file > 0 && (strcmp(base, out->base) != 0 || strcmp(dir, out->dir) != 0))
        return cs_fail(e, CS_INVALID, "%s must be in the same folder as %s", key, file_keys[0]);
    for (size_t i = 0; i < file; i++)
        if (strcmp(name, out->names[i]) == 0)
            return cs_fail(e, CS_INVALID, "%s and %s have the same name", file_keys[i], key);
    out->base = base;
    out->dir = dir;
    out->names[file] = name;
    return CS_OK;
}

cs_code disk_place_paths(const char *const *metadata, size_t count, const struct config_svidstore_disk *cfg,
                         struct cs_arena *a, struct disk_place *out, struct cs_err *e)
{
    *out = (struct disk_place){.uid = -1, .gid = -1};
    CS_TRY(plugin_svid_metadata_check(metadata, count, e));
    for (size_t i = 0; i < DISK_FILES; i++) {
        const char *path = plugin_svid_metadata(metadata, count, file_keys[i]);
        if (path == NULL || *path == '\0')
            return cs_fail(e, CS_INVALID, "%s is required", file_keys[i]);
        CS_TRY(split(file_keys[i], path, cfg, a, out, i, e));
    }
    return CS_OK;
}

/* --- Owners --- */

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
    size_t size = b->size == 0 ? NSS_BUFFER : b->size * 4;
    char *grown = size <= NSS_BUFFER_MAX ? cs_realloc(b->data, size) : NULL;
    if (grown == NULL)
        return false;
    b->data = grown;
    b->size = size;
    return true;
}

static cs_code find_user(const char *name, int64_t *out, struct cs_err *e)
{
    CS_CLEANUP(nss_buffer_free) struct nss_buffer b = {0};
    struct passwd pw, *found = NULL;
    int rc = ERANGE;
    while (rc == ERANGE && nss_grow(&b))
        rc = getpwnam_r(name, &pw, b.data, b.size, &found);
    if (found == NULL)
        return cs_fail(e, CS_NOT_FOUND, "user \"%.64s\" is not known", name);
    *out = found->pw_uid;
    return CS_OK;
}

static cs_code find_group(const char *name, int64_t *out, struct cs_err *e)
{
    CS_CLEANUP(nss_buffer_free) struct nss_buffer b = {0};
    struct group gr, *found = NULL;
    int rc = ERANGE;
    while (rc == ERANGE && nss_grow(&b))
        rc = getgrnam_r(name, &gr, b.data, b.size, &found);
    if (found == NULL)
        return cs_fail(e, CS_NOT_FOUND, "group \"%.64s\" is not known", name);
    *out = found->gr_gid;
    return CS_OK;
}

/* By name or by number, not both. */
static cs_code read_owner(const char *const *metadata, size_t count, const char *by_name, const char *by_id,
                          cs_code (*find)(const char *name, int64_t *out, struct cs_err *e), int64_t *out,
                          struct cs_err *e)
{
    const char *name = plugin_svid_metadata(metadata, count, by_name);
    const char *id = plugin_svid_metadata(metadata, count, by_id);
    if (name != NULL && id != NULL)
        return cs_fail(e, CS_INVALID, "%s and %s exclude each other", by_name, by_id);
    if (name != NULL)
        return find(name, out, e);
    if (id != NULL && (cs_parse_i64(cs_slice_str(id), out, NULL) != CS_OK || *out < 0 || *out > ID_MAX))
        return cs_fail(e, CS_INVALID, "%s \"%.32s\" is not between 0 and %lld", by_id, id, (long long)ID_MAX);
    return CS_OK;
}

/* --- Modes and the rest --- */

static cs_code read_mode(const char *const *metadata, size_t count, const char *key, mode_t fallback,
                         mode_t allowed, mode_t *out, struct cs_err *e)
{
    const char *text = plugin_svid_metadata(metadata, count, key);
    mode_t mode = 0;
    *out = fallback;
    if (text == NULL)
        return CS_OK;
    bool good = *text != '\0' && strlen(text) <= 4;
    for (const char *p = text; *p != '\0' && good; p++) {
        good = *p >= '0' && *p <= '7';
        mode = mode * 8 + (mode_t)(*p - '0');
    }
    if (!good || (mode & ~allowed) != 0 || (mode & 0400) == 0)
        return cs_fail(e, CS_INVALID, "%s \"%.16s\" is no octal mode between 0400 and 0%o", key, text,
                       (unsigned)allowed);
    *out = mode;
    return CS_OK;
}

static cs_code read_hook(const char *const *metadata, size_t count, const struct config_svidstore_disk *cfg,
                         struct disk_place *out, struct cs_err *e)
{
    const char *name = plugin_svid_metadata(metadata, count, "hook");
    for (size_t i = 0; name != NULL && i < cfg->hook_count && out->hook == NULL; i++)
        if (strcmp(cfg->hooks[i].name, name) == 0)
            out->hook = &cfg->hooks[i];
    return name == NULL || out->hook != NULL
               ? CS_OK
               : cs_fail(e, CS_INVALID, "hook \"%.64s\" is not configured", name);
}

static bool is_key(const char *text, size_t len)
{
    for (size_t i = 0; i < DISK_FILES; i++)
        if (cs_slice_is(cs_slice_of(text, len), file_keys[i]))
            return true;
    for (size_t i = 0; i < sizeof option_keys / sizeof option_keys[0]; i++)
        if (cs_slice_is(cs_slice_of(text, len), option_keys[i]))
            return true;
    return false;
}

cs_code disk_place_options(const char *const *metadata, size_t count, const struct config_svidstore_disk *cfg,
                           struct disk_place *out, struct cs_err *e)
{
    for (size_t i = 0; i < count; i++)
        if (!is_key(metadata[i], strcspn(metadata[i], ":")))
            return cs_fail(e, CS_INVALID, "selector \"%.128s\" is not known", metadata[i]);
    CS_TRY(read_owner(metadata, count, "user", "uid", find_user, &out->uid, e));
    CS_TRY(read_owner(metadata, count, "group", "gid", find_group, &out->gid, e));
    CS_TRY(read_mode(metadata, count, "certfilemode", 0644, 0666, &out->modes[DISK_CHAIN], e));
    out->modes[DISK_BUNDLE] = out->modes[DISK_CHAIN];
    CS_TRY(read_mode(metadata, count, "keyfilemode", out->gid >= 0 ? 0640 : 0600, 0660, &out->modes[DISK_KEY],
                     e));
    const char *with = plugin_svid_metadata(metadata, count, "withfederated");
    if (with != NULL && strcmp(with, "true") != 0 && strcmp(with, "false") != 0)
        return cs_fail(e, CS_INVALID, "withfederated must be true or false");
    out->with_federated = with != NULL && *with == 't';
    return read_hook(metadata, count, cfg, out, e);
}
