/* SPDX-License-Identifier: Apache-2.0
 *
 * The schema: made new, or brought forward, or refused, by upstream's rules (SPIRE 1.15
 * pkg/server/datastore/sqlstore/migration.go). The texts below are byte for byte what upstream leaves
 * in sqlite_master, so that the two cannot be told apart.
 */
#include "datastore/db.h"

#include <stdio.h>

/* Schema version of the release before: what is older needs that release first. */
#define OLDEST_SCHEMA 23

#define MODEL "\"id\" integer primary key autoincrement,\"created_at\" datetime,\"updated_at\" datetime,"
#define STR "varchar(255)"

static const char *const tables[] = {
    "CREATE TABLE \"federated_registration_entries\" (\"bundle_id\" integer,\"registered_entry_id\" integer, "
    "PRIMARY KEY (\"bundle_id\",\"registered_entry_id\"))",
    "CREATE TABLE \"bundles\" (" MODEL "\"trust_domain\" " STR " NOT NULL,\"data\" blob )",
    "CREATE UNIQUE INDEX uix_bundles_trust_domain ON \"bundles\"(trust_domain) ",
    "CREATE TABLE \"attested_node_entries\" (" MODEL "\"spiffe_id\" " STR ",\"data_type\" " STR
    ",\"serial_number\" " STR ",\"expires_at\" datetime,\"new_serial_number\" " STR
    ",\"new_expires_at\" datetime,\"can_reattest\" bool,\"agent_version\" " STR " )",
    "CREATE INDEX idx_attested_node_entries_expires_at ON \"attested_node_entries\"(expires_at) ",
    "CREATE UNIQUE INDEX uix_attested_node_entries_spiffe_id ON \"attested_node_entries\"(spiffe_id) ",
    "CREATE TABLE \"attested_node_entries_events\" (" MODEL "\"spiffe_id\" " STR " )",
    "CREATE TABLE \"node_resolver_map_entries\" (" MODEL "\"spiffe_id\" " STR ",\"type\" " STR
    ",\"value\" " STR " )",
    "CREATE UNIQUE INDEX idx_node_resolver_map ON \"node_resolver_map_entries\"(spiffe_id, \"type\", "
    "\"value\") ",
    "CREATE TABLE \"registered_entries\" (" MODEL "\"entry_id\" " STR ",\"spiffe_id\" " STR
    ",\"parent_id\" " STR
    ",\"ttl\" integer,\"admin\" bool,\"downstream\" bool,\"expiry\" bigint,\"revision_number\" bigint,"
    "\"store_svid\" bool,\"hint\" " STR ",\"jwt_svid_ttl\" integer,\"additional_attributes\" blob )",
    "CREATE INDEX idx_registered_entries_spiffe_id ON \"registered_entries\"(spiffe_id) ",
    "CREATE INDEX idx_registered_entries_parent_id ON \"registered_entries\"(parent_id) ",
    "CREATE INDEX idx_registered_entries_expiry ON \"registered_entries\"(\"expiry\") ",
    "CREATE INDEX idx_registered_entries_hint ON \"registered_entries\"(\"hint\") ",
    "CREATE UNIQUE INDEX uix_registered_entries_entry_id ON \"registered_entries\"(entry_id) ",
    "CREATE TABLE \"registered_entries_events\" (" MODEL "\"entry_id\" " STR " )",
    "CREATE TABLE \"join_tokens\" (" MODEL "\"token\" " STR ",\"expiry\" bigint )",
    "CREATE UNIQUE INDEX uix_join_tokens_token ON \"join_tokens\"(\"token\") ",
    "CREATE TABLE \"selectors\" (" MODEL "\"registered_entry_id\" integer,\"type\" " STR ",\"value\" " STR
    " )",
    "CREATE INDEX idx_selectors_type_value ON \"selectors\"(\"type\", \"value\") ",
    "CREATE UNIQUE INDEX idx_selector_entry ON \"selectors\"(registered_entry_id, \"type\", \"value\") ",
    "CREATE TABLE \"migrations\" (" MODEL "\"version\" integer,\"code_version\" " STR " )",
    "CREATE TABLE \"dns_names\" (" MODEL "\"registered_entry_id\" integer,\"value\" " STR " )",
    "CREATE UNIQUE INDEX idx_dns_entry ON \"dns_names\"(registered_entry_id, \"value\") ",
    "CREATE TABLE \"federated_trust_domains\" (" MODEL "\"trust_domain\" " STR
    " NOT NULL,\"bundle_endpoint_url\" " STR ",\"bundle_endpoint_profile\" " STR
    ",\"endpoint_spiffe_id\" " STR ",\"implicit\" bool )",
    "CREATE UNIQUE INDEX uix_federated_trust_domains_trust_domain ON "
    "\"federated_trust_domains\"(trust_domain) ",
    "CREATE TABLE \"ca_journals\" (" MODEL "\"data\" blob,\"active_x509_authority_id\" " STR
    ",\"active_jwt_authority_id\" " STR " )",
    "CREATE INDEX idx_ca_journals_active_x509_authority_id ON \"ca_journals\"(active_x509_authority_id) ",
    "CREATE INDEX idx_ca_journals_active_jwt_authority_id ON \"ca_journals\"(active_jwt_authority_id) ",
    "CREATE INDEX idx_federated_registration_entries_registered_entry_id ON "
    "\"federated_registration_entries\"(registered_entry_id) ",
};

/* What each version added over the one before it: a column. */
static const struct migration {
    int from;
    const char *table, *column, *sql;
} migrations[] = {
    {23, "attested_node_entries", "agent_version",
     "ALTER TABLE \"attested_node_entries\" ADD \"agent_version\" varchar(255)"},
    {24, "registered_entries", "additional_attributes",
     "ALTER TABLE \"registered_entries\" ADD \"additional_attributes\" blob"},
};

/* --- Code versions (semver.org 2.0.0; build metadata is ignored) --- */

struct version {
    int64_t major, minor, patch;
    const char *pre; /* "" when there is none */
    size_t pre_len;
};

static bool number(const char **p, int64_t *out)
{
    const char *s = *p;
    int64_t v = 0;
    while (**p >= '0' && **p <= '9' && *p - s < 10)
        v = v * 10 + (*(*p)++ - '0');
    *out = v;
    return *p > s && !(*s == '0' && *p - s > 1);
}

static bool version_parse(const char *s, struct version *v)
{
    *v = (struct version){.pre = ""};
    if (*s == '\0')
        return true; /* before 0.9, and fresh: 0.0.0 */
    bool ok =
        number(&s, &v->major) && *s++ == '.' && number(&s, &v->minor) && *s++ == '.' && number(&s, &v->patch);
    if (!ok)
        return false;
    if (*s == '-') {
        v->pre = ++s;
        v->pre_len = strcspn(s, "+");
        if (v->pre_len == 0)
            return false;
        s += v->pre_len;
    }
    return *s == '\0' || *s == '+';
}

/* One dot-separated identifier of a pre-release: numbers sort by value and before words. */
static int identifier_cmp(const char *a, size_t an, const char *b, size_t bn)
{
    bool a_num = strspn(a, "0123456789") >= an, b_num = strspn(b, "0123456789") >= bn;
    if (a_num != b_num)
        return a_num ? -1 : 1;
    if (a_num && an != bn)
        return an < bn ? -1 : 1;
    int c = memcmp(a, b, an < bn ? an : bn);
    if (c != 0)
        return c;
    return an == bn ? 0 : an < bn ? -1 : 1;
}

static int pre_cmp(const struct version *x, const struct version *y)
{
    if (x->pre_len == 0 || y->pre_len == 0)
        return (x->pre_len == 0) - (y->pre_len == 0); /* a release comes after its pre-releases */
    const char *a = x->pre, *b = y->pre;
    const char *a_end = a + x->pre_len, *b_end = b + y->pre_len;
    for (;;) {
        size_t an = strcspn(a, ".+"), bn = strcspn(b, ".+");
        int c = identifier_cmp(a, an, b, bn);
        if (c != 0)
            return c;
        bool a_last = a + an >= a_end, b_last = b + bn >= b_end;
        if (a_last || b_last)
            return b_last - a_last;
        a += an + 1;
        b += bn + 1;
    }
}

static int version_cmp(const struct version *x, const struct version *y)
{
    int64_t d = x->major - y->major;
    d = d ? d : x->minor - y->minor;
    d = d ? d : x->patch - y->patch;
    return d ? (d < 0 ? -1 : 1) : pre_cmp(x, y);
}

/* Neighbouring minor releases of the same major one share a database. */
static bool version_compatible(const struct version *x, const struct version *y)
{
    return x->major == y->major && x->minor - y->minor >= -1 && x->minor - y->minor <= 1;
}

/* --- Reading and writing the version row --- */

static cs_code run_text(struct ds_conn *c, const char *sql, struct cs_err *e)
{
    struct ds_q q = ds_q_composed(c, cs_slice_str(sql));
    return ds_run(&q, e);
}

static cs_code has_row(struct ds_conn *c, const char *sql, const char *arg, const char *arg2, bool *out,
                       struct cs_err *e)
{
    struct ds_q q = ds_q_composed(c, cs_slice_str(sql));
    ds_put_text(&q, arg);
    if (arg2)
        ds_put_text(&q, arg2);
    *out = ds_next(&q);
    return ds_done(&q, e);
}

static cs_code has_table(struct ds_conn *c, const char *table, bool *out, struct cs_err *e)
{
    return has_row(c, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table, NULL, out, e);
}

static cs_code has_column(struct ds_conn *c, const char *table, const char *column, bool *out,
                          struct cs_err *e)
{
    return has_row(c, "SELECT 1 FROM pragma_table_info(?) WHERE name = ?", table, column, out, e);
}

static cs_code read_version(struct ds_tx *tx, int64_t *schema, const char **code, struct cs_err *e)
{
    struct cs_arena *a = ds_tx_arena(tx);
    if (!a)
        return cs_nomem(e);
    *schema = 0;
    *code = "";
    struct ds_q q = ds_q_composed(
        tx->c, cs_slice_str("SELECT version, code_version FROM migrations ORDER BY id LIMIT 1"));
    if (ds_next(&q)) {
        *schema = ds_int(&q, 0);
        *code = ds_str(&q, a, 1);
    }
    return ds_done(&q, e);
}

static cs_code write_version(struct ds_tx *tx, int64_t schema, struct cs_err *e)
{
    struct ds_q q = ds_q_composed(
        tx->c, cs_slice_str("UPDATE migrations SET updated_at = ?, version = ?, code_version = ?"));
    ds_put_text(&q, tx->now);
    ds_put_int(&q, schema);
    ds_put_text(&q, DS_CODE_VERSION);
    return ds_run(&q, e);
}

/* --- Steps --- */

static cs_code create_all(struct ds_tx *tx, struct cs_err *e)
{
    cs_log_info(&tx->d->log, "Initializing new database");
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        CS_TRY(run_text(tx->c, tables[i], e));
    struct ds_q q =
        ds_q_composed(tx->c, cs_slice_str("INSERT INTO migrations (created_at, updated_at, version, "
                                          "code_version) VALUES (?1, ?1, ?2, ?3)"));
    ds_put_text(&q, tx->now);
    ds_put_int(&q, DS_SCHEMA_VERSION);
    ds_put_text(&q, DS_CODE_VERSION);
    return ds_run(&q, e);
}

static cs_code migrate_step(struct ds_tx *tx, int64_t from, struct cs_err *e)
{
    cs_log_info(&tx->d->log, "Migrating version", KV_INT("version_info", from));
    if (from < OLDEST_SCHEMA)
        return cs_fail(
            e, CS_PRECONDITION,
            "datastore-sql: migrating from schema version %lld requires a previous SPIRE release; please "
            "follow the upgrade strategy at doc/upgrading.md",
            (long long)from);
    for (size_t i = 0; i < sizeof migrations / sizeof migrations[0]; i++) {
        const struct migration *m = &migrations[i];
        bool there = false;
        if (m->from != from)
            continue;
        CS_TRY(has_column(tx->c, m->table, m->column, &there, e));
        if (!there)
            CS_TRY(run_text(tx->c, m->sql, e));
        return write_version(tx, from + 1, e);
    }
    return cs_fail(e, CS_PRECONDITION, "datastore-sql: no migration support for unknown schema version %lld",
                   (long long)from);
}

static cs_code migrate_all(struct ds_tx *tx, int64_t from, struct cs_err *e)
{
    cs_log_info(&tx->d->log, "Running migrations...");
    for (; from < DS_SCHEMA_VERSION; from++)
        CS_TRY(migrate_step(tx, from, e));
    cs_log_info(&tx->d->log, "Done running migrations");
    return CS_OK;
}

static cs_code check_newer(struct ds_tx *tx, const struct version *ours, const struct version *theirs,
                           struct cs_err *e)
{
    if (!version_compatible(ours, theirs)) {
        cs_log_error(&tx->d->log, "Incompatible DB schema is too new for code version, upgrade SPIRE Server");
        return cs_fail(e, CS_PRECONDITION, "datastore-sql: incompatible DB schema and code version");
    }
    cs_log_warn(&tx->d->log, "DB schema is ahead of code version, upgrading SPIRE Server is recommended");
    return CS_OK;
}

static cs_code prepare(struct ds_tx *tx, bool disable_migration, struct cs_err *e)
{
    bool there = false;
    CS_TRY(has_table(tx->c, "migrations", &there, e));
    if (!there)
        return create_all(tx, e);

    int64_t schema = 0;
    const char *code = "";
    struct version ours, theirs;
    CS_TRY(read_version(tx, &schema, &code, e));
    if (!version_parse(code, &theirs))
        return cs_fail(
            e, CS_PRECONDITION,
            "datastore-sql: error getting DB code version: unable to parse code version from DB: \"%s\"",
            code);
    (void)version_parse(DS_CODE_VERSION, &ours);

    if (schema == DS_SCHEMA_VERSION)
        return version_cmp(&ours, &theirs) > 0 ? write_version(tx, DS_SCHEMA_VERSION, e) : CS_OK;
    if (disable_migration && !version_compatible(&ours, &theirs))
        return cs_fail(e, CS_PRECONDITION, "datastore-sql: auto-migration must be enabled for current DB");
    if (disable_migration)
        return CS_OK;
    if (schema > DS_SCHEMA_VERSION)
        return check_newer(tx, &ours, &theirs, e);
    return migrate_all(tx, schema, e);
}

cs_code ds_schema_prepare(struct ds *d, bool disable_migration, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "prepare schema", e));
    return ds_tx_end(&tx, prepare(&tx, disable_migration, e), e);
}
