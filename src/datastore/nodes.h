/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: attested nodes between rows and values.
 */
#ifndef CS_DATASTORE_NODES_H
#define CS_DATASTORE_NODES_H

#include "datastore/db.h"

/* Read the current row of a DS_NODE_COLS statement; selectors stay empty. */
void ds_node_read_row(struct ds_q *q, struct cs_arena *a, int64_t *row, struct ds_node *out);
/* By SPIFFE ID. *row 0: there is none. */
CS_CHECKED cs_code ds_node_load(struct ds_conn *c, struct cs_arena *a, const char *spiffe_id, int64_t *row,
                                struct ds_node *out, struct cs_err *e);

#endif
