/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuring plugins, at the start and again when their files changed (SPIRE's pkg/common/catalog,
 * configure.go).
 */
#include "base/file.h"
#include "base/text.h"
#include "crypto/hash.h"
#include "plugin/catalog_internal.h"

/* The configuration text of a plugin, from the file when there is one. */
static cs_code read_data(const char *data_file, struct cs_slice fixed, struct cs_buf *out, struct cs_err *e)
{
    if (data_file == NULL) {
        cs_buf_add_slice(out, fixed);
        return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
    }
    if (cs_file_read(data_file, CATALOG_DATA_FILE_MAX, out, e) != CS_OK)
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

cs_code catalog_as_status(cs_code rc, struct cs_err *e)
{
    const struct cs_err plain = *e;
    return cs_fail(e, rc, "rpc error: code = %s desc = %s", cs_code_name(rc), plain.text);
}

/* False: it takes no configuration. */
static bool configurable(const struct catalog_loaded *l)
{
    return l->external != NULL || l->builtin->configure != NULL;
}

static cs_code give(struct catalog_loaded *l, struct cs_slice data, struct cs_err *e)
{
    cs_code rc = l->external != NULL ? plugin_external_configure(l->external, data, e)
                                     : l->builtin->configure(l->plugin.self, data, e);
    return rc == CS_OK ? CS_OK : catalog_as_status(rc, e);
}

cs_code catalog_configure(struct catalog_loaded *l, const struct config_plugin *ce, struct cs_err *e)
{
    bool offered = l->external != NULL ? plugin_external_offers(l->external, PLUGIN_CONFIG_SERVICE)
                                       : l->builtin->configure != NULL;
    if (!offered) {
        if (ce->data.len == 0 && ce->data_file == NULL)
            return CS_OK;
        return cs_fail(e, CS_INVALID, "no supported configuration interface found");
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf data = {0};
    CS_TRY(read_data(l->data_file, ce->data, &data, e));
    CS_TRY(give(l, cs_buf_slice(&data), e));
    if (l->data_file == NULL) {
        cs_log_info(&l->env.log, "Configured plugin", KV_BOOL("reconfigurable", false));
        return CS_OK;
    }
    CS_TRY(hash_data(cs_buf_slice(&data), l->hash, e));
    cs_log_info(&l->env.log, "Configured plugin", KV("hash", l->hash), KV_BOOL("reconfigurable", true));
    return CS_OK;
}

static cs_code reconfigure_one(struct catalog_loaded *l, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf data = {0};
    CS_TRY(read_data(l->data_file, (struct cs_slice){0}, &data, e));
    char hash[33];
    CS_TRY(hash_data(cs_buf_slice(&data), hash, e));
    if (strcmp(hash, l->hash) == 0) {
        cs_log_info(&l->env.log, "Plugin not reconfigured since the config is unchanged", KV("hash", hash));
        return CS_OK;
    }
    CS_TRY(give(l, cs_buf_slice(&data), e));
    cs_log_info(&l->env.log, "Plugin reconfigured", KV("new_hash", hash), KV("old_hash", l->hash));
    memcpy(l->hash, hash, sizeof hash);
    return CS_OK;
}

void catalog_reconfigure(struct catalog *c)
{
    for (size_t i = 0; i < c->plugins.len; i++) {
        struct catalog_loaded *l = c->plugins.at[i];
        struct cs_err err;
        if (l->data_file == NULL || !configurable(l))
            continue;
        if (reconfigure_one(l, &err) != CS_OK)
            cs_log_error(&l->env.log, "Failed to reconfigure plugin", KV_ERR(&err));
    }
}
