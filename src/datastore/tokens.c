/* SPDX-License-Identifier: Apache-2.0
 *
 * Join tokens.
 */
#include "datastore/db.h"

cs_code ds_token_create(struct ds *d, const char *token, int64_t expires_at, struct cs_err *e)
{
    struct ds_tx tx;
    if (ds_text(token)[0] == '\0' || expires_at == 0)
        return cs_fail(e, CS_UNKNOWN, "token and expiry are required");
    CS_TRY(ds_tx_write(&tx, d, "create join token", e));
    struct ds_q q = ds_q(tx.c, DS_SQL_TOKEN_INSERT);
    ds_put_text(&q, tx.now);
    ds_put_text(&q, token);
    ds_put_int(&q, expires_at);
    return ds_tx_end(&tx, ds_run(&q, e), e);
}

static cs_code get(struct ds_conn *c, const char *token, bool *found, int64_t *expires_at, struct cs_err *e)
{
    struct ds_q q = ds_q(c, DS_SQL_TOKEN_GET);
    ds_put_text(&q, token);
    *found = ds_next(&q);
    *expires_at = *found ? ds_int(&q, 0) : 0;
    return ds_done(&q, e);
}

static cs_code drop(struct ds_conn *c, const char *token, struct cs_err *e)
{
    struct ds_q q = ds_q(c, DS_SQL_TOKEN_DELETE);
    ds_put_text(&q, token);
    return ds_run(&q, e);
}

cs_code ds_token_fetch(struct ds *d, const char *token, bool *found, int64_t *expires_at, struct cs_err *e)
{
    struct ds_tx tx;
    int64_t expires = 0;
    *found = false;
    CS_TRY(ds_tx_read(&tx, d, "fetch join token", false, e));
    cs_code code = ds_tx_end(&tx, get(tx.c, token, found, &expires, e), e);
    if (expires_at)
        *expires_at = expires;
    return code;
}

static cs_code use(struct ds_conn *c, const char *token, bool *found, int64_t *expires_at, struct cs_err *e)
{
    CS_TRY(get(c, token, found, expires_at, e));
    return *found ? drop(c, token, e) : CS_OK;
}

cs_code ds_token_use(struct ds *d, const char *token, bool *found, int64_t *expires_at, struct cs_err *e)
{
    struct ds_tx tx;
    bool had = false;
    int64_t expires = 0;
    *found = false;
    if (expires_at)
        *expires_at = 0;
    CS_TRY(ds_tx_write(&tx, d, "use join token", e));
    CS_TRY(ds_tx_end(&tx, use(tx.c, token, &had, &expires, e), e));
    *found = had; /* only now is it gone for good */
    if (expires_at)
        *expires_at = expires;
    return CS_OK;
}

static cs_code delete_token(struct ds_conn *c, const char *token, struct cs_err *e)
{
    CS_TRY(drop(c, token, e));
    return sqlite3_changes(c->db) == 1 ? CS_OK : ds_not_found(e);
}

cs_code ds_token_delete(struct ds *d, const char *token, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "delete join token", e));
    return ds_tx_end(&tx, delete_token(tx.c, token, e), e);
}

cs_code ds_token_prune(struct ds *d, int64_t before, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "prune join tokens", e));
    struct ds_q q = ds_q(tx.c, DS_SQL_TOKEN_PRUNE);
    ds_put_int(&q, before);
    return ds_tx_end(&tx, ds_run(&q, e), e);
}
