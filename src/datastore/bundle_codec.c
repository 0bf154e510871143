/* SPDX-License-Identifier: Apache-2.0 */
#include "datastore/bundle_codec.h"

#include "base/text.h"
#include "crypto/x509_cert.h"
#include "proto/proto.h"

cs_code ds_bundle_unpack(struct cs_arena *a, struct cs_slice data, Common__Bundle **out, struct cs_err *e)
{
    ProtobufCMessage *m = NULL;
    if (proto_unpack(a, &common__bundle__descriptor, data, &m, e) != CS_OK)
        return cs_fail(e, CS_INTERNAL, "datastore-sql: failed to unmarshal bundle");
    *out = (Common__Bundle *)m;
    return CS_OK;
}

/* --- Between the plain values and the message --- */

static ProtobufCBinaryData bytes_of(struct cs_slice s)
{
    return (ProtobufCBinaryData){.len = s.len, .data = (uint8_t *)s.data};
}

static struct cs_slice slice_of(ProtobufCBinaryData b)
{
    return cs_slice_of(b.data, b.len);
}

static bool keys_to_proto(struct cs_arena *a, const struct ds_key *in, size_t n, Common__PublicKey ***out)
{
    Common__PublicKey **list = cs_arena_alloc(a, (n + 1) * sizeof *list);
    Common__PublicKey *keys = cs_arena_alloc(a, (n + 1) * sizeof *keys);
    if (!list || !keys)
        return false;
    for (size_t i = 0; i < n; i++) {
        common__public_key__init(&keys[i]);
        keys[i].pkix_bytes = bytes_of(in[i].pkix);
        keys[i].kid = (char *)ds_text(in[i].kid);
        keys[i].not_after = in[i].not_after;
        keys[i].tainted_key = in[i].tainted;
        list[i] = &keys[i];
    }
    *out = list;
    return true;
}

static bool roots_to_proto(struct cs_arena *a, const struct ds_cert *in, size_t n, Common__Certificate ***out)
{
    Common__Certificate **list = cs_arena_alloc(a, (n + 1) * sizeof *list);
    Common__Certificate *certs = cs_arena_alloc(a, (n + 1) * sizeof *certs);
    if (!list || !certs)
        return false;
    for (size_t i = 0; i < n; i++) {
        common__certificate__init(&certs[i]);
        certs[i].der_bytes = bytes_of(in[i].der);
        certs[i].tainted_key = in[i].tainted;
        list[i] = &certs[i];
    }
    *out = list;
    return true;
}

cs_code ds_bundle_to_proto(struct cs_arena *a, const struct ds_bundle *in, Common__Bundle **out,
                           struct cs_err *e)
{
    if (!in)
        return cs_fail(e, CS_UNKNOWN, "datastore-sql: missing bundle in request");
    Common__Bundle *b = cs_arena_alloc(a, sizeof *b);
    if (!b)
        return cs_nomem(e);
    common__bundle__init(b);
    b->trust_domain_id = (char *)ds_text(in->trust_domain);
    b->refresh_hint = in->refresh_hint;
    b->sequence_number = in->sequence_number;
    b->n_root_cas = in->n_roots;
    b->n_jwt_signing_keys = in->n_jwt_keys;
    b->n_wit_signing_keys = in->n_wit_keys;
    if (!roots_to_proto(a, in->roots, in->n_roots, &b->root_cas) ||
        !keys_to_proto(a, in->jwt_keys, in->n_jwt_keys, &b->jwt_signing_keys) ||
        !keys_to_proto(a, in->wit_keys, in->n_wit_keys, &b->wit_signing_keys))
        return cs_nomem(e);
    *out = b;
    return CS_OK;
}

static struct ds_key *keys_from_proto(struct cs_arena *a, Common__PublicKey *const *in, size_t n)
{
    struct ds_key *keys = cs_arena_alloc(a, (n + 1) * sizeof *keys);
    for (size_t i = 0; keys && i < n; i++)
        keys[i] = (struct ds_key){.pkix = slice_of(in[i]->pkix_bytes),
                                  .kid = ds_text(in[i]->kid),
                                  .not_after = in[i]->not_after,
                                  .tainted = in[i]->tainted_key};
    return keys;
}

cs_code ds_bundle_from_proto(struct cs_arena *a, const Common__Bundle *in, struct ds_bundle *out,
                             struct cs_err *e)
{
    struct ds_cert *roots = cs_arena_alloc(a, (in->n_root_cas + 1) * sizeof *roots);
    struct ds_key *jwt = keys_from_proto(a, in->jwt_signing_keys, in->n_jwt_signing_keys);
    struct ds_key *wit = keys_from_proto(a, in->wit_signing_keys, in->n_wit_signing_keys);
    if (!roots || !jwt || !wit)
        return cs_nomem(e);
    for (size_t i = 0; i < in->n_root_cas; i++)
        roots[i] = (struct ds_cert){slice_of(in->root_cas[i]->der_bytes), in->root_cas[i]->tainted_key};
    *out = (struct ds_bundle){.trust_domain = ds_text(in->trust_domain_id),
                              .roots = roots,
                              .n_roots = in->n_root_cas,
                              .jwt_keys = jwt,
                              .n_jwt_keys = in->n_jwt_signing_keys,
                              .wit_keys = wit,
                              .n_wit_keys = in->n_wit_signing_keys,
                              .refresh_hint = in->refresh_hint,
                              .sequence_number = in->sequence_number};
    return CS_OK;
}

/* --- Merging --- */

static bool cert_same(const Common__Certificate *a, const Common__Certificate *b)
{
    return a->tainted_key == b->tainted_key && cs_slice_eq(slice_of(a->der_bytes), slice_of(b->der_bytes));
}

static bool key_same(const Common__PublicKey *a, const Common__PublicKey *b)
{
    return a->tainted_key == b->tainted_key && a->not_after == b->not_after &&
           strcmp(ds_text(a->kid), ds_text(b->kid)) == 0 &&
           cs_slice_eq(slice_of(a->pkix_bytes), slice_of(b->pkix_bytes));
}

static bool merge_roots(struct cs_arena *a, Common__Bundle *to, const Common__Bundle *from, bool *changed)
{
    Common__Certificate **list = cs_arena_alloc(a, (to->n_root_cas + from->n_root_cas + 1) * sizeof *list);
    if (!list)
        return false;
    size_t n = to->n_root_cas, known = n;
    for (size_t i = 0; i < n; i++)
        list[i] = to->root_cas[i];
    for (size_t i = 0; i < from->n_root_cas; i++) {
        bool have = false;
        for (size_t j = 0; j < known && !have; j++)
            have = cert_same(list[j], from->root_cas[i]);
        if (!have)
            list[n++] = from->root_cas[i];
    }
    *changed |= n > known;
    to->root_cas = list;
    to->n_root_cas = n;
    return true;
}

static bool merge_keys(struct cs_arena *a, Common__PublicKey ***to, size_t *n_to,
                       Common__PublicKey *const *from, size_t n_from, bool *changed)
{
    Common__PublicKey **list = cs_arena_alloc(a, (*n_to + n_from + 1) * sizeof *list);
    if (!list)
        return false;
    size_t n = *n_to, known = n;
    for (size_t i = 0; i < n; i++)
        list[i] = (*to)[i];
    for (size_t i = 0; i < n_from; i++) {
        bool have = false;
        for (size_t j = 0; j < known && !have; j++)
            have = key_same(list[j], from[i]);
        if (!have)
            list[n++] = from[i];
    }
    *changed |= n > known;
    *to = list;
    *n_to = n;
    return true;
}

cs_code ds_bundle_merge(struct cs_arena *a, Common__Bundle *to, const Common__Bundle *from, bool *changed,
                        struct cs_err *e)
{
    *changed = false;
    if (!merge_roots(a, to, from, changed) ||
        !merge_keys(a, &to->jwt_signing_keys, &to->n_jwt_signing_keys, from->jwt_signing_keys,
                    from->n_jwt_signing_keys, changed) ||
        !merge_keys(a, &to->wit_signing_keys, &to->n_wit_signing_keys, from->wit_signing_keys,
                    from->n_wit_signing_keys, changed))
        return cs_nomem(e);
    return CS_OK;
}

/* --- Pruning --- */

static void log_expired(const struct cs_log *log, const char *msg, const char *key, const char *name,
                        int64_t expires)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf when = {0};
    cs_time_go_string(&when, expires);
    cs_log_info(log, msg, KV(key, name), KV("expiration", cs_buf_cstr(&when)));
}

/* A row with any expired certificate in it goes as a whole. */
static cs_code root_expired(const struct cs_log *log, const Common__Certificate *root, int64_t before,
                            bool *expired, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    *expired = false;
    if (x509_chain_parse_der(slice_of(root->der_bytes), X509_CHAIN_MAX, &chain, e) != CS_OK)
        return cs_wrap(e, "prune failed: cannot parse certificates");
    for (size_t i = 0; i < chain.count && !*expired; i++) {
        if (chain.at[i]->not_after > before)
            continue;
        CS_CLEANUP(cs_buf_free) struct cs_buf serial = {0};
        x509_cert_serial_dec(&serial, chain.at[i]);
        log_expired(log, "Pruning CA certificate due to expiration", "serial_num", cs_buf_cstr(&serial),
                    chain.at[i]->not_after);
        *expired = true;
    }
    return CS_OK;
}

static size_t keep_valid(const struct cs_log *log, const char *msg, Common__PublicKey **keys, size_t n,
                         int64_t before)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (keys[i]->not_after > before)
            keys[kept++] = keys[i];
        else
            log_expired(log, msg, "kid", ds_text(keys[i]->kid), keys[i]->not_after);
    }
    return kept;
}

static cs_code keep_one(size_t before, size_t after, const struct cs_log *log, const char *warning,
                        const char *what, struct cs_err *e)
{
    if (before == 0 || after > 0)
        return CS_OK;
    cs_log_warn(log, warning);
    return cs_fail(e, CS_UNKNOWN, "prune failed: would prune all %s", what);
}

cs_code ds_bundle_drop_expired(const struct cs_log *log, Common__Bundle *b, int64_t before, bool *changed,
                               struct cs_err *e)
{
    size_t roots = 0;
    for (size_t i = 0; i < b->n_root_cas; i++) {
        bool expired = false;
        CS_TRY(root_expired(log, b->root_cas[i], before, &expired, e));
        if (!expired)
            b->root_cas[roots++] = b->root_cas[i];
    }
    size_t jwt = keep_valid(log, "Pruning JWT signing key due to expiration", b->jwt_signing_keys,
                            b->n_jwt_signing_keys, before);
    size_t wit = keep_valid(log, "Pruning WIT signing key due to expiration", b->wit_signing_keys,
                            b->n_wit_signing_keys, before);
    CS_TRY(
        keep_one(1, roots, log, "Pruning halted; all known CA certificates have expired", "certificates", e));
    CS_TRY(keep_one(b->n_jwt_signing_keys, jwt, log,
                    "Pruning halted; all known JWT signing keys have expired", "JWT signing keys", e));
    CS_TRY(keep_one(b->n_wit_signing_keys, wit, log,
                    "Pruning halted; all known WIT signing keys have expired", "WIT signing keys", e));
    *changed = roots != b->n_root_cas || jwt != b->n_jwt_signing_keys || wit != b->n_wit_signing_keys;
    b->n_root_cas = roots;
    b->n_jwt_signing_keys = jwt;
    b->n_wit_signing_keys = wit;
    return CS_OK;
}

/* --- Rows --- */

cs_code ds_bundle_row_get(struct ds_conn *c, struct cs_arena *a, const char *trust_domain,
                          struct ds_bundle_row *out, struct cs_err *e)
{
    *out = (struct ds_bundle_row){0};
    struct cs_slice data = {0};
    struct ds_q q = ds_q(c, DS_SQL_BUNDLE_GET);
    ds_put_text(&q, trust_domain);
    if (ds_next(&q)) {
        out->id = ds_int(&q, 0);
        data = ds_blob(&q, a, 1);
    }
    CS_TRY(ds_done(&q, e));
    return out->id ? ds_bundle_unpack(a, data, &out->bundle, e) : CS_OK;
}

static cs_code note_bundle(struct ds_tx *tx, const Common__Bundle *b, struct cs_err *e)
{
    if (!ds_tx_observed(tx))
        return CS_OK;
    struct cs_arena *a = ds_tx_arena(tx);
    struct ds_bundle *now = a ? cs_arena_alloc(a, sizeof *now) : NULL;
    if (!now)
        return cs_nomem(e);
    CS_TRY(ds_bundle_from_proto(a, b, now, e));
    return ds_tx_changed(
        tx, &(struct ds_change){.kind = DS_CHANGE_BUNDLE, .id = now->trust_domain, .bundle = now}, e);
}

cs_code ds_bundle_row_put(struct ds_tx *tx, const struct ds_bundle_row *row, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf data = {0};
    CS_TRY(proto_pack(&row->bundle->base, &data, e));
    struct ds_q q = ds_q(tx->c, row->id ? DS_SQL_BUNDLE_UPDATE : DS_SQL_BUNDLE_INSERT);
    ds_put_text(&q, tx->now);
    if (!row->id)
        ds_put_text(&q, row->bundle->trust_domain_id);
    ds_put_blob(&q, cs_buf_slice(&data));
    if (row->id)
        ds_put_int(&q, row->id);
    CS_TRY(ds_run(&q, e));
    return note_bundle(tx, row->bundle, e);
}

cs_code ds_bundle_put_all(struct ds_tx *tx, const struct ds_bundle *b, Common__Bundle **stored,
                          struct cs_err *e)
{
    struct cs_arena *a = ds_tx_arena(tx);
    if (!a)
        return cs_nomem(e);
    struct ds_bundle_row row;
    Common__Bundle *new = NULL;
    CS_TRY(ds_bundle_to_proto(a, b, &new, e));
    CS_TRY(ds_bundle_row_get(tx->c, a, b->trust_domain, &row, e));
    if (row.bundle) { /* keep fields that we do not know */
        new->base.n_unknown_fields = row.bundle->base.n_unknown_fields;
        new->base.unknown_fields = row.bundle->base.unknown_fields;
    }
    row.bundle = new;
    if (stored)
        *stored = new;
    return ds_bundle_row_put(tx, &row, e);
}
