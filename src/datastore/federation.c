/* SPDX-License-Identifier: Apache-2.0
 *
 * Federation relationships: where the bundles of other trust domains come from.
 */
#include "datastore/bundle_codec.h"

#define PROFILE_WEB "https_web"
#define PROFILE_SPIFFE "https_spiffe"

static cs_code check(const struct ds_federation *f, const struct ds_federation_mask *m, struct cs_err *e)
{
    const char *profile = ds_text(f->endpoint_profile);
    if (ds_text(f->trust_domain)[0] == '\0')
        return cs_fail(e, CS_INVALID, "trust domain is required");
    if ((!m || m->endpoint_url) && ds_text(f->endpoint_url)[0] == '\0')
        return cs_fail(e, CS_INVALID, "bundle endpoint URL is required");
    if (m && !m->endpoint_profile)
        return CS_OK;
    if (strcmp(profile, PROFILE_WEB) == 0)
        return CS_OK;
    if (strcmp(profile, PROFILE_SPIFFE) != 0)
        return cs_fail(e, CS_INVALID, "unknown bundle endpoint profile type: \"%s\"", profile);
    if (ds_text(f->endpoint_spiffe_id)[0] == '\0')
        return cs_fail(e, CS_INVALID, "bundle endpoint SPIFFE ID is required");
    return CS_OK;
}

/* --- Reading --- */

static void read_row(struct ds_q *q, struct cs_arena *a, int64_t *row, struct ds_federation *out)
{
    *row = ds_int(q, 0);
    *out = (struct ds_federation){.trust_domain = ds_str(q, a, 1),
                                  .endpoint_url = ds_str(q, a, 2),
                                  .endpoint_profile = ds_str(q, a, 3),
                                  .endpoint_spiffe_id = ds_str(q, a, 4)};
    if (strcmp(out->endpoint_profile, PROFILE_SPIFFE) != 0)
        out->endpoint_spiffe_id = "";
}

static cs_code add_bundle(struct ds_conn *c, struct cs_arena *a, struct ds_federation *f, struct cs_err *e)
{
    struct ds_bundle_row row;
    const char *id = cs_arena_printf(a, "spiffe://%s", f->trust_domain);
    struct ds_bundle *bundle = cs_arena_alloc(a, sizeof *bundle);
    if (!id || !bundle)
        return cs_nomem(e);
    CS_TRY(ds_bundle_row_get(c, a, id, &row, e));
    if (!row.id)
        return CS_OK;
    CS_TRY(ds_bundle_from_proto(a, row.bundle, bundle, e));
    f->bundle = bundle;
    return CS_OK;
}

static cs_code fetch(struct ds_conn *c, struct cs_arena *a, const char *trust_domain,
                     struct ds_federation **out, struct cs_err *e)
{
    int64_t row = 0;
    struct ds_federation *f = cs_arena_alloc(a, sizeof *f);
    if (!f)
        return cs_nomem(e);
    struct ds_q q = ds_q(c, DS_SQL_FTD_GET);
    ds_put_text(&q, trust_domain);
    if (ds_next(&q))
        read_row(&q, a, &row, f);
    CS_TRY(ds_done(&q, e));
    if (!row)
        return CS_OK;
    CS_TRY(add_bundle(c, a, f, e));
    *out = f;
    return CS_OK;
}

cs_code ds_federation_fetch(struct ds *d, struct cs_arena *a, const char *trust_domain,
                            struct ds_federation **out, struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    if (ds_text(trust_domain)[0] == '\0')
        return cs_fail(e, CS_INVALID, "trust domain is required");
    CS_TRY(ds_tx_read(&tx, d, "fetch federation relationship", true, e));
    return ds_tx_end(&tx, fetch(tx.c, a, trust_domain, out, e), e);
}

static cs_code list(struct ds_tx *tx, struct cs_arena *a, const struct ds_page *page,
                    struct ds_federation **out, size_t *n, const char **next, struct cs_err *e)
{
    int64_t after = 0, limit = 0, last = 0;
    CS_TRY(ds_page_start(page, &after, &limit, e));
    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    struct ds_q q = ds_q(tx->c, DS_SQL_FTD_PAGE);
    ds_put_int(&q, after);
    ds_put_int(&q, limit);
    while (ds_next(&q)) {
        struct ds_federation *row = ds_rows_add(&rows, sizeof *row);
        if (row)
            read_row(&q, a, &last, row);
        else
            q.rc = SQLITE_NOMEM;
    }
    CS_TRY(ds_done(&q, e));
    struct ds_federation *kept = ds_rows_keep(&rows, a, sizeof *kept);
    if (!kept)
        return cs_nomem(e);
    for (size_t i = 0; i < rows.n; i++)
        CS_TRY(add_bundle(tx->c, a, &kept[i], e));
    CS_TRY(ds_page_end(page, a, last, next, e));
    *out = kept;
    *n = rows.n;
    return CS_OK;
}

cs_code ds_federation_list(struct ds *d, struct cs_arena *a, const struct ds_page *page,
                           struct ds_federation **out, size_t *n, const char **next, struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    *n = 0;
    CS_TRY(ds_tx_read(&tx, d, "list federation relationships", true, e));
    return ds_tx_end(&tx, list(&tx, a, page, out, n, next, e), e);
}

/* --- Writing --- */

static cs_code put_bundle(struct ds_tx *tx, const struct ds_bundle *b, struct cs_err *e)
{
    if (b && ds_bundle_put_all(tx, b, NULL, e) != CS_OK)
        return cs_wrap(e, "unable to set bundle");
    return CS_OK;
}

static cs_code create(struct ds_tx *tx, const struct ds_federation *f, struct cs_err *e)
{
    bool spiffe = strcmp(f->endpoint_profile, PROFILE_SPIFFE) == 0;
    CS_TRY(put_bundle(tx, f->bundle, e));
    struct ds_q q = ds_q(tx->c, DS_SQL_FTD_INSERT);
    ds_put_text(&q, tx->now);
    ds_put_text(&q, f->trust_domain);
    ds_put_text(&q, f->endpoint_url);
    ds_put_text(&q, f->endpoint_profile);
    ds_put_text(&q, spiffe ? f->endpoint_spiffe_id : "");
    return ds_run(&q, e);
}

cs_code ds_federation_create(struct ds *d, const struct ds_federation *f, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(check(f, NULL, e));
    CS_TRY(ds_tx_write(&tx, d, "create federation relationship", e));
    return ds_tx_end(&tx, create(&tx, f, e), e);
}

static cs_code update(struct ds_tx *tx, struct cs_arena *a, const struct ds_federation *in,
                      const struct ds_federation_mask *m, struct ds_federation **out, struct cs_err *e)
{
    struct cs_arena *scratch = ds_tx_arena(tx);
    struct ds_federation *now = NULL;
    if (!scratch)
        return cs_nomem(e);
    CS_TRY(fetch(tx->c, scratch, in->trust_domain, &now, e));
    if (!now)
        return cs_fail(e, CS_NOT_FOUND, "unable to fetch federation relationship: record not found");
    if (!m || m->endpoint_url)
        now->endpoint_url = in->endpoint_url;
    if (!m || m->endpoint_profile) {
        now->endpoint_profile = in->endpoint_profile;
        now->endpoint_spiffe_id =
            strcmp(in->endpoint_profile, PROFILE_SPIFFE) == 0 ? in->endpoint_spiffe_id : "";
    }
    if (!m || m->bundle)
        CS_TRY(put_bundle(tx, in->bundle, e));
    struct ds_q q = ds_q(tx->c, DS_SQL_FTD_UPDATE);
    ds_put_text(&q, tx->now);
    ds_put_text(&q, now->endpoint_url);
    ds_put_text(&q, now->endpoint_profile);
    ds_put_text(&q, now->endpoint_spiffe_id);
    ds_put_text(&q, in->trust_domain);
    CS_TRY(ds_run(&q, e));
    return out ? fetch(tx->c, a, in->trust_domain, out, e) : CS_OK;
}

cs_code ds_federation_update(struct ds *d, struct cs_arena *a, const struct ds_federation *f,
                             const struct ds_federation_mask *mask, struct ds_federation **out,
                             struct cs_err *e)
{
    struct ds_tx tx;
    if (out)
        *out = NULL;
    CS_TRY(check(f, mask, e));
    CS_TRY(ds_tx_write(&tx, d, "update federation relationship", e));
    return ds_tx_end(&tx, update(&tx, a, f, mask, out, e), e);
}

static cs_code remove_row(struct ds_conn *c, const char *trust_domain, struct cs_err *e)
{
    struct ds_q q = ds_q(c, DS_SQL_FTD_DELETE);
    ds_put_text(&q, trust_domain);
    CS_TRY(ds_run(&q, e));
    return sqlite3_changes(c->db) == 1 ? CS_OK : ds_not_found(e);
}

cs_code ds_federation_delete(struct ds *d, const char *trust_domain, struct cs_err *e)
{
    struct ds_tx tx;
    if (ds_text(trust_domain)[0] == '\0')
        return cs_fail(e, CS_INVALID, "trust domain is required");
    CS_TRY(ds_tx_write(&tx, d, "delete federation relationship", e));
    return ds_tx_end(&tx, remove_row(tx.c, trust_domain, e), e);
}
