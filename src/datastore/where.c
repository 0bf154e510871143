/* SPDX-License-Identifier: Apache-2.0 */
#include "datastore/where.h"

struct arg {
    const char *text; /* NULL: the number */
    int64_t num;
};

void ds_where_free(struct ds_where *w)
{
    cs_buf_free(&w->sql);
    ds_rows_free(&w->args);
}

void ds_where_add(struct ds_where *w, const char *sql)
{
    cs_buf_add_str(&w->sql, sql);
}

static void add_arg(struct ds_where *w, struct arg arg)
{
    struct arg *row = ds_rows_add(&w->args, sizeof *row);
    if (row)
        *row = arg;
    else
        w->failed = true;
}

void ds_where_text(struct ds_where *w, const char *value)
{
    add_arg(w, (struct arg){.text = ds_text(value)});
}

void ds_where_int(struct ds_where *w, int64_t value)
{
    add_arg(w, (struct arg){.num = value});
}

void ds_where_equals(struct ds_where *w, const char *column, const char *value)
{
    if (ds_text(value)[0] == '\0')
        return;
    cs_buf_printf(&w->sql, " AND %s = ?", column);
    ds_where_text(w, value);
}

/* (?,?),(?,?),... with the selectors bound */
static void add_pairs(struct ds_where *w, const struct ds_selector *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ds_where_add(w, i ? ",(?,?)" : "(?,?)");
        ds_where_text(w, s[i].type);
        ds_where_text(w, s[i].value);
    }
}

void ds_where_selectors(struct ds_where *w, const struct ds_selector_table *t, enum ds_match match,
                        const struct ds_selector *s, size_t n)
{
    if (match == DS_MATCH_EXACT || match == DS_MATCH_SUPERSET) {
        for (size_t i = 0; i < n; i++) {
            cs_buf_printf(&w->sql, " AND %s IN (SELECT %s FROM %s WHERE type = ? AND value = ?)", t->key,
                          t->owner, t->table);
            ds_where_text(w, s[i].type);
            ds_where_text(w, s[i].value);
        }
    } else {
        /* In this order each pair is one search of the index on (type, value). */
        cs_buf_printf(&w->sql, " AND %s IN (SELECT S.%s FROM (VALUES ", t->key, t->owner);
        add_pairs(w, s, n);
        cs_buf_printf(&w->sql, ") V CROSS JOIN %s S ON S.type = V.column1 AND S.value = V.column2)",
                      t->table);
    }
    if (match == DS_MATCH_EXACT || match == DS_MATCH_SUBSET) {
        cs_buf_printf(
            &w->sql,
            " AND NOT EXISTS (SELECT 1 FROM %s S WHERE S.%s = %s AND (S.type, S.value) NOT IN (VALUES ",
            t->table, t->owner, t->key);
        add_pairs(w, s, n);
        ds_where_add(w, "))");
    }
}

static void add_domains(struct ds_where *w, const char *const *domains, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ds_where_add(w, i ? ",?" : "?");
        ds_where_text(w, domains[i]);
    }
}

#define FEDERATED                                                                                            \
    " (SELECT 1 FROM federated_registration_entries F JOIN bundles B ON B.id = F.bundle_id WHERE "           \
    "F.registered_entry_id = registered_entries.id AND B.trust_domain"

void ds_where_federates_with(struct ds_where *w, enum ds_match match, const char *const *domains, size_t n)
{
    if (n == 0)
        return;
    if (match == DS_MATCH_EXACT || match == DS_MATCH_SUPERSET) {
        for (size_t i = 0; i < n; i++) {
            ds_where_add(w, " AND EXISTS" FEDERATED " = ?)");
            ds_where_text(w, domains[i]);
        }
    } else {
        ds_where_add(w, " AND EXISTS" FEDERATED " IN (");
        add_domains(w, domains, n);
        ds_where_add(w, "))");
    }
    if (match == DS_MATCH_EXACT || match == DS_MATCH_SUBSET) {
        ds_where_add(w, " AND NOT EXISTS" FEDERATED " NOT IN (");
        add_domains(w, domains, n);
        ds_where_add(w, "))");
    }
}

cs_code ds_where_query(struct ds_where *w, struct ds_conn *c, struct ds_q *out, struct cs_err *e)
{
    if (w->failed || !cs_buf_ok(&w->sql))
        return cs_nomem(e);
    *out = ds_q_composed(c, cs_buf_slice(&w->sql));
    const struct arg *args = w->args.at;
    for (size_t i = 0; i < w->args.n; i++) {
        if (args[i].text)
            ds_put_text(out, args[i].text);
        else
            ds_put_int(out, args[i].num);
    }
    return CS_OK;
}
