/* SPDX-License-Identifier: Apache-2.0
 *
 * google.protobuf.Struct as JSON text and back, numbers as Go has them after the way through both (structpb,
 * encoding/json): doubles. In arenas, any thread.
 */
#ifndef CS_PROTO_JSON_H
#define CS_PROTO_JSON_H

#include "base/buf.h"
#include "base/mem.h"

#include "google/protobuf/struct.pb-c.h"

/* From the text of a JSON object. The message lives in the arena. CS_INVALID `not a JSON object: ...`,
 * `nested too deeply`. */
CS_CHECKED cs_code proto_struct_parse(struct cs_arena *a, struct cs_slice json,
                                      Google__Protobuf__Struct **out, struct cs_err *e);
/* Append the JSON text: names in alphabetical order, each once (the last counts); values without a kind are
 * null, numbers that JSON does not have are text. NULL is the empty object. CS_INVALID `nested too deeply`.
 */
CS_CHECKED cs_code proto_struct_write(struct cs_buf *out, const Google__Protobuf__Struct *in,
                                      struct cs_err *e);

#endif
