/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: conditions of lists, composed as text with bound values. No value ever becomes
 * part of the text.
 */
#ifndef CS_DATASTORE_WHERE_H
#define CS_DATASTORE_WHERE_H

#include "datastore/db.h"

struct ds_where {
    struct cs_buf sql;
    struct ds_rows args;
    bool failed;
};
void ds_where_free(struct ds_where *w);
/* Append text, or a value for a '?' of the text. */
void ds_where_add(struct ds_where *w, const char *sql);
void ds_where_text(struct ds_where *w, const char *value);
void ds_where_int(struct ds_where *w, int64_t value);
/* " AND column = ?" unless value is "". */
void ds_where_equals(struct ds_where *w, const char *column, const char *value);

/* Where the selectors of the listed rows are: table.owner is listed_table.key. */
struct ds_selector_table {
    const char *table, *owner, *key;
};
void ds_where_selectors(struct ds_where *w, const struct ds_selector_table *t, enum ds_match match,
                        const struct ds_selector *s, size_t n);
/* Of registered_entries.id. */
void ds_where_federates_with(struct ds_where *w, enum ds_match match, const char *const *domains, size_t n);

/* Prepare and bind; the struct must outlive the statement. */
CS_CHECKED cs_code ds_where_query(struct ds_where *w, struct ds_conn *c, struct ds_q *out, struct cs_err *e);

#endif
