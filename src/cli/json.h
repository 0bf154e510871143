/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON as SPIRE's command lines print it: one line, keys sorted, every field of a protobuf message
 * emitted under its proto name, 64-bit integers as strings, bytes in base64, <>& escaped.
 */
#ifndef CS_CLI_JSON_H
#define CS_CLI_JSON_H

#include "base/buf.h"

#include <protobuf-c/protobuf-c.h>

/* Append a string in quotes, escaped as Go's encoding/json does. */
void cli_json_str(struct cs_buf *out, struct cs_slice s);
/* Append bytes as a base64 string. */
void cli_json_bytes(struct cs_buf *out, struct cs_slice s);
/* Append a message as an object. */
void cli_json_message(struct cs_buf *out, const ProtobufCMessage *m);

#endif
