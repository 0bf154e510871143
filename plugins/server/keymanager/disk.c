/* SPDX-License-Identifier: Apache-2.0
 *
 * KeyManager "disk": keys in one JSON file of SPIRE's form,
 *
 *     {
 *     	"keys": {
 *     		"x509-CA-A": "<base64 of PKCS #8>"
 *     	}
 *     }
 *
 * indented with tabs, ids in order, no newline at the end, mode 0600, replaced atomically.
 */
#include "base/file.h"
#include "base/text.h"
#include "config/plugin_config.h"
#include "crypto/jose.h"
#include "plugins/server/keymanager/keys.h"

#define KEYS_FILE_MAX ((size_t)16 * 1024 * 1024)

struct disk {
    struct keymanager_keys keys; /* first: see keys.h */
    char *path;                  /* under keys.lock; NULL until configured */
};

/* --- Writing --- */

static cs_code write_key(struct cs_buf *out, const struct keymanager_entry *entry, struct cs_err *e)
{
    CS_AUTO(cs_secret) der = NULL;
    struct crypto_key *key = crypto_signer_key(entry->signer);
    if (key == NULL)
        return cs_fail(e, CS_INTERNAL, "key \"%s\" is not local", entry->id);
    CS_TRY(crypto_key_pkcs8(key, &der, e));
    cs_buf_add_str(out, "\t\t");
    jose_json_string(out, cs_slice_str(entry->id));
    cs_buf_add_str(out, ": \"");
    cs_b64_encode(out, cs_slice_of(der->data, der->len), CS_B64_STD);
    cs_buf_add_str(out, "\"");
    return CS_OK;
}

static cs_code write_set(struct cs_buf *out, const struct keymanager_set *set, struct cs_err *e)
{
    /* Reserved in one go, so that growing leaves no copies of keys behind. */
    if (!cs_buf_reserve(out, 64 + set->len * 4096))
        return cs_nomem(e);
    cs_buf_add_str(out, "{\n\t\"keys\": {");
    for (size_t i = 0; i < set->len; i++) {
        cs_buf_add_str(out, i == 0 ? "\n" : ",\n");
        CS_TRY(write_key(out, &set->at[i], e));
    }
    cs_buf_add_str(out, set->len > 0 ? "\n\t}\n}" : "}\n}");
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static cs_code store(struct keymanager_keys *k, const struct keymanager_set *next, struct cs_err *e)
{
    struct disk *d = (struct disk *)k;
    if (d->path == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    CS_TRY(write_set(&text, next, e));
    if (cs_file_write_atomic(d->path, cs_buf_slice(&text), 0600, e) != CS_OK)
        return cs_wrap(e, "unable to write entries");
    return CS_OK;
}

/* --- Reading --- */

static cs_code parse_key(const char *id, struct cs_slice b64, struct keymanager_set *set, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf der = {0};
    if (!cs_buf_reserve(&der, b64.len))
        return cs_nomem(e);
    if (cs_b64_decode(&der, b64, CS_B64_STD, e) != CS_OK)
        return cs_wrap(e, "unable to decode keys JSON");
    CS_AUTO(crypto_key) key = NULL;
    if (crypto_key_parse_der(cs_buf_slice(&der), &key, e) != CS_OK)
        return cs_wrap(e, "unable to parse key \"%s\"", id);
    switch (crypto_key_type_of(key)) {
    case CRYPTO_EC_P256:
    case CRYPTO_EC_P384:
    case CRYPTO_RSA_2048:
    case CRYPTO_RSA_4096:
        break;
    default:
        return cs_fail(e, CS_INTERNAL, "unable to make entry \"%s\": no key type for a key of type %s", id,
                       crypto_key_type_name(crypto_key_type_of(key)));
    }
    CS_AUTO(crypto_signer) signer = NULL;
    CS_TRY(crypto_signer_of_key(key, &signer, e));
    return keymanager_set_put(set, id, signer, e);
}

static cs_code parse_keys(json_t *keys, struct keymanager_set *set, struct cs_err *e)
{
    const char *id;
    json_t *value;
    json_object_foreach(keys, id, value)
    {
        if (!json_is_string(value))
            return cs_fail(e, CS_INTERNAL, "unable to decode keys JSON: key \"%s\" is not a string", id);
        struct cs_slice b64 = cs_slice_of(json_string_value(value), json_string_length(value));
        CS_TRY(parse_key(id, b64, set, e));
    }
    return CS_OK;
}

/* The key material in a JSON tree, overwritten before the tree goes. */
static void wipe_strings(json_t *keys)
{
    const char *id;
    json_t *value;
    json_object_foreach(keys, id, value) if (json_is_string(value))
        cs_wipe((void *)(uintptr_t)json_string_value(value), json_string_length(value));
}

static cs_code parse_file(struct cs_slice text, struct keymanager_set *set, struct cs_err *e)
{
    json_error_t fault;
    json_t *root = json_loadb((const char *)text.data, text.len, 0, &fault);
    if (root == NULL)
        return cs_fail(e, CS_INTERNAL, "unable to decode keys JSON: line %d: %s", fault.line, fault.text);
    cs_code rc = CS_OK;
    json_t *keys = json_object_get(root, "keys");
    if (!json_is_object(root) || (keys != NULL && !json_is_object(keys) && !json_is_null(keys)))
        rc = cs_fail(e, CS_INTERNAL, "unable to decode keys JSON: not an object of keys");
    else if (json_is_object(keys)) {
        rc = parse_keys(keys, set, e);
        wipe_strings(keys);
    }
    json_decref(root);
    return rc;
}

static cs_code load(const char *path, struct keymanager_set *set, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    cs_code rc = cs_file_read(path, KEYS_FILE_MAX, &text, e);
    if (rc == CS_NOT_FOUND)
        return CS_OK;
    CS_TRY(rc);
    return parse_file(cs_buf_slice(&text), set, e);
}

/* --- Life --- */

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    *self = NULL;
    CS_CLEANUP(cs_freep) struct disk *d = cs_calloc(1, sizeof *d);
    if (d == NULL)
        return cs_nomem(e);
    CS_TRY(keymanager_keys_init(&d->keys, env, e));
    d->keys.store = store;
    *self = CS_MOVE(d);
    return CS_OK;
}

static void destroy(void *self)
{
    struct disk *d = self;
    if (d == NULL)
        return;
    keymanager_keys_release(&d->keys);
    cs_free(d->path);
    cs_free(d);
}

static cs_code read_config(struct cs_slice data, char **path, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct config_keymanager_disk cfg;
    CS_TRY(config_read_keymanager_disk(data, a, &cfg, e));
    *path = cs_strdup(cfg.keys_path);
    return *path != NULL ? CS_OK : cs_nomem(e);
}

/* The file is read the first time only; later configurations say where the next write goes. */
static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct disk *d = self;
    CS_CLEANUP(cs_freep) char *path = NULL;
    CS_TRY(read_config(data, &path, e));
    CS_CLEANUP(keymanager_set_free) struct keymanager_set set = {0};
    bool first = d->path == NULL;
    if (first)
        CS_TRY(load(path, &set, e));
    pthread_mutex_lock(&d->keys.lock);
    if (first) {
        d->keys.set = set;
        set = (struct keymanager_set){0};
    }
    cs_free(d->path);
    d->path = CS_MOVE(path);
    pthread_mutex_unlock(&d->keys.lock);
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    struct cs_err fault;
    CS_CLEANUP(cs_freep) char *path = NULL;
    return plugin_notes_fault(notes, read_config(data, &path, &fault), &fault, e);
}

const struct plugin_builtin plugin_keymanager_disk = {
    .name = "disk",
    .ops = &keymanager_keys_ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
