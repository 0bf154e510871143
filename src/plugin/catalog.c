/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/catalog.h"

#include "base/coll.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "config/plugin_config.h"
#include "crypto/hash.h"

/* Largest plugin_data_file read. */
#define DATA_FILE_MAX ((size_t)4 * 1024 * 1024)

struct loaded {
    struct catalog_plugin plugin;
    const struct plugin_builtin *builtin;
    struct plugin_env env; /* what the plugin borrows */
    char *name;
    char *data_file; /* NULL: fixed configuration */
    char hash[33];
};

struct catalog {
    struct cs_log log;
    struct cs_vec plugins; /* struct loaded * */
};

/* --- Looking up --- */

static const struct plugin_kind *find_kind(const struct catalog_config *cfg, const char *type)
{
    for (size_t i = 0; i < cfg->kind_count; i++)
        if (strcmp(cfg->kinds[i].type, type) == 0)
            return &cfg->kinds[i];
    return NULL;
}

static const struct plugin_builtin *find_builtin(const struct plugin_kind *kind, const char *name)
{
    for (size_t i = 0; i < kind->builtin_count; i++)
        if (strcmp(kind->builtins[i]->name, name) == 0)
            return kind->builtins[i];
    return NULL;
}

const struct catalog_plugin *catalog_find(const struct catalog *c, const char *type, const char *name)
{
    for (size_t i = 0; i < c->plugins.len; i++) {
        const struct loaded *l = c->plugins.at[i];
        if (strcmp(l->plugin.type, type) == 0 && strcmp(l->plugin.name, name) == 0)
            return &l->plugin;
    }
    return NULL;
}

const struct catalog_plugin *catalog_nth(const struct catalog *c, const char *type, size_t n)
{
    for (size_t i = 0; i < c->plugins.len; i++) {
        const struct loaded *l = c->plugins.at[i];
        if (strcmp(l->plugin.type, type) == 0 && n-- == 0)
            return &l->plugin;
    }
    return NULL;
}

/* --- Checks shared by load and validate --- */

static bool is_external(const struct config_plugin *ce)
{
    return ce->cmd[0] != '\0';
}

static cs_code resolve(const char *program, const struct plugin_kind *kind, const struct config_plugin *ce,
                       const struct plugin_builtin **out, struct cs_err *e)
{
    if (is_external(ce))
        return cs_fail(e, CS_UNIMPLEMENTED, "external plugins are not supported yet");
    *out = find_builtin(kind, ce->name);
    if (*out == NULL && config_plugin_is_known(program, ce->type, ce->name))
        return cs_fail(e, CS_UNIMPLEMENTED, "the built-in plugin \"%s\" is not supported yet", ce->name);
    if (*out == NULL)
        return cs_fail(e, CS_INVALID, "no built-in plugin \"%s\" for type \"%s\"", ce->name, ce->type);
    return CS_OK;
}

/* What is wrong with a number of plugins, as SPIRE words it; "" when nothing is. */
static void count_fault(const struct plugin_kind *kind, unsigned count, struct cs_err *e)
{
    e->text[0] = '\0';
    if (kind->max > 0 && kind->min == kind->max && count != kind->min)
        (void)cs_fail(e, CS_INVALID, "expected exactly %u but got %u", kind->min, count);
    else if (kind->min > 0 && count < kind->min)
        (void)cs_fail(e, CS_INVALID, "expected at least %u but got %u", kind->min, count);
    else if (kind->max > 0 && count > kind->max)
        (void)cs_fail(e, CS_INVALID, "expected at most %u but got %u", kind->max, count);
}

static unsigned count_enabled(const struct catalog_config *cfg, const char *type)
{
    unsigned n = 0;
    for (size_t i = 0; i < cfg->plugins->len; i++)
        if (!cfg->plugins->at[i].disabled && strcmp(cfg->plugins->at[i].type, type) == 0)
            n++;
    return n;
}

/* The configuration text of a plugin, from the file when there is one. */
static cs_code read_data(const char *data_file, struct cs_slice fixed, struct cs_buf *out, struct cs_err *e)
{
    if (data_file == NULL) {
        cs_buf_add_slice(out, fixed);
        return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
    }
    if (cs_file_read(data_file, DATA_FILE_MAX, out, e) != CS_OK)
        return cs_wrap(e, "failed to load plugin data");
    return CS_OK;
}

/* The first 16 bytes of SHA-512 in hex: how SPIRE names a configuration in its log. */
static cs_code hash_data(struct cs_slice data, char out[33], struct cs_err *e)
{
    uint8_t digest[64];
    CS_TRY(crypto_digest(CRYPTO_SHA512, data, digest, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    cs_hex_encode(&hex, cs_slice_of(digest, 16));
    if (!cs_buf_ok(&hex))
        return cs_nomem(e);
    memcpy(out, cs_buf_cstr(&hex), 33);
    return CS_OK;
}

/* --- Loading --- */

static struct cs_log plugin_log(struct cs_log parent, const char *name, const char *type, bool external)
{
    struct cs_log l = cs_log_with(parent, KV_BOOL("external", external));
    l = cs_log_with(l, KV("plugin_name", name));
    return cs_log_with(l, KV("plugin_type", type));
}

static void loaded_free(struct loaded *l)
{
    if (l->builtin != NULL && l->builtin->destroy != NULL && l->plugin.self != NULL)
        l->builtin->destroy(l->plugin.self);
    cs_free(l->name);
    cs_free(l->data_file);
    cs_free(l);
}

/* SPIRE's plugins answer over gRPC, and its users know the text that makes of an error. */
static cs_code call_configure(struct loaded *l, struct cs_slice data, struct cs_err *e)
{
    cs_code rc = l->builtin->configure(l->plugin.self, data, e);
    if (rc == CS_OK)
        return CS_OK;
    struct cs_err plain = *e;
    return cs_fail(e, rc, "rpc error: code = %s desc = %s", cs_code_name(rc), plain.text);
}

static cs_code configure(struct loaded *l, const struct config_plugin *ce, struct cs_err *e)
{
    if (l->builtin->configure == NULL) {
        if (ce->data.len == 0 && ce->data_file == NULL)
            return CS_OK;
        return cs_fail(e, CS_INVALID, "no supported configuration interface found");
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf data = {0};
    CS_TRY(read_data(l->data_file, ce->data, &data, e));
    CS_TRY(call_configure(l, cs_buf_slice(&data), e));
    if (l->data_file == NULL) {
        cs_log_info(&l->env.log, "Configured plugin", KV_BOOL("reconfigurable", false));
        return CS_OK;
    }
    CS_TRY(hash_data(cs_buf_slice(&data), l->hash, e));
    cs_log_info(&l->env.log, "Configured plugin", KV("hash", l->hash), KV_BOOL("reconfigurable", true));
    return CS_OK;
}

static cs_code fill(struct loaded *l, const struct catalog_config *cfg, const struct plugin_kind *kind,
                    const struct config_plugin *ce, struct cs_err *e)
{
    l->name = cs_strdup(ce->name);
    if (l->name == NULL)
        return cs_nomem(e);
    if (ce->data_file != NULL && (l->data_file = cs_strdup(ce->data_file)) == NULL)
        return cs_nomem(e);
    l->env = cfg->env;
    l->env.log = plugin_log(cfg->env.log, l->name, kind->type, is_external(ce));
    l->plugin = (struct catalog_plugin){.type = kind->type, .name = l->name};
    cs_code rc = resolve(cfg->program, kind, ce, &l->builtin, e);
    if (rc == CS_OK) {
        l->plugin.ops = l->builtin->ops;
        rc = l->builtin->create(&l->env, &l->plugin.self, e);
    }
    if (rc != CS_OK) {
        cs_log_error(&l->env.log, "Failed to load plugin", KV_ERR(e));
        return cs_wrap(e, "failed to load plugin \"%s\"", ce->name);
    }
    rc = configure(l, ce, e);
    if (rc != CS_OK) {
        cs_log_error(&l->env.log, "Failed to configure plugin", KV_ERR(e));
        return cs_wrap(e, "failed to configure plugin \"%s\"", ce->name);
    }
    cs_log_info(&l->env.log, "Plugin loaded");
    return CS_OK;
}

static cs_code load_one(struct catalog *c, const struct catalog_config *cfg, const struct config_plugin *ce,
                        struct cs_err *e)
{
    if (cfg->skip_type != NULL && strcmp(ce->type, cfg->skip_type) == 0)
        return CS_OK;
    const struct plugin_kind *kind = find_kind(cfg, ce->type);
    struct cs_log log = plugin_log(cfg->env.log, ce->name, ce->type, is_external(ce));
    if (kind == NULL) {
        cs_log_error(&log, "Unsupported plugin type");
        return cs_fail(e, CS_INVALID, "unsupported plugin type \"%s\"", ce->type);
    }
    if (ce->disabled) {
        cs_log_debug(&log, "Not loading plugin; disabled");
        return CS_OK;
    }
    struct loaded *l = cs_calloc(1, sizeof *l);
    if (l == NULL)
        return cs_nomem(e);
    cs_code rc = fill(l, cfg, kind, ce, e);
    if (rc == CS_OK && cs_vec_push(&c->plugins, l) != CS_OK)
        rc = cs_nomem(e);
    if (rc != CS_OK)
        loaded_free(l);
    return rc;
}

cs_code catalog_load(const struct catalog_config *cfg, struct catalog **out, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    *out = NULL;
    CS_AUTO(catalog) c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    c->log = cfg->env.log;
    for (size_t i = 0; i < cfg->plugins->len; i++)
        CS_TRY(load_one(c, cfg, &cfg->plugins->at[i], e));
    for (size_t i = 0; i < cfg->kind_count; i++) {
        struct cs_err fault;
        count_fault(&cfg->kinds[i], count_enabled(cfg, cfg->kinds[i].type), &fault);
        if (fault.text[0] != '\0')
            return cs_fail(e, CS_INVALID, "plugin type \"%s\" constraint not satisfied: %s",
                           cfg->kinds[i].type, fault.text);
    }
    *out = CS_MOVE(c);
    return CS_OK;
}

void catalog_free(struct catalog *c)
{
    if (c == NULL)
        return;
    for (size_t i = c->plugins.len; i-- > 0;) {
        struct loaded *l = c->plugins.at[i];
        struct cs_log log = plugin_log(c->log, l->plugin.name, l->plugin.type, false);
        cs_log_debug(&log, "Unloading plugin");
        /* The fields of `log` point into the plugin's record: it goes last. */
        if (l->builtin->destroy != NULL)
            l->builtin->destroy(l->plugin.self);
        l->plugin.self = NULL;
        cs_log_info(&log, "Plugin unloaded");
        loaded_free(l);
    }
    cs_vec_free(&c->plugins);
    cs_free(c);
}

/* --- Validation --- */

/* *counts is set when the plugin counts towards the constraint of its type: one whose configuration
 * cannot even be read does not. */
static cs_code validate_one(const struct catalog_config *cfg, const struct config_plugin *ce,
                            void (*note)(void *arg, const char *plugin, const char *text), void *arg,
                            bool *counts, struct cs_err *e)
{
    *counts = false;
    if (cfg->skip_type != NULL && strcmp(ce->type, cfg->skip_type) == 0)
        return CS_OK;
    const struct plugin_kind *kind = find_kind(cfg, ce->type);
    if (kind == NULL)
        return cs_fail(e, CS_INVALID, "unsupported plugin type \"%s\"", ce->type);
    if (ce->disabled)
        return CS_OK;
    const struct plugin_builtin *builtin = NULL;
    if (resolve(cfg->program, kind, ce, &builtin, e) != CS_OK)
        return cs_wrap(e, "failed to load plugin \"%s\"", ce->name);
    *counts = true;
    if (builtin->validate == NULL)
        return CS_OK;

    CS_CLEANUP(cs_freep) char *id = cs_asprintf("%s \"%s\"", ce->type, ce->name);
    if (id == NULL)
        return cs_nomem(e);
    CS_CLEANUP(cs_buf_free) struct cs_buf data = {0};
    struct cs_err fault;
    if (ce->data_file != NULL && cs_file_read(ce->data_file, DATA_FILE_MAX, &data, &fault) != CS_OK) {
        (void)cs_wrap(&fault, "failed to read plugin configuration");
        note(arg, id, fault.text);
        *counts = false;
        return CS_OK;
    }
    CS_CLEANUP(plugin_notes_free) struct plugin_notes notes = {0};
    struct cs_slice text = ce->data_file != NULL ? cs_buf_slice(&data) : ce->data;
    CS_TRY(builtin->validate(&cfg->env, text, &notes, e));
    for (size_t i = 0; i < notes.count; i++)
        note(arg, id, notes.texts[i]);
    return CS_OK;
}

cs_code catalog_validate(const struct catalog_config *cfg,
                         void (*note)(void *arg, const char *plugin, const char *text), void *arg,
                         struct cs_err *e)
{
    CS_CLEANUP(cs_freep) unsigned *counts = cs_calloc(cfg->kind_count + 1, sizeof *counts);
    if (counts == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < cfg->plugins->len; i++) {
        bool one;
        CS_TRY(validate_one(cfg, &cfg->plugins->at[i], note, arg, &one, e));
        if (one)
            counts[find_kind(cfg, cfg->plugins->at[i].type) - cfg->kinds]++;
    }
    for (size_t i = 0; i < cfg->kind_count; i++) {
        struct cs_err fault;
        count_fault(&cfg->kinds[i], counts[i], &fault);
        if (fault.text[0] == '\0')
            continue;
        (void)cs_wrap(&fault, "constraint not satisfied");
        note(arg, cfg->kinds[i].type, fault.text);
    }
    return CS_OK;
}

/* --- Reconfiguration --- */

static cs_code reconfigure_one(struct loaded *l, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf data = {0};
    CS_TRY(read_data(l->data_file, (struct cs_slice){0}, &data, e));
    char hash[33];
    CS_TRY(hash_data(cs_buf_slice(&data), hash, e));
    if (strcmp(hash, l->hash) == 0) {
        cs_log_info(&l->env.log, "Plugin not reconfigured since the config is unchanged", KV("hash", hash));
        return CS_OK;
    }
    CS_TRY(call_configure(l, cs_buf_slice(&data), e));
    cs_log_info(&l->env.log, "Plugin reconfigured", KV("new_hash", hash), KV("old_hash", l->hash));
    memcpy(l->hash, hash, sizeof hash);
    return CS_OK;
}

void catalog_reconfigure(struct catalog *c)
{
    for (size_t i = 0; i < c->plugins.len; i++) {
        struct loaded *l = c->plugins.at[i];
        struct cs_err err;
        if (l->data_file == NULL || l->builtin->configure == NULL)
            continue;
        if (reconfigure_one(l, &err) != CS_OK)
            cs_log_error(&l->env.log, "Failed to reconfigure plugin", KV_ERR(&err));
    }
}
