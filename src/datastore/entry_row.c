/* SPDX-License-Identifier: Apache-2.0
 *
 * Registration entries out of their tables, one at a time or merged in one walk.
 */
#include "datastore/child.h"
#include "datastore/entries.h"

#include "proto/proto.h"

#include "common.pb-c.h"

typedef Common__RegistrationEntry__AdditionalAttributes attributes;

static cs_code read_attributes(struct cs_arena *a, struct cs_slice blob, struct ds_entry *out,
                               struct cs_err *e)
{
    if (blob.len == 0)
        return CS_OK;
    ProtobufCMessage *m = NULL;
    if (proto_unpack(a, &common__registration_entry__additional_attributes__descriptor, blob, &m, e) != CS_OK)
        return cs_fail(e, CS_UNKNOWN, "datastore-sql: could not parse cache hint flags of entry %s",
                       out->entry_id);
    const attributes *attrs = (const attributes *)m;
    out->has_attributes = true;
    out->disable_x509_svid_prefetch = attrs->disable_x509_svid_prefetch;
    out->jwt_svid_include_jti = attrs->jwt_svid_include_jti;
    return CS_OK;
}

static cs_code read_ttl(struct ds_q *q, int col, const char *what, int32_t *out, struct cs_err *e)
{
    int64_t v = ds_int(q, col);
    if (v < INT32_MIN || v > INT32_MAX)
        return cs_fail(e, CS_UNKNOWN, "datastore-sql: invalid value for %s SVID TTL: %lld", what,
                       (long long)v);
    *out = (int32_t)v;
    return CS_OK;
}

cs_code ds_entry_read_row(struct ds_q *q, struct cs_arena *a, int64_t *row, struct ds_entry *out,
                          struct cs_err *e)
{
    *row = ds_int(q, 0);
    *out = (struct ds_entry){.entry_id = ds_str(q, a, 1),
                             .spiffe_id = ds_str(q, a, 2),
                             .parent_id = ds_str(q, a, 3),
                             .admin = ds_int(q, 5) != 0,
                             .downstream = ds_int(q, 6) != 0,
                             .expires_at = ds_int(q, 7),
                             .store_svid = ds_int(q, 8) != 0,
                             .hint = ds_str(q, a, 9),
                             .created_at = ds_time_rounded(q, 10),
                             .revision_number = ds_int(q, 11)};
    CS_TRY(read_ttl(q, 4, "X.509", &out->x509_svid_ttl, e));
    CS_TRY(read_ttl(q, 12, "JWT", &out->jwt_svid_ttl, e));
    return read_attributes(a, ds_view(q, 13), out, e);
}

cs_code ds_entry_read_lists(struct ds_conn *c, struct cs_arena *a, int64_t row, bool sorted,
                            struct ds_entry *out, struct cs_err *e)
{
    enum ds_child_order order = sorted ? DS_BY_VALUE : DS_BY_ROW;
    struct ds_q q = ds_q(c, DS_SQL_SEL_OF);
    ds_put_int(&q, row);
    CS_TRY(ds_child_selectors(&q, a, order, &out->selectors, &out->n_selectors, e));
    q = ds_q(c, DS_SQL_DNS_OF);
    ds_put_int(&q, row);
    CS_TRY(ds_child_texts(&q, a, order, &out->dns_names, &out->n_dns_names, e));
    q = ds_q(c, DS_SQL_FED_OF);
    ds_put_int(&q, row);
    return ds_child_texts(&q, a, DS_BY_VALUE, &out->federates_with, &out->n_federates_with, e);
}

static cs_code load(struct ds_q *q, struct cs_arena *a, bool sorted, int64_t *row, struct ds_entry *out,
                    struct cs_err *e)
{
    cs_code code = CS_OK;
    *row = 0;
    if (ds_next(q))
        code = ds_entry_read_row(q, a, row, out, e);
    struct ds_conn *c = q->c;
    cs_code done = ds_done(q, code == CS_OK ? e : NULL);
    CS_TRY(code);
    CS_TRY(done);
    return *row ? ds_entry_read_lists(c, a, *row, sorted, out, e) : CS_OK;
}

cs_code ds_entry_load(struct ds_conn *c, struct cs_arena *a, const char *entry_id, bool sorted, int64_t *row,
                      struct ds_entry *out, struct cs_err *e)
{
    struct ds_q q = ds_q(c, DS_SQL_ENTRY_GET);
    ds_put_text(&q, entry_id);
    return load(&q, a, sorted, row, out, e);
}

cs_code ds_entry_load_row(struct ds_conn *c, struct cs_arena *a, int64_t row, bool sorted,
                          struct ds_entry *out, struct cs_err *e)
{
    struct ds_q q = ds_q(c, DS_SQL_ENTRY_BY_ROW);
    ds_put_int(&q, row);
    int64_t found = 0;
    CS_TRY(load(&q, a, sorted, &found, out, e));
    return found ? CS_OK : ds_not_found(e);
}
