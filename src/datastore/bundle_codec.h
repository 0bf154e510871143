/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: bundles as upstream stores them, a packed spire.common.Bundle.
 */
#ifndef CS_DATASTORE_BUNDLE_CODEC_H
#define CS_DATASTORE_BUNDLE_CODEC_H

#include "datastore/db.h"

#include "common.pb-c.h"

/* All results live in the arena and may view their input. CS_INTERNAL for what does not parse. */
CS_CHECKED cs_code ds_bundle_unpack(struct cs_arena *a, struct cs_slice data, Common__Bundle **out,
                                    struct cs_err *e);
CS_CHECKED cs_code ds_bundle_to_proto(struct cs_arena *a, const struct ds_bundle *in, Common__Bundle **out,
                                      struct cs_err *e);
CS_CHECKED cs_code ds_bundle_from_proto(struct cs_arena *a, const Common__Bundle *in, struct ds_bundle *out,
                                        struct cs_err *e);

/* Add what `from` has and `to` lacks. */
CS_CHECKED cs_code ds_bundle_merge(struct cs_arena *a, Common__Bundle *to, const Common__Bundle *from,
                                   bool *changed, struct cs_err *e);
/* Drop what expires at or before `before`. */
CS_CHECKED cs_code ds_bundle_drop_expired(const struct cs_log *log, Common__Bundle *b, int64_t before,
                                          bool *changed, struct cs_err *e);

/* --- Rows --- */
struct ds_bundle_row {
    int64_t id; /* 0: there is none */
    Common__Bundle *bundle;
};
CS_CHECKED cs_code ds_bundle_row_get(struct ds_conn *c, struct cs_arena *a, const char *trust_domain,
                                     struct ds_bundle_row *out, struct cs_err *e);
/* Insert (id 0) or update, and note the change. The bundle must live until the transaction ends. */
CS_CHECKED cs_code ds_bundle_row_put(struct ds_tx *tx, const struct ds_bundle_row *row, struct cs_err *e);
/* Create, or replace all fields; *stored (may be NULL) is what was written. */
CS_CHECKED cs_code ds_bundle_put_all(struct ds_tx *tx, const struct ds_bundle *b, Common__Bundle **stored,
                                     struct cs_err *e);

#endif
