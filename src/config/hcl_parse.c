/* SPDX-License-Identifier: Apache-2.0
 *
 * The grammar of HCL.
 */
#include "config/hcl_scan.h"

struct parser {
    struct hcl_scan scan;
    struct hcl_build b;
    struct hcl_tok tok;
    bool held; /* tok was given back and comes again */
};

static enum hcl_tok_type next(struct parser *p)
{
    if (p->held) {
        p->held = false;
        return p->tok.type;
    }
    do
        p->tok = hcl_scan_token(&p->scan);
    while (p->tok.type == TOK_COMMENT);
    return p->tok.type;
}

#define PARSE_FAIL(p, ...) hcl_fail((p)->b.e, CS_INVALID, (p)->tok.pos, __VA_ARGS__)

static cs_code parse_items(struct parser *p, bool braces, struct hcl_list *out);
static cs_code parse_list(struct parser *p, const struct hcl_node **out);

/* After `{`. */
static cs_code parse_object(struct parser *p, const struct hcl_node **out)
{
    struct hcl_pos pos = p->tok.pos;
    struct hcl_list items = {0};
    CS_TRY(hcl_build_enter(&p->b, pos));
    CS_TRY(parse_items(p, true, &items));
    p->b.depth--;
    if (next(p) != TOK_RBRACE)
        return PARSE_FAIL(p, "object expected closing RBRACE got: %s", hcl_tok_name(p->tok.type));
    return hcl_build_object(&p->b, pos, &items, out);
}

static cs_code wrap_in_list(struct parser *p, struct hcl_pos pos, const char *what)
{
    struct cs_err inner = p->b.e == NULL ? (struct cs_err){.code = CS_INVALID} : *p->b.e;
    if (inner.code != CS_INVALID)
        return inner.code;
    return hcl_fail(p->b.e, CS_INVALID, pos, "error while trying to parse %s within list: %s", what,
                    inner.text);
}

static cs_code parse_list_value(struct parser *p, const struct hcl_node **out, bool *comma_due)
{
    struct hcl_pos pos = p->tok.pos;
    cs_code code;
    switch (p->tok.type) {
    case TOK_BOOL:
    case TOK_NUMBER:
    case TOK_FLOAT:
    case TOK_STRING:
    case TOK_HEREDOC:
        *comma_due = true;
        return hcl_build_literal(&p->b, &p->tok, false, out);
    case TOK_LBRACE:
        *comma_due = true;
        code = parse_object(p, out);
        return code == CS_OK ? CS_OK : wrap_in_list(p, pos, "object");
    case TOK_LBRACK: /* HCL asks for no comma after a nested list */
        code = parse_list(p, out);
        return code == CS_OK ? CS_OK : wrap_in_list(p, pos, "list");
    default:
        return PARSE_FAIL(p, "unexpected token while parsing list: %s", hcl_tok_name(p->tok.type));
    }
}

/* After `[`. */
static cs_code parse_list(struct parser *p, const struct hcl_node **out)
{
    struct hcl_pos pos = p->tok.pos;
    struct hcl_list l = {0};
    bool comma_due = false;
    CS_TRY(hcl_build_enter(&p->b, pos));
    for (;;) {
        enum hcl_tok_type t = next(p);
        if (t == TOK_RBRACK)
            break;
        if (t == TOK_COMMA) {
            comma_due = false;
            continue;
        }
        if (comma_due)
            return PARSE_FAIL(p, "error parsing list, expected comma or list end, got: %s", hcl_tok_name(t));
        const struct hcl_node *n = NULL;
        CS_TRY(parse_list_value(p, &n, &comma_due));
        CS_TRY(hcl_list_add(&p->b, &l, n));
    }
    p->b.depth--;
    return hcl_build_list(&p->b, pos, &l, out);
}

/* After `=`. *end: the text ended instead, which HCL takes for the end of the items. */
static cs_code parse_value(struct parser *p, const struct hcl_node **out, bool *end)
{
    switch (next(p)) {
    case TOK_NUMBER:
    case TOK_FLOAT:
    case TOK_BOOL:
    case TOK_STRING:
    case TOK_HEREDOC:
        return hcl_build_literal(&p->b, &p->tok, false, out);
    case TOK_LBRACE:
        return parse_object(p, out);
    case TOK_LBRACK:
        return parse_list(p, out);
    case TOK_EOF:
        *end = true;
        return CS_OK;
    default:
        return PARSE_FAIL(p, "Unknown token: %u:%u %s %.*s", p->tok.pos.line, p->tok.pos.column,
                          hcl_tok_name(p->tok.type), (int)(p->tok.raw.len > 128 ? 128 : p->tok.raw.len),
                          (const char *)p->tok.raw.data);
    }
}

/* Keys up to `=` or `{`. On the end of the text or `}` after at least one key, tok says so. */
static cs_code parse_keys(struct parser *p, struct hcl_list *keys)
{
    for (;;) {
        enum hcl_tok_type t = next(p);
        if (t == TOK_IDENT || t == TOK_STRING) {
            struct hcl_key *k = cs_arena_zalloc(p->b.a, sizeof *k);
            if (k == NULL)
                return cs_nomem(p->b.e);
            CS_TRY(hcl_build_key(&p->b, &p->tok, false, k));
            CS_TRY(hcl_list_add(&p->b, keys, k));
            continue;
        }
        if (t == TOK_EOF || (t == TOK_RBRACE && keys->len > 0))
            return CS_OK;
        if (t == TOK_ASSIGN && keys->len > 1)
            return PARSE_FAIL(p, "nested object expected: LBRACE got: %s", hcl_tok_name(t));
        if (t == TOK_ASSIGN && keys->len == 0)
            return PARSE_FAIL(p, "no object keys found!");
        if (t == TOK_LBRACE && keys->len == 0)
            return PARSE_FAIL(p, "expected: IDENT | STRING got: %s", hcl_tok_name(t));
        if (t == TOK_ASSIGN || t == TOK_LBRACE)
            return CS_OK;
        if (t == TOK_ILLEGAL)
            return PARSE_FAIL(p, "illegal character");
        return PARSE_FAIL(p, "expected: IDENT | STRING | ASSIGN | LBRACE got: %s", hcl_tok_name(t));
    }
}

static cs_code key_without_value(struct parser *p, const struct hcl_list *keys)
{
    char words[200];
    size_t len = 0;
    for (size_t i = 0; i < keys->len && len < sizeof words - 1; i++) {
        const struct hcl_key *k = keys->at[i];
        size_t n = k->raw.len, room = sizeof words - 1 - len;
        if (i > 0) {
            words[len++] = ' ';
            room--;
        }
        n = n < room ? n : room;
        memcpy(words + len, k->raw.data, n);
        len += n;
    }
    return PARSE_FAIL(p, "key '%.*s' expected start of object ('{') or assignment ('=')", (int)len, words);
}

static cs_code parse_item(struct parser *p, struct hcl_list *out, bool *end)
{
    struct hcl_list keys = {0};
    CS_TRY(parse_keys(p, &keys));
    if (keys.len == 0) { /* only at the end of the text */
        *end = true;
        return CS_OK;
    }
    struct hcl_item *it = cs_arena_zalloc(p->b.a, sizeof *it);
    struct hcl_key *flat = cs_arena_alloc(p->b.a, keys.len * sizeof *flat);
    if (it == NULL || flat == NULL)
        return cs_nomem(p->b.e);
    for (size_t i = 0; i < keys.len; i++)
        flat[i] = *(const struct hcl_key *)keys.at[i];
    it->keys = flat;
    it->key_count = keys.len;
    it->assigned = p->tok.type == TOK_ASSIGN;
    if (it->assigned)
        CS_TRY(parse_value(p, &it->value, end));
    else if (p->tok.type == TOK_LBRACE)
        CS_TRY(parse_object(p, &it->value));
    else
        return key_without_value(p, &keys);
    return *end ? CS_OK : hcl_list_add(&p->b, out, it);
}

static cs_code parse_items(struct parser *p, bool braces, struct hcl_list *out)
{
    for (;;) {
        if (braces) {
            enum hcl_tok_type t = next(p);
            p->held = true;
            if (t == TOK_RBRACE)
                return CS_OK;
        }
        bool end = false;
        CS_TRY(parse_item(p, out, &end));
        if (end)
            return CS_OK;
        if (next(p) != TOK_COMMA)
            p->held = true;
    }
}

/* The text with CR LF made LF. */
static cs_code normalise(struct cs_slice text, struct cs_arena *a, struct cs_slice *out, struct cs_err *e)
{
    uint8_t *copy = cs_arena_alloc(a, text.len + 1);
    if (copy == NULL)
        return cs_nomem(e);
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] != '\r' || i + 1 == text.len || text.data[i + 1] != '\n')
            copy[n++] = text.data[i];
    copy[n] = 0;
    *out = cs_slice_of(copy, n);
    return CS_OK;
}

cs_code hcl_parse_hcl(struct cs_slice text, struct cs_arena *a, struct hcl_items *out, struct cs_err *e)
{
    *out = (struct hcl_items){0};
    if (text.len > HCL_MAX_SIZE)
        return cs_fail(e, CS_EXHAUSTED, "configuration is larger than %d bytes", HCL_MAX_SIZE);
    struct cs_err local;
    struct parser p = {.b = {.a = a, .e = e == NULL ? &local : e}};
    p.b.scan_failed = &p.scan.failed;
    CS_TRY(normalise(text, a, &text, e));
    hcl_scan_init(&p.scan, text, false);
    struct hcl_list items = {0};
    cs_code code = parse_items(&p, false, &items);
    if (p.scan.failed && (code == CS_OK || code == CS_INVALID))
        return cs_fail(e, CS_INVALID, "%s", p.scan.err.text);
    if (code != CS_OK)
        return code;
    *out = (struct hcl_items){.at = (const struct hcl_item *const *)items.at, .len = items.len};
    return CS_OK;
}

cs_code hcl_parse(struct cs_slice text, struct cs_arena *a, struct hcl_items *out, struct cs_err *e)
{
    size_t i = 0;
    while (i < text.len && (hcl_is_space(text.data[i]) || text.data[i] == '\v' || text.data[i] == '\f'))
        i++;
    return i < text.len && text.data[i] == '{' ? hcl_parse_json(text, a, out, e)
                                               : hcl_parse_hcl(text, a, out, e);
}
