/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: the rows that hang on an entry or a node (selectors, DNS names, federated
 * domains), read for one owner or along a walk over all owners.
 */
#ifndef CS_DATASTORE_CHILD_H
#define CS_DATASTORE_CHILD_H

#include "datastore/db.h"

enum ds_child_order { DS_BY_ROW, DS_BY_VALUE };

/* Read all rows (id, type, value) or (id, value) of a bound statement and finish it. An index covers these
 * queries but does not give the order, so the few rows of an owner are sorted here. */
CS_CHECKED cs_code ds_child_selectors(struct ds_q *q, struct cs_arena *a, enum ds_child_order order,
                                      const struct ds_selector **out, size_t *n, struct cs_err *e);
CS_CHECKED cs_code ds_child_texts(struct ds_q *q, struct cs_arena *a, enum ds_child_order order,
                                  const char *const **out, size_t *n, struct cs_err *e);

/* A walk: rows (owner, id, type, value) or (owner, id, value) ordered by owner, beside a walk over the owners
 * in the same order. Zero-initialise; ds_walk_end always. */
struct ds_walk {
    struct ds_q q;
    bool row; /* the statement stands on a row not taken yet */
    struct ds_rows rows;
};
void ds_walk_begin(struct ds_walk *w, struct ds_conn *c, enum ds_sql id);
CS_CHECKED cs_code ds_walk_selectors(struct ds_walk *w, struct cs_arena *a, int64_t owner,
                                     const struct ds_selector **out, size_t *n, struct cs_err *e);
CS_CHECKED cs_code ds_walk_texts(struct ds_walk *w, struct cs_arena *a, int64_t owner,
                                 enum ds_child_order order, const char *const **out, size_t *n,
                                 struct cs_err *e);
CS_CHECKED cs_code ds_walk_end(struct ds_walk *w, struct cs_err *e);

#endif
