/* SPDX-License-Identifier: Apache-2.0
 *
 * Plugins of the kinds that have no built-in one, or none that shows all there is to its kind: simple, and
 * with effects that a test can see. All are named "reference"; their configuration is the path of a folder.
 */
#ifndef CS_SUITE_REFERENCE_H
#define CS_SUITE_REFERENCE_H

#include "plugin/plugin.h"
#include "plugin/svidstore.h"

/* As plugin_server_kinds and plugin_agent_kinds, with these alone. */
extern const struct plugin_kind reference_server_kinds[], reference_agent_kinds[];
extern const size_t reference_server_kind_count, reference_agent_kind_count;

/* Append all there is in it, as lines. */
void reference_dump_bundle(struct cs_buf *out, const struct spiffe_bundle *bundle);
void reference_dump_svid(struct cs_buf *out, const struct svidstore_svid *svid);
/* The response that attestors of both programs agree on: the challenge backwards. */
void reference_respond(struct cs_buf *out, struct cs_slice challenge);

#define REFERENCE_PAYLOAD "payload of the reference"
#define REFERENCE_REFUSED_HINT 666 /* a bundle with this refresh hint is refused */

#endif
