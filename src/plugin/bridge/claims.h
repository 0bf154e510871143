/* SPDX-License-Identifier: Apache-2.0
 *
 * Claims as JSON text and as google.protobuf.Struct, numbers as SPIRE has them after the way through both:
 * doubles, written as Go's encoding/json does.
 */
#ifndef CS_PLUGIN_BRIDGE_CLAIMS_H
#define CS_PLUGIN_BRIDGE_CLAIMS_H

#include "base/buf.h"
#include "base/mem.h"

#include "google/protobuf/struct.pb-c.h"

/* From the text of a JSON object. The message lives in the arena. CS_INVALID. */
CS_CHECKED cs_code claims_parse(struct cs_arena *a, struct cs_slice json, Google__Protobuf__Struct **out,
                                struct cs_err *e);
/* Append the JSON text: names in alphabetical order, each once (the last counts). NULL is the empty object.
 */
CS_CHECKED cs_code claims_write(struct cs_buf *out, const Google__Protobuf__Struct *in, struct cs_err *e);

#endif
