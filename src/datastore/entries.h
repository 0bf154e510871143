/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: registration entries between rows and values.
 */
#ifndef CS_DATASTORE_ENTRIES_H
#define CS_DATASTORE_ENTRIES_H

#include "datastore/db.h"

/* Read the current row of a DS_ENTRY_COLS statement; the lists stay empty. */
CS_CHECKED cs_code ds_entry_read_row(struct ds_q *q, struct cs_arena *a, int64_t *row, struct ds_entry *out,
                                     struct cs_err *e);
/* Fill the lists. sorted: selectors and DNS names by value (what upstream answers to a change) instead of in
 * the order they were given (what it answers to a read). */
CS_CHECKED cs_code ds_entry_read_lists(struct ds_conn *c, struct cs_arena *a, int64_t row, bool sorted,
                                       struct ds_entry *out, struct cs_err *e);
/* By entry id, with lists. *row 0: there is none. */
CS_CHECKED cs_code ds_entry_load(struct ds_conn *c, struct cs_arena *a, const char *entry_id, bool sorted,
                                 int64_t *row, struct ds_entry *out, struct cs_err *e);
/* By row, with lists. */
CS_CHECKED cs_code ds_entry_load_row(struct ds_conn *c, struct cs_arena *a, int64_t row, bool sorted,
                                     struct ds_entry *out, struct cs_err *e);

/* The row of an entry with the same SPIFFE ID, parent and set of selectors; 0: there is none. */
CS_CHECKED cs_code ds_entry_find_similar(struct ds_tx *tx, const struct ds_entry *in, int64_t *row,
                                         struct cs_err *e);

/* Delete one row with all that hangs on it, leave an event, note the change. was (may be NULL) is the entry
 * as loaded by the caller; loaded here when NULL. */
CS_CHECKED cs_code ds_entry_delete_row(struct ds_tx *tx, int64_t row, const struct ds_entry *was,
                                       struct cs_err *e);
/* Tell the observer what a row looks like now. */
CS_CHECKED cs_code ds_entry_note_row(struct ds_tx *tx, int64_t row, struct cs_err *e);
/* Event row; kind tells the table. */
CS_CHECKED cs_code ds_event_add(struct ds_tx *tx, enum ds_event_kind kind, const char *subject,
                                struct cs_err *e);

/* Rules of a new entry. CS_INVALID `datastore-validation: ...`. */
CS_CHECKED cs_code ds_entry_check_new(const struct ds_entry *in, struct cs_err *e);
CS_CHECKED cs_code ds_entry_check_update(const struct ds_entry *in, const struct ds_entry_mask *mask,
                                         struct cs_err *e);
/* Are all selectors of one type? (Storable SVIDs want that.) */
bool ds_selectors_one_type(const struct ds_selector *s, size_t n);

#endif
