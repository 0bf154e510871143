/* SPDX-License-Identifier: Apache-2.0
 *
 * CBOR (RFC 8949), as much as attestation needs: a bounded reader on cs_rd that allocates nothing, and a
 * writer on cs_buf. The reader takes definite lengths only, but for maps where the caller allows more;
 * strings are never in chunks, text is UTF-8, and tags are read only where they are asked for. Lengths and
 * numbers may be written longer than needed (docs/decisions/0008-cbor-cursor.md). Every read function says
 * false, and leaves the cursor where it was, when something else is there or the input ends. Any thread.
 */
#ifndef CS_CRYPTO_CBOR_H
#define CS_CRYPTO_CBOR_H

#include "base/buf.h"

#define CBOR_DEPTH_MAX 16 /* of a value that cbor_skip passes over */

/* --- Reading --- */
bool cbor_read_uint(struct cs_rd *r, uint64_t *out);
bool cbor_read_int(struct cs_rd *r, int64_t *out); /* unsigned or negative, when it fits */
/* Views into the input. */
bool cbor_read_bytes(struct cs_rd *r, struct cs_slice *out);
bool cbor_read_text(struct cs_rd *r, struct cs_slice *out);
bool cbor_read_text_is(struct cs_rd *r, const char *expected);
/* Elements that follow; never more than bytes are left. */
bool cbor_read_array(struct cs_rd *r, size_t *count);
bool cbor_read_tag(struct cs_rd *r, uint64_t tag); /* this tag and no other */
bool cbor_read_bool(struct cs_rd *r, bool *out);
bool cbor_read_null(struct cs_rd *r);
/* Pass over one value of any kind, definite lengths only, nested at most CBOR_DEPTH_MAX deep. */
bool cbor_skip(struct cs_rd *r);

/* Maps: if (!cbor_map_begin(&r, &m, false)) ...; while (cbor_map_more(&r, &m)) { key; value; } and then
 * cbor_map_ended(&m), which is false when an indefinite map had no break. Looking for duplicate keys is
 * the caller's part. */
struct cbor_map {
    size_t left; /* pairs that follow, of a definite map */
    bool indefinite, ended;
};
bool cbor_map_begin(struct cs_rd *r, struct cbor_map *m, bool allow_indefinite);
bool cbor_map_more(struct cs_rd *r, struct cbor_map *m);
static inline bool cbor_map_ended(const struct cbor_map *m)
{
    return m->ended;
}

/* --- Writing: the shortest form --- */
void cbor_put_uint(struct cs_buf *out, uint64_t v);
void cbor_put_int(struct cs_buf *out, int64_t v);
void cbor_put_bytes(struct cs_buf *out, struct cs_slice s);
void cbor_put_text(struct cs_buf *out, const char *s);
void cbor_put_array(struct cs_buf *out, size_t count); /* `count` values follow */
void cbor_put_map(struct cs_buf *out, size_t pairs);   /* `pairs` keys and values follow */
void cbor_put_map_indefinite(struct cs_buf *out);      /* until cbor_put_break */
void cbor_put_break(struct cs_buf *out);
void cbor_put_tag(struct cs_buf *out, uint64_t tag); /* of the value that follows */
void cbor_put_bool(struct cs_buf *out, bool v);
void cbor_put_null(struct cs_buf *out);

#endif
