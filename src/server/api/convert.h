/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the messages of the API and the values of the datastore. Output goes straight to the wire
 * form; error texts are SPIRE's (pkg/server/api/{entry,bundle,agent,id,selector}.go there).
 */
#ifndef CS_SERVER_API_CONVERT_H
#define CS_SERVER_API_CONVERT_H

#include "agent.pb-c.h"
#include "bundle.pb-c.h"
#include "datastore/datastore.h"
#include "entry.pb-c.h"
#include "spiffe/bundle.h"
#include "spiffe/id.h"
#include "svid.pb-c.h"
#include "types.pb-c.h"

/* --- Identities --- */
/* An ID of the request, checked, with its text in the arena. NULL: `request must specify SPIFFE ID`. */
CS_CHECKED cs_code convert_id(struct cs_arena *a, const Types__SPIFFEID *in, struct spiffe_id *out,
                              struct cs_err *e);
/* The same, and a member, workload or agent of the trust domain. */
CS_CHECKED cs_code convert_member_id(struct cs_arena *a, struct cs_slice td, const Types__SPIFFEID *in,
                                     struct spiffe_id *out, struct cs_err *e);
CS_CHECKED cs_code convert_workload_id(struct cs_arena *a, struct cs_slice td, const Types__SPIFFEID *in,
                                       struct spiffe_id *out, struct cs_err *e);
CS_CHECKED cs_code convert_agent_id(struct cs_arena *a, struct cs_slice td, const Types__SPIFFEID *in,
                                    struct spiffe_id *out, struct cs_err *e);
static inline const char *convert_id_text(struct spiffe_id id) /* of an ID made by the above */
{
    return (const char *)id.text.data;
}
/* spire.api.types.SPIFFEID as field `field`. */
void convert_id_write(struct cs_buf *b, uint32_t field, struct cs_slice td, struct cs_slice path);

/* Plain name or ID of a trust domain to "spiffe://name" in the arena. */
CS_CHECKED cs_code convert_td(struct cs_arena *a, const char *in, const char **id, struct cs_err *e);

/* --- Selectors --- */
CS_CHECKED cs_code convert_selectors(struct cs_arena *a, Types__Selector *const *in, size_t n,
                                     const struct ds_selector **out, struct cs_err *e);
const char *convert_selectors_text(struct cs_arena *a, Types__Selector *const *in, size_t n); /* "t:v,t:v" */

/* --- Entries --- */
/* Wire form of spire.api.types.Entry, appended. CS_INVALID `invalid SPIFFE ID: ...`, `invalid parent ID:
 * ...`, `invalid federated trust domain: ...`; nothing is appended then. */
CS_CHECKED cs_code convert_entry_write(struct cs_buf *b, const struct ds_entry *in, struct cs_err *e);
/* mask NULL: all fields. Strings are borrowed from the message or live in the arena. */
CS_CHECKED cs_code convert_entry(struct cs_arena *a, struct cs_slice td, const Types__Entry *in,
                                 const Types__EntryMask *mask, struct ds_entry *out, struct cs_err *e);
/* As bits for entry_append; NULL: all. */
uint32_t convert_entry_mask(const Types__EntryMask *mask);
void convert_entry_input_mask(const Types__EntryMask *mask, struct ds_entry_mask *out);

/* --- Agents --- */
/* spire.api.types.Agent as field `field`; mask NULL: all. CS_INVALID for a malformed SPIFFE ID (nothing
 * is appended). */
CS_CHECKED cs_code convert_agent_write(struct cs_buf *b, uint32_t field, const struct ds_node *in,
                                       const Types__AgentMask *mask, struct cs_err *e);
/* The same without the field's tag and length: the message itself. */
CS_CHECKED cs_code convert_agent_message(struct cs_buf *b, const struct ds_node *in,
                                         const Types__AgentMask *mask, struct cs_err *e);

/* --- Bundles --- */
/* The message spire.api.types.Bundle. CS_INVALID `invalid trust domain id: ...`. */
CS_CHECKED cs_code convert_bundle_message(struct cs_buf *b, const struct ds_bundle *in,
                                          const Types__BundleMask *mask, struct cs_err *e);
/* The same of a bundle in memory. */
void convert_bundle_held(struct cs_buf *b, const struct spiffe_bundle *in, const Types__BundleMask *mask);
void convert_jwt_keys(struct cs_buf *b, uint32_t field, const struct ds_key *keys, size_t n);
CS_CHECKED cs_code convert_bundle(struct cs_arena *a, const Types__Bundle *in, struct ds_bundle *out,
                                  struct cs_err *e);
/* Each row may hold several certificates. Text of a failure as the X.509 reader gives it. */
CS_CHECKED cs_code convert_x509_authorities(struct cs_arena *a, Types__X509Certificate *const *in, size_t n,
                                            const struct ds_cert **out, struct cs_err *e);
/* CS_INVALID: the key's text, or `missing key ID`. */
CS_CHECKED cs_code convert_jwt_authorities(struct cs_arena *a, Types__JWTKey *const *in, size_t n,
                                           const struct ds_key **out, struct cs_err *e);

static inline struct cs_slice convert_bytes(ProtobufCBinaryData b)
{
    return cs_slice_of(b.data, b.len);
}

#endif
