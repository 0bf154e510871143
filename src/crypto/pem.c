/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/pem.h"

#include "base/text.h"

static const char begin_mark[] = "-----BEGIN ";
static const char end_mark[] = "-----END ";
static const char dashes[] = "-----";

static bool starts_with(struct cs_slice s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.len >= n && memcmp(s.data, prefix, n) == 0;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* One line without its end and trailing blanks; the cursor moves behind it. False at the end of text. */
static bool next_line(struct cs_rd *r, struct cs_slice *line)
{
    if (cs_rd_left(r) == 0)
        return false;
    const uint8_t *nl = memchr(r->p, '\n', cs_rd_left(r));
    const uint8_t *stop = nl == NULL ? r->end : nl;
    *line = cs_slice_of(r->p, (size_t)(stop - r->p));
    while (line->len > 0 && is_blank(line->data[line->len - 1]))
        line->len--;
    r->p = nl == NULL ? r->end : nl + 1;
    return true;
}

/* "-----BEGIN X-----" gives X. */
static bool marked_line(struct cs_slice line, const char *mark, struct cs_slice *type)
{
    size_t lead = strlen(mark), tail = sizeof dashes - 1;
    if (!starts_with(line, mark) || line.len < lead + tail ||
        memcmp(line.data + line.len - tail, dashes, tail) != 0)
        return false;
    *type = cs_slice_of(line.data + lead, line.len - lead - tail);
    return true;
}

/* The lines of a block up to its END line, which must name the same type. */
static bool read_block(struct cs_rd *r, struct cs_buf *base64, struct pem_block *out)
{
    struct cs_slice line, end_type;
    bool in_headers = true;
    while (next_line(r, &line)) {
        if (starts_with(line, dashes)) /* the end, or the beginning of another block */
            return marked_line(line, end_mark, &end_type) && cs_slice_eq(end_type, out->type);
        if (in_headers && line.len > 0 && memchr(line.data, ':', line.len) != NULL) {
            out->headers = true;
            continue;
        }
        in_headers = false;
        for (size_t i = 0; i < line.len; i++)
            if (!is_blank(line.data[i]))
                cs_buf_add_byte(base64, line.data[i]);
    }
    return false;
}

/* Bytes up to the next line of dashes: no block is longer, so no text is read more than twice. */
static size_t block_span(const struct cs_rd *body)
{
    const uint8_t *mark = cs_rd_left(body) == 0 ? NULL : memmem(body->p, cs_rd_left(body), "\n-----", 6);
    return mark == NULL ? 0 : (size_t)(mark - body->p);
}

bool pem_next(struct cs_rd *text, struct cs_buf *scratch, struct pem_block *out)
{
    struct cs_slice line;
    CS_CLEANUP(cs_buf_wipe) struct cs_buf base64 = {0};
    while (next_line(text, &line)) {
        *out = (struct pem_block){0};
        if (!marked_line(line, begin_mark, &out->type))
            continue;
        struct cs_rd body = *text;
        cs_buf_reset(&base64);
        cs_buf_reset(scratch);
        size_t span = block_span(&body); /* all at once: growing would leave copies of keys in freed memory */
        cs_buf_reserve(&base64, span);
        cs_buf_reserve(scratch, span);
        bool whole = read_block(&body, &base64, out);
        if (!cs_buf_ok(&base64) || !cs_buf_ok(scratch)) {
            scratch->failed = true;
            return false;
        }
        if (!whole || cs_b64_decode(scratch, cs_buf_slice(&base64), CS_B64_STD, NULL) != CS_OK)
            continue; /* go on behind the BEGIN line, as Go does */
        out->der = cs_buf_slice(scratch);
        *text = body;
        return true;
    }
    return false;
}

void pem_write(struct cs_buf *out, const char *type, struct cs_slice der)
{
    cs_buf_add_str(out, begin_mark);
    cs_buf_add_str(out, type);
    cs_buf_add_str(out, "-----\n");
    for (size_t at = 0; at < der.len; at += 48) { /* 48 bytes are 64 columns */
        size_t n = der.len - at < 48 ? der.len - at : 48;
        cs_b64_encode(out, cs_slice_of(der.data + at, n), CS_B64_STD);
        cs_buf_add_byte(out, '\n');
    }
    cs_buf_add_str(out, end_mark);
    cs_buf_add_str(out, type);
    cs_buf_add_str(out, "-----\n");
}
