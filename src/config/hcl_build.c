/* SPDX-License-Identifier: Apache-2.0
 *
 * Values of literals, and the tree both readers build.
 */
#include "config/hcl_scan.h"

#include <stdio.h>
#include <strings.h>

cs_code hcl_fail(struct cs_err *e, cs_code code, struct hcl_pos pos, const char *fmt, ...)
{
    char text[CS_ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return pos.line == 0 ? cs_fail(e, code, "At -: %s", text)
                         : cs_fail(e, code, "At %u:%u: %s", pos.line, pos.column, text);
}

bool hcl_key_is(const struct hcl_key *key, const char *name)
{
    return strcasecmp(key->text, name) == 0;
}

/* --- strings --- */

/* Where an unquoted text is written: never longer than its source, so one buffer is enough. */
struct unquote {
    struct cs_rd in;
    uint8_t *out;
    size_t len;
};

static void put_rune(struct unquote *u, uint32_t r)
{
    if (r > 0x10FFFF || (r >= 0xD800 && r <= 0xDFFF))
        r = 0xFFFD;
    if (r < 0x80) {
        u->out[u->len++] = (uint8_t)r;
    } else if (r < 0x800) {
        u->out[u->len++] = (uint8_t)(0xC0 | r >> 6);
        u->out[u->len++] = (uint8_t)(0x80 | (r & 0x3F));
    } else if (r < 0x10000) {
        u->out[u->len++] = (uint8_t)(0xE0 | r >> 12);
        u->out[u->len++] = (uint8_t)(0x80 | (r >> 6 & 0x3F));
        u->out[u->len++] = (uint8_t)(0x80 | (r & 0x3F));
    } else {
        u->out[u->len++] = (uint8_t)(0xF0 | r >> 18);
        u->out[u->len++] = (uint8_t)(0x80 | (r >> 12 & 0x3F));
        u->out[u->len++] = (uint8_t)(0x80 | (r >> 6 & 0x3F));
        u->out[u->len++] = (uint8_t)(0x80 | (r & 0x3F));
    }
}

/* n digits of base 8 or 16 (as a shift of 3 or 4 bits). */
static bool take_digits(struct cs_rd *in, unsigned n, unsigned shift, uint32_t *out)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < n; i++) {
        uint8_t c;
        if (!cs_rd_u8(in, &c))
            return false;
        uint32_t d = c >= '0' && c <= '9'   ? c - '0' + 0u
                     : c >= 'a' && c <= 'f' ? c - 'a' + 10u
                     : c >= 'A' && c <= 'F' ? c - 'A' + 10u
                                            : 16u;
        if (d >= 1u << shift)
            return false;
        v = v << shift | d;
    }
    *out = v;
    return true;
}

static bool unquote_escape(struct unquote *u, bool json)
{
    static const char from[] = "abfnrtv\\\"", to[] = "\a\b\f\n\r\t\v\\\"";
    uint8_t c;
    uint32_t v;
    if (!cs_rd_u8(&u->in, &c))
        return false;
    const char *simple = c == 0 ? NULL : strchr(from, c);
    if (simple != NULL) {
        u->out[u->len++] = (uint8_t)to[simple - from];
        return true;
    }
    if (c == 'u' || c == 'U') {
        if (!take_digits(&u->in, c == 'u' ? 4 : 8, 4, &v) || v > 0x10FFFF)
            return false;
        if (json && v >= 0xD800 && v <= 0xDFFF)
            return false;
        put_rune(u, v);
        return true;
    }
    if (c == 'x') {
        if (!take_digits(&u->in, 2, 4, &v))
            return false;
    } else {
        u->in.p--;
        if (!take_digits(&u->in, 3, 3, &v) || v > 255)
            return false;
    }
    u->out[u->len++] = (uint8_t)v;
    return true;
}

/* The inside of ${ }, taken over as it is; the opening is already copied. */
static bool copy_interpolation(struct unquote *u)
{
    for (unsigned braces = 1; braces > 0;) {
        uint8_t c;
        if (!cs_rd_u8(&u->in, &c))
            return false;
        u->out[u->len++] = c;
        if (c == '{')
            braces++;
        else if (c == '}')
            braces--;
    }
    return true;
}

static bool unquote(struct unquote *u, bool json)
{
    uint8_t c;
    while (cs_rd_u8(&u->in, &c)) {
        if (c == '\n' || c == '"')
            return false;
        if (c == '\\') {
            if (!unquote_escape(u, json))
                return false;
            continue;
        }
        u->out[u->len++] = c;
        if (!json && c == '$' && cs_rd_left(&u->in) > 0 && *u->in.p == '{') {
            u->out[u->len++] = '{';
            u->in.p++;
            if (!copy_interpolation(u))
                return false;
        }
    }
    return true;
}

static cs_code string_value(const struct hcl_tok *t, bool json, struct cs_arena *a, const char **out,
                            struct cs_err *e)
{
    size_t n = t->raw.len;
    if (n < 2 || t->raw.data[0] != '"' || t->raw.data[n - 1] != '"')
        return hcl_fail(e, CS_INVALID, t->pos, "literal not terminated");
    struct unquote u = {.in = cs_rd_of(cs_slice_of(t->raw.data + 1, n - 2)), .out = cs_arena_alloc(a, n)};
    if (u.out == NULL)
        return cs_nomem(e);
    if (!unquote(&u, json))
        return hcl_fail(e, CS_INVALID, t->pos, "invalid syntax in quoted string");
    /* Values become C strings: a NUL in one could hide what follows from a check. */
    if (memchr(u.out, 0, u.len) != NULL)
        return hcl_fail(e, CS_INVALID, t->pos, "null character in quoted string");
    u.out[u.len] = 0;
    *out = (const char *)u.out;
    return CS_OK;
}

/* --- here-documents --- */

/* Takes `indent` off each line in [from, to); false when a line begins otherwise. */
static bool unindent(const char *from, const char *to, struct cs_slice indent, char *out)
{
    while (from < to) {
        const char *eol = memchr(from, '\n', (size_t)(to - from));
        size_t n = (size_t)((eol == NULL ? to : eol + 1) - from);
        if (n < indent.len || memcmp(from, indent.data, indent.len) != 0)
            return false;
        memcpy(out, from + indent.len, n - indent.len);
        out += n - indent.len;
        from += n;
    }
    *out = 0;
    return true;
}

/* The scanner made sure of the shape: `<<` [`-`] ANCHOR nl, lines, blanks ANCHOR \r* nl. */
static cs_code heredoc_value(const struct hcl_tok *t, struct cs_arena *a, const char **out, struct cs_err *e)
{
    const char *raw = (const char *)t->raw.data, *end = raw + t->raw.len;
    const char *body = memchr(raw, '\n', t->raw.len);
    if (t->raw.len < 4 || body == NULL)
        return hcl_fail(e, CS_INVALID, t->pos, "heredoc not terminated");
    bool dash = raw[2] == '-';
    size_t anchor = (size_t)(body - raw) - (dash ? 3 : 2);
    body++;
    /* As HCL: the anchor and the line end are cut off by length, blanks before it stay. */
    if ((size_t)(end - body) < anchor + 1)
        return hcl_fail(e, CS_INVALID, t->pos, "heredoc not terminated");
    const char *stop = end - anchor - 1;
    char *text = cs_arena_strndup(a, body, (size_t)(stop - body));
    if (text == NULL)
        return cs_nomem(e);
    *out = text;
    if (!dash)
        return CS_OK;
    const char *last = stop;
    while (last > body && last[-1] != '\n')
        last--;
    if (unindent(body, last, cs_slice_of(last, (size_t)(stop - last)), text))
        return CS_OK;
    memcpy(text, body, (size_t)(last - body));
    text[last - body] = 0;
    return CS_OK;
}

/* The scanner takes an exponent without digits, and one character after it; no value has that form. */
static bool is_float(struct cs_slice raw)
{
    size_t i = 0;
    while (i < raw.len && raw.data[i] != 'e' && raw.data[i] != 'E')
        i++;
    if (i == raw.len)
        return true;
    i++;
    i += i < raw.len && (raw.data[i] == '+' || raw.data[i] == '-');
    size_t digits = i;
    while (i < raw.len && hcl_is_digit(raw.data[i]))
        i++;
    return i == raw.len && i > digits;
}

cs_code hcl_token_value(const struct hcl_tok *t, bool json, struct cs_arena *a, const char **out,
                        struct cs_err *e)
{
    *out = NULL;
    if (t->type == TOK_NULL) {
        *out = "";
        return CS_OK;
    }
    if (t->type == TOK_STRING)
        return string_value(t, json, a, out, e);
    if (t->type == TOK_HEREDOC)
        return heredoc_value(t, a, out, e);
    if (t->type == TOK_FLOAT && !is_float(t->raw))
        return hcl_fail(e, CS_INVALID, t->pos, "illegal floating-point number");
    if (memchr(t->raw.data, 0, t->raw.len) != NULL) /* JSON's scanner takes one after a number */
        return hcl_fail(e, CS_INVALID, t->pos, "null character");
    *out = cs_arena_strndup(a, (const char *)t->raw.data, t->raw.len);
    return *out == NULL ? cs_nomem(e) : CS_OK;
}

/* --- trees --- */

static cs_code take_value(struct hcl_build *b, const struct hcl_tok *t, bool json, const char **out)
{
    *out = "";
    return *b->scan_failed ? CS_OK : hcl_token_value(t, json, b->a, out, b->e);
}

cs_code hcl_list_add(struct hcl_build *b, struct hcl_list *l, const void *p)
{
    if (l->len == l->cap) {
        size_t cap = l->cap == 0 ? 4 : l->cap * 2;
        const void **at = cs_arena_alloc(b->a, cap * sizeof *at);
        if (at == NULL)
            return cs_nomem(b->e);
        if (l->len > 0)
            memcpy(at, l->at, l->len * sizeof *at);
        l->at = at;
        l->cap = cap;
    }
    l->at[l->len++] = p;
    return CS_OK;
}

cs_code hcl_build_count(struct hcl_build *b, struct hcl_pos pos)
{
    if (++b->nodes > HCL_MAX_NODES)
        return hcl_fail(b->e, CS_EXHAUSTED, pos, "more than %d values", HCL_MAX_NODES);
    return CS_OK;
}

cs_code hcl_build_enter(struct hcl_build *b, struct hcl_pos pos)
{
    if (++b->depth > HCL_MAX_DEPTH)
        return hcl_fail(b->e, CS_EXHAUSTED, pos, "nested more than %d levels deep", HCL_MAX_DEPTH);
    return CS_OK;
}

static cs_code new_node(struct hcl_build *b, enum hcl_kind kind, struct hcl_pos pos, struct hcl_node **out)
{
    CS_TRY(hcl_build_count(b, pos));
    struct hcl_node *n = cs_arena_zalloc(b->a, sizeof *n);
    if (n == NULL)
        return cs_nomem(b->e);
    n->kind = kind;
    n->pos = pos;
    n->text = "";
    *out = n;
    return CS_OK;
}

cs_code hcl_build_literal(struct hcl_build *b, const struct hcl_tok *t, bool json,
                          const struct hcl_node **out)
{
    struct hcl_node *n = NULL;
    enum hcl_kind kind = t->type == TOK_NUMBER    ? HCL_NUMBER
                         : t->type == TOK_FLOAT   ? HCL_FLOAT
                         : t->type == TOK_BOOL    ? HCL_BOOL
                         : t->type == TOK_HEREDOC ? HCL_HEREDOC
                                                  : HCL_STRING;
    CS_TRY(new_node(b, kind, t->pos, &n));
    CS_TRY(take_value(b, t, json, &n->text));
    n->raw = t->type == TOK_NULL ? cs_slice_str("") : t->raw;
    *out = n;
    return CS_OK;
}

cs_code hcl_build_list(struct hcl_build *b, struct hcl_pos pos, const struct hcl_list *l,
                       const struct hcl_node **out)
{
    struct hcl_node *n = NULL;
    CS_TRY(new_node(b, HCL_LIST, pos, &n));
    n->list = (const struct hcl_node *const *)l->at;
    n->list_len = l->len;
    *out = n;
    return CS_OK;
}

cs_code hcl_build_object(struct hcl_build *b, struct hcl_pos pos, const struct hcl_list *items,
                         const struct hcl_node **out)
{
    struct hcl_node *n = NULL;
    CS_TRY(new_node(b, HCL_OBJECT, pos, &n));
    n->items = (struct hcl_items){.at = (const struct hcl_item *const *)items->at, .len = items->len};
    *out = n;
    return CS_OK;
}

cs_code hcl_build_key(struct hcl_build *b, const struct hcl_tok *t, bool json, struct hcl_key *out)
{
    CS_TRY(hcl_build_count(b, t->pos));
    CS_TRY(take_value(b, t, json, &out->text));
    out->pos = t->pos;
    out->raw = t->raw;
    out->named = json || t->type == TOK_IDENT;
    return CS_OK;
}
