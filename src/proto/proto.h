/* SPDX-License-Identifier: Apache-2.0
 *
 * protobuf-c on our arenas, with the checks Go's protobuf makes and protobuf-c leaves out.
 */
#ifndef CS_PROTO_PROTO_H
#define CS_PROTO_PROTO_H

#include "base/buf.h"
#include "base/mem.h"

#include <protobuf-c/protobuf-c.h>

/* Parse into the arena: the message lives as long as it and is never freed by itself. Strings are
 * checked to be UTF-8 without NUL, nesting is limited to 100; fields not known are kept. CS_INTERNAL
 * (as grpc-go answers) with "grpc: error unmarshalling request: ...", CS_EXHAUSTED when the arena's
 * limit is met. */
CS_CHECKED cs_code proto_unpack(struct cs_arena *a, const ProtobufCMessageDescriptor *d, struct cs_slice in,
                                ProtobufCMessage **out, struct cs_err *e);
/* Append the packed message to out. */
CS_CHECKED cs_code proto_pack(const ProtobufCMessage *m, struct cs_buf *out, struct cs_err *e);

#endif
