/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared by the files of the Entry service.
 */
#ifndef CS_SERVER_API_ENTRY_H
#define CS_SERVER_API_ENTRY_H

#include "server/api/convert.h"
#include "server/api/handlers.h"

/* The filter of CountEntries and ListEntries: the same fields in two messages. */
struct entry_filter {
    const Types__SPIFFEID *by_spiffe_id, *by_parent_id;
    const Types__SelectorMatch *by_selectors;
    const Types__FederatesWithMatch *by_federates_with;
    const Google__Protobuf__StringValue *by_hint;
    const Google__Protobuf__BoolValue *by_downstream;
};
/* What SPIRE's datastore refuses: a match behaviour that does not exist. */
CS_CHECKED cs_code entry_filter_check(const struct ds_entry_filter *f, struct cs_err *e);
/* Adds the audit fields, then checks; errors are logged. */
CS_CHECKED cs_code entry_filter_convert(struct api_call *c, const struct entry_filter *in,
                                        struct ds_entry_filter *out, struct cs_err *e);

#endif
