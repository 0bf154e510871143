/* SPDX-License-Identifier: Apache-2.0
 *
 * DER (X.690 section 10): a strict bounded reader on cs_rd, and a writer on cs_buf. The reader takes
 * definite minimal lengths and single-byte tags only; every function says false instead of reading
 * past the end, and leaves the cursor where it was.
 */
#ifndef CS_CRYPTO_DER_H
#define CS_CRYPTO_DER_H

#include "base/buf.h"

#define DER_BOOLEAN 0x01
#define DER_INTEGER 0x02
#define DER_BIT_STRING 0x03
#define DER_OCTET_STRING 0x04
#define DER_NULL 0x05
#define DER_OID 0x06
#define DER_UTF8_STRING 0x0c
#define DER_PRINTABLE_STRING 0x13
#define DER_T61_STRING 0x14
#define DER_IA5_STRING 0x16
#define DER_UTC_TIME 0x17
#define DER_GENERALIZED_TIME 0x18
#define DER_BMP_STRING 0x1e
#define DER_SEQUENCE 0x30
#define DER_SET 0x31
#define DER_CONTEXT(n) (0x80 | (n))      /* primitive, implicit */
#define DER_CONTEXT_CONS(n) (0xa0 | (n)) /* constructed */

/* --- Reading --- */
/* Next element, any tag. `content` and `whole` (header included) may be NULL. */
bool der_next(struct cs_rd *r, uint8_t *tag, struct cs_slice *content, struct cs_slice *whole);
bool der_peek(const struct cs_rd *r, uint8_t tag); /* is the next tag this one? */
bool der_read(struct cs_rd *r, uint8_t tag, struct cs_slice *content);
bool der_read_whole(struct cs_rd *r, uint8_t tag, struct cs_slice *whole);
bool der_enter(struct cs_rd *r, uint8_t tag, struct cs_rd *inner); /* content as a cursor */
/* Element when the next tag matches (present = true), untouched otherwise; false only when broken. */
bool der_optional(struct cs_rd *r, uint8_t tag, struct cs_slice *content, bool *present);
/* INTEGER content: at least one byte, minimal, as written (two's complement). */
bool der_read_integer(struct cs_rd *r, struct cs_slice *content);
/* The same, not negative, without the leading zero byte (zero gives one zero byte). */
bool der_read_uint(struct cs_rd *r, struct cs_slice *magnitude);
bool der_read_small(struct cs_rd *r, uint32_t *out); /* 0 to 2^31 - 1 */
bool der_read_bool(struct cs_rd *r, bool *out);      /* 0x00 or 0xff only */
/* BIT STRING: unused bits 0 to 7, and those are zero. */
bool der_read_bits(struct cs_rd *r, struct cs_slice *bits, unsigned *unused);
bool der_read_octet_bits(struct cs_rd *r, struct cs_slice *bytes); /* BIT STRING without unused bits */
/* UTCTime or GeneralizedTime as RFC 5280 section 4.1.2.5 wants it (Z, seconds, real calendar dates). */
bool der_read_time(struct cs_rd *r, int64_t *unix_s);
bool der_oid_valid(struct cs_slice oid);                    /* minimal base-128 arcs, ends properly */
void der_oid_text(struct cs_buf *out, struct cs_slice oid); /* "2.5.4.45" */
/* Append the content of an OID from that text. False, and nothing appended, when it is none: decimal arcs
 * below 2^56 without leading zeros, at least two, the first 0 to 2, the second below 40 under 0 and 1. */
bool der_oid_parse(struct cs_buf *out, const char *text);

/* --- Writing --- */
/* Constructed elements: mark = der_begin(out, tag); ...; der_end(out, mark). */
size_t der_begin(struct cs_buf *out, uint8_t tag);
void der_end(struct cs_buf *out, size_t mark);
void der_put(struct cs_buf *out, uint8_t tag, struct cs_slice content);
void der_put_uint(struct cs_buf *out, struct cs_slice magnitude); /* INTEGER of a big-endian number */
void der_put_small(struct cs_buf *out, uint32_t v);
void der_put_bool(struct cs_buf *out, bool v);
void der_put_bits(struct cs_buf *out, struct cs_slice bytes); /* BIT STRING, no unused bits */
void der_put_time(struct cs_buf *out, int64_t unix_s);        /* UTCTime until 2049, then GeneralizedTime */

#endif
