/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/svidstore.h"

#include "base/mem.h"
#include "crypto/jose.h"
#include "crypto/pem.h"

#include <stdlib.h>

/* --- Metadata --- */

cs_code plugin_svid_metadata_check(const char *const *metadata, size_t count, struct cs_err *e)
{
    for (size_t i = 0; i < count; i++)
        if (strchr(metadata[i], ':') == NULL)
            return cs_fail(e, CS_INVALID, "metadata does not contain a colon: \"%.256s\"", metadata[i]);
    return CS_OK;
}

const char *plugin_svid_metadata(const char *const *metadata, size_t count, const char *key)
{
    size_t len = strlen(key);
    const char *found = NULL;
    for (size_t i = 0; i < count; i++)
        if (strncmp(metadata[i], key, len) == 0 && metadata[i][len] == ':')
            found = metadata[i] + len + 1;
    return found;
}

/* --- PEM --- */

static cs_code add_certificates(struct cs_buf *out, const struct cs_slice *at, size_t count, struct cs_err *e)
{
    for (size_t i = 0; i < count; i++)
        pem_write(out, PEM_CERTIFICATE, at[i]);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code plugin_svid_chain_pem(const struct svidstore_svid *svid, struct cs_buf *out, struct cs_err *e)
{
    return add_certificates(out, svid->chain, svid->chain_count, e);
}

cs_code plugin_svid_bundle_pem(const struct svidstore_svid *svid, struct cs_buf *out, struct cs_err *e)
{
    return add_certificates(out, svid->bundle, svid->bundle_count, e);
}

cs_code plugin_svid_federated_pem(const struct svidstore_federated *f, struct cs_buf *out, struct cs_err *e)
{
    return add_certificates(out, f->roots, f->root_count, e);
}

/* Room first: what a growing buffer leaves behind is not wiped. */
cs_code plugin_svid_key_pem(const struct svidstore_svid *svid, struct cs_buf *out, struct cs_err *e)
{
    if (!cs_buf_reserve(out, svid->key.len * 2 + 256))
        return cs_nomem(e);
    pem_write(out, PEM_PRIVATE_KEY, svid->key);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

/* --- The secret that SPIRE's stores write --- */

static void add_member(struct cs_buf *out, const char *name, struct cs_buf *value)
{
    if (value->len == 0)
        return;
    cs_buf_add_byte(out, out->len == 0 ? '{' : ',');
    jose_json_string(out, cs_slice_str(name));
    cs_buf_add_byte(out, ':');
    jose_json_string(out, cs_buf_slice(value));
}

static int by_name(const void *a, const void *b)
{
    const struct svidstore_federated *const *x = a, *const *y = b;
    return strcmp((*x)->trust_domain, (*y)->trust_domain);
}

static cs_code add_federated(struct cs_buf *out, const struct svidstore_svid *svid, struct cs_err *e)
{
    size_t n = svid->federated_count;
    CS_CLEANUP(cs_freep) const struct svidstore_federated **sorted = cs_calloc(n + 1, sizeof *sorted);
    if (sorted == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &svid->federated[i];
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 0; i < n; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
        CS_TRY(plugin_svid_federated_pem(sorted[i], &pem, e));
        cs_buf_add_str(out, i == 0 ? ",\"federatedBundles\":{" : ",");
        jose_json_string(out, cs_slice_str(sorted[i]->trust_domain));
        cs_buf_add_byte(out, ':');
        jose_json_string(out, cs_buf_slice(&pem));
    }
    if (n > 0)
        cs_buf_add_byte(out, '}');
    return CS_OK;
}

static size_t room(const struct svidstore_svid *svid)
{
    size_t n = svid->key.len;
    for (size_t i = 0; i < svid->chain_count; i++)
        n += svid->chain[i].len + 64;
    for (size_t i = 0; i < svid->bundle_count; i++)
        n += svid->bundle[i].len + 64;
    for (size_t i = 0; i < svid->federated_count; i++)
        for (size_t k = 0; k < svid->federated[i].root_count; k++)
            n += svid->federated[i].roots[k].len + 64;
    return n * 2 + svid->federated_count * 512 + 4096;
}

cs_code plugin_svid_secret_json(const struct svidstore_svid *svid, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf id = {0}, chain = {0}, bundle = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf key = {0};
    if (!cs_buf_reserve(out, room(svid)))
        return cs_nomem(e);
    cs_buf_add_str(&id, svid->spiffe_id);
    if (!cs_buf_ok(&id)) /* what is empty is left out */
        return cs_nomem(e);
    CS_TRY(plugin_svid_chain_pem(svid, &chain, e));
    CS_TRY(plugin_svid_key_pem(svid, &key, e));
    CS_TRY(plugin_svid_bundle_pem(svid, &bundle, e));
    add_member(out, "spiffeID", &id);
    add_member(out, "x509SVID", &chain);
    add_member(out, "x509SVIDKey", &key);
    add_member(out, "bundle", &bundle);
    CS_TRY(add_federated(out, svid, e));
    cs_buf_add_byte(out, '}');
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}
