/* SPDX-License-Identifier: Apache-2.0
 *
 * Text forms: base64, hex, UTF-8, Go durations, times, strict numbers. No locale anywhere.
 */
#ifndef CS_BASE_TEXT_H
#define CS_BASE_TEXT_H

#include "base/buf.h"

enum cs_b64 { CS_B64_STD, CS_B64_URL_RAW }; /* RFC 4648 section 4 padded; section 5 unpadded */
void cs_b64_encode(struct cs_buf *out, struct cs_slice in, enum cs_b64 kind);
/* Strict: no white space, no stray bits, right padding. CS_INVALID otherwise. Appends to out. */
CS_CHECKED cs_code cs_b64_decode(struct cs_buf *out, struct cs_slice in, enum cs_b64 kind, struct cs_err *e);
void cs_hex_encode(struct cs_buf *out, struct cs_slice in); /* lower case */
CS_CHECKED cs_code cs_hex_decode(struct cs_buf *out, struct cs_slice in, struct cs_err *e);
bool cs_utf8_valid(struct cs_slice s); /* RFC 3629: no surrogates, no overlongs */
/* The first character of s into *rune; returns its length, or 0 (rune U+FFFD) where s does not begin
 * with a valid one. s must not be empty. */
size_t cs_utf8_decode(struct cs_slice s, uint32_t *rune);

/* Go's time.ParseDuration / Duration.String, in nanoseconds. The error text is Go's:
 * `time: invalid duration "x"`, `time: missing unit in duration "5"`, `time: unknown unit ...`. */
CS_CHECKED cs_code cs_duration_parse(struct cs_slice s, int64_t *ns, struct cs_err *e);
void cs_duration_format(struct cs_buf *out, int64_t ns);

/* Unix seconds to text, UTC. */
void cs_time_rfc3339(struct cs_buf *out, int64_t unix_s);   /* 2026-11-22T19:02:41Z */
void cs_time_go_string(struct cs_buf *out, int64_t unix_s); /* 2026-11-22 19:02:41 +0000 UTC */
void cs_time_go_local(struct cs_buf *out, int64_t unix_s);  /* the same in the local zone */
/* 2026-11-22T19:02:41.5+01:00: local zone, ns without trailing zeros (0: none). */
void cs_time_rfc3339_local(struct cs_buf *out, int64_t unix_s, int32_t ns);
/* Strict: two-digit fields, upper-case T and Z, no leap second. ns may be NULL. */
CS_CHECKED cs_code cs_time_parse_rfc3339(struct cs_slice s, int64_t *unix_s, int32_t *ns, struct cs_err *e);

/* Whole string, decimal, optional sign; CS_OUT_OF_RANGE or CS_INVALID. */
CS_CHECKED cs_code cs_parse_i64(struct cs_slice s, int64_t *out, struct cs_err *e);

/* Go's %q of a string (strconv.Quote). */
void cs_quote(struct cs_buf *out, struct cs_slice s);
/* A JSON string as Go's encoding/json writes it: <, > and & escaped, invalid UTF-8 as \ufffd. */
void cs_quote_json(struct cs_buf *out, struct cs_slice s);

#endif
