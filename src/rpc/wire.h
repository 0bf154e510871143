/* SPDX-License-Identifier: Apache-2.0
 *
 * The texts of gRPC's headers and trailers: time-outs, percent-encoded messages, binary metadata,
 * status details, and the mapping of HTTP and HTTP/2 errors to codes (grpc's PROTOCOL-HTTP2.md and
 * http-grpc-status-mapping.md). Pure functions, any thread.
 */
#ifndef CS_RPC_WIRE_H
#define CS_RPC_WIRE_H

#include "rpc/status.h"

/* grpc-timeout: 1 to 8 digits and a unit of H M S m u n, to nanoseconds (INT64_MAX when it is more
 * than that holds). CS_INTERNAL with grpc-go's text: `malformed grpc-timeout: ...`. */
CS_CHECKED cs_code rpc_timeout_parse(struct cs_slice s, int64_t *ns, struct cs_err *e);
/* The shortest unit that fits eight digits, rounded up; ns <= 0 is written as "0n". */
#define RPC_TIMEOUT_TEXT 12
void rpc_timeout_format(int64_t ns, char out[RPC_TIMEOUT_TEXT]);

/* grpc-message: bytes outside 0x20..0x7e and '%' as %XX; invalid UTF-8 becomes U+FFFD. */
void rpc_percent_encode(struct cs_buf *out, struct cs_slice s);
/* Never fails: what is no valid escape stays as it is. The result may hold any byte. */
void rpc_percent_decode(struct cs_buf *out, struct cs_slice s);

/* "application/grpc", alone or followed by '+' or ';'. */
bool rpc_content_type_ok(struct cs_slice s);

/* Values of "-bin" metadata: base64, sent without padding, taken with and without. CS_INVALID. */
bool rpc_key_is_bin(struct cs_slice key);
void rpc_bin_encode(struct cs_buf *out, struct cs_slice v);
CS_CHECKED cs_code rpc_bin_decode(struct cs_buf *out, struct cs_slice v, struct cs_err *e);

/* grpc-status-details-bin: a google.rpc.Status with one Any, base64. */
CS_CHECKED cs_code rpc_details_encode(struct cs_buf *out, cs_code code, const char *text,
                                      const struct rpc_detail *d, struct cs_err *e);
/* The first detail; *d stays empty when there is none, it does not fit or the value is malformed. */
void rpc_details_decode(struct cs_slice v, struct rpc_detail *d);

/* RST_STREAM and GOAWAY error codes (RFC 9113 section 7), as grpc-go maps them. */
cs_code rpc_code_of_h2(uint32_t error);
const char *rpc_h2_error_name(uint32_t error); /* "PROTOCOL_ERROR" */
cs_code rpc_code_of_http(int status);
/* Go's http.StatusText; "" for an unknown one. */
const char *rpc_http_status_text(int status);
/* "0".."16"; other codes read as "2" (Unknown). Static. */
const char *rpc_code_digits(cs_code code);

#endif
