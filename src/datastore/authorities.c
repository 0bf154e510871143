/* SPDX-License-Identifier: Apache-2.0
 *
 * Tainting and revoking the authorities of a bundle. Revoking asks for tainting first, so that agents had
 * time to leave the key behind.
 */
#include "datastore/bundle_codec.h"

#include "crypto/x509_cert.h"

static cs_code load(struct ds_tx *tx, const char *trust_domain, struct ds_bundle_row *row, struct cs_err *e)
{
    struct cs_arena *scratch = ds_tx_arena(tx);
    if (!scratch)
        return cs_nomem(e);
    CS_TRY(ds_bundle_row_get(tx->c, scratch, trust_domain, row, e));
    return row->id ? CS_OK : ds_not_found(e);
}

static cs_code store(struct ds_tx *tx, struct ds_bundle_row *row, struct cs_err *e)
{
    row->bundle->sequence_number++;
    return ds_bundle_row_put(tx, row, e);
}

/* --- X.509 --- */

/* Is the (first) certificate of a root the one named? */
static cs_code root_is(const Common__Certificate *root, const char *subject_key_id, const char *failure,
                       bool *is, struct cs_err *e)
{
    CS_AUTO(x509_cert) cert = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf id = {0};
    if (x509_cert_parse(cs_slice_of(root->der_bytes.data, root->der_bytes.len), &cert, e) != CS_OK) {
        (void)cs_wrap(e, "%s", failure);
        if (e)
            e->code = CS_INTERNAL;
        return CS_INTERNAL;
    }
    x509_cert_key_id_hex(&id, cert);
    *is = strcmp(cs_buf_cstr(&id), subject_key_id) == 0;
    return cs_buf_ok(&id) ? CS_OK : cs_nomem(e);
}

static cs_code taint_root(struct ds_tx *tx, const char *trust_domain, const char *subject_key_id,
                          struct cs_err *e)
{
    struct ds_bundle_row row;
    bool found = false;
    CS_TRY(load(tx, trust_domain, &row, e));
    for (size_t i = 0; i < row.bundle->n_root_cas; i++) {
        Common__Certificate *root = row.bundle->root_cas[i];
        bool is = false;
        CS_TRY(root_is(root, subject_key_id, "failed to parse rootCA", &is, e));
        if (!is)
            continue;
        if (root->tainted_key)
            return cs_fail(e, CS_INVALID, "root CA is already tainted");
        root->tainted_key = true;
        found = true;
    }
    if (!found)
        return cs_fail(e, CS_NOT_FOUND, "no ca found with provided subject key ID");
    return store(tx, &row, e);
}

cs_code ds_x509_ca_taint(struct ds *d, const char *trust_domain, const char *subject_key_id, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "taint X.509 CA", e));
    return ds_tx_end(&tx, taint_root(&tx, trust_domain, subject_key_id, e), e);
}

static cs_code revoke_root(struct ds_tx *tx, const char *trust_domain, const char *subject_key_id,
                           struct cs_err *e)
{
    struct ds_bundle_row row;
    CS_TRY(load(tx, trust_domain, &row, e));
    size_t kept = 0, n = row.bundle->n_root_cas;
    for (size_t i = 0; i < n; i++) {
        Common__Certificate *root = row.bundle->root_cas[i];
        bool is = false;
        CS_TRY(root_is(root, subject_key_id, "failed to parse root CA", &is, e));
        if (is && !root->tainted_key)
            return cs_fail(e, CS_INVALID, "it is not possible to revoke an untainted root CA");
        if (!is)
            row.bundle->root_cas[kept++] = root;
    }
    if (kept == n)
        return cs_fail(e, CS_NOT_FOUND, "no root CA found with provided subject key ID");
    row.bundle->n_root_cas = kept;
    return store(tx, &row, e);
}

cs_code ds_x509_ca_revoke(struct ds *d, const char *trust_domain, const char *subject_key_id,
                          struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "revoke X.509 CA", e));
    return ds_tx_end(&tx, revoke_root(&tx, trust_domain, subject_key_id, e), e);
}

/* --- JWT --- */

static cs_code give_key(struct cs_arena *a, const Common__PublicKey *k, struct ds_key *out, struct cs_err *e)
{
    if (!out)
        return CS_OK;
    *out = (struct ds_key){
        .kid = cs_arena_strdup(a, ds_text(k->kid)), .not_after = k->not_after, .tainted = k->tainted_key};
    void *pkix =
        cs_arena_memdup(a, k->pkix_bytes.data ? k->pkix_bytes.data : (const uint8_t *)"", k->pkix_bytes.len);
    if (!out->kid || !pkix)
        return cs_nomem(e);
    out->pkix = cs_slice_of(pkix, k->pkix_bytes.len);
    return CS_OK;
}

static cs_code find_key(const Common__Bundle *b, const char *kid, const char *twice, size_t *at,
                        struct cs_err *e)
{
    size_t n = b->n_jwt_signing_keys;
    *at = n;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(ds_text(b->jwt_signing_keys[i]->kid), kid) != 0)
            continue;
        if (*at < n)
            return cs_fail(e, CS_INTERNAL, "%s", twice);
        *at = i;
    }
    return *at < n ? CS_OK : cs_fail(e, CS_NOT_FOUND, "no JWT Key found with provided key ID");
}

static cs_code taint_key(struct ds_tx *tx, struct cs_arena *a, const char *trust_domain, const char *kid,
                         struct ds_key *out, struct cs_err *e)
{
    struct ds_bundle_row row;
    size_t at = 0;
    CS_TRY(load(tx, trust_domain, &row, e));
    CS_TRY(find_key(row.bundle, kid, "another JWT Key found with the same KeyID", &at, e));
    Common__PublicKey *key = row.bundle->jwt_signing_keys[at];
    if (key->tainted_key)
        return cs_fail(e, CS_INVALID, "key is already tainted");
    key->tainted_key = true;
    CS_TRY(store(tx, &row, e));
    return give_key(a, key, out, e);
}

cs_code ds_jwt_key_taint(struct ds *d, struct cs_arena *a, const char *trust_domain, const char *kid,
                         struct ds_key *out, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "taint JWT key", e));
    return ds_tx_end(&tx, taint_key(&tx, a, trust_domain, kid, out, e), e);
}

static cs_code revoke_key(struct ds_tx *tx, struct cs_arena *a, const char *trust_domain, const char *kid,
                          struct ds_key *out, struct cs_err *e)
{
    struct ds_bundle_row row;
    size_t at = 0;
    CS_TRY(load(tx, trust_domain, &row, e));
    Common__Bundle *b = row.bundle;
    CS_TRY(find_key(b, kid, "another key found with the same KeyID", &at, e));
    Common__PublicKey *key = b->jwt_signing_keys[at];
    if (!key->tainted_key)
        return cs_fail(e, CS_INVALID, "it is not possible to revoke an untainted key");
    b->n_jwt_signing_keys--;
    for (; at < b->n_jwt_signing_keys; at++)
        b->jwt_signing_keys[at] = b->jwt_signing_keys[at + 1];
    CS_TRY(store(tx, &row, e));
    return give_key(a, key, out, e);
}

cs_code ds_jwt_key_revoke(struct ds *d, struct cs_arena *a, const char *trust_domain, const char *kid,
                          struct ds_key *out, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "revoke JWT key", e));
    return ds_tx_end(&tx, revoke_key(&tx, a, trust_domain, kid, out, e), e);
}
