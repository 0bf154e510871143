/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON as HCL's own reader takes it: an object ends at the first token after a member that is no
 * comma, whatever it is; commas between list elements may be missing; bools and brackets inside a
 * list are passed over. Nested objects are then joined into labels, so that
 * {"plugins": {"KeyManager": {"memory": {}}}} reads like KeyManager "memory" {}.
 */
#include "config/hcl_scan.h"

struct json {
    struct hcl_scan scan;
    struct hcl_build b;
    struct hcl_tok tok;
};

#define JSON_FAIL(j, ...) hcl_fail((j)->b.e, CS_INVALID, (j)->tok.pos, __VA_ARGS__)

static enum hcl_tok_type json_word(struct hcl_scan *s, const uint8_t *begin)
{
    uint32_t c;
    do
        c = hcl_next(s);
    while (hcl_is_letter(c) || hcl_is_digit(c) || c == '-');
    if (c != HCL_EOF)
        hcl_unread(s);
    struct cs_slice w = cs_slice_of(begin, (size_t)(s->p - begin));
    if (cs_slice_is(w, "true") || cs_slice_is(w, "false"))
        return TOK_BOOL;
    if (cs_slice_is(w, "null"))
        return TOK_NULL;
    hcl_scan_fault(s, "illegal char");
    return TOK_ILLEGAL;
}

static enum hcl_tok_type json_number(struct hcl_scan *s, uint32_t c)
{
    bool zero = c == '0';
    struct hcl_pos before = s->pos;
    (void)hcl_scan_mantissa(s, c);
    c = hcl_next(s);
    if (c == 'e' || c == 'E') {
        (void)hcl_scan_exponent(s, c);
        return TOK_FLOAT;
    }
    if (c == '.') {
        c = hcl_scan_fraction(s, c);
        if (c == 'e' || c == 'E')
            (void)hcl_scan_exponent(s, hcl_next(s));
        return TOK_FLOAT;
    }
    if (c != HCL_EOF)
        hcl_unread(s);
    if (zero && (before.line != s->pos.line || before.column != s->pos.column))
        hcl_scan_fault(s, "numbers cannot start with 0");
    return TOK_NUMBER;
}

static void json_string(struct hcl_scan *s)
{
    for (;;) {
        uint32_t c = hcl_next(s);
        if (c == '\n' || c == HCL_EOF) {
            hcl_scan_fault(s, "literal not terminated");
            return;
        }
        if (c == '"')
            return;
        if (c == '\\')
            hcl_scan_escape(s);
    }
}

static enum hcl_tok_type json_sign(struct hcl_scan *s, uint32_t c)
{
    static const struct {
        char c;
        enum hcl_tok_type t;
    } signs[] = {{'[', TOK_LBRACK}, {']', TOK_RBRACK}, {'{', TOK_LBRACE},
                 {'}', TOK_RBRACE}, {',', TOK_COMMA},  {':', TOK_COLON}};
    if (c == HCL_EOF)
        return TOK_EOF;
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (c == (uint32_t)signs[i].c)
            return signs[i].t;
    if (c == '-' && hcl_is_digit(hcl_peek(s)))
        return json_number(s, hcl_next(s));
    if (c == '.') {
        if (!hcl_is_digit(hcl_peek(s)))
            return TOK_PERIOD;
        (void)hcl_scan_exponent(s, hcl_scan_mantissa(s, hcl_peek(s)));
        return TOK_FLOAT;
    }
    char msg[] = "illegal char: ?";
    if (c >= 0x20 && c < 0x7F)
        msg[sizeof msg - 2] = (char)c;
    hcl_scan_fault(s, c == '-' ? "illegal char" : msg);
    return TOK_ILLEGAL;
}

static enum hcl_tok_type next(struct json *j)
{
    struct hcl_scan *s = &j->scan;
    uint32_t c;
    do
        c = hcl_next(s);
    while (hcl_is_space(c));
    const uint8_t *begin = s->p - s->last_len;
    j->tok.pos = hcl_here(s);
    if (hcl_is_letter(c)) {
        j->tok.type = json_word(s, begin);
    } else if (hcl_is_digit(c)) {
        j->tok.type = json_number(s, c);
    } else if (c == '"') {
        j->tok.type = TOK_STRING;
        json_string(s);
    } else {
        j->tok.type = json_sign(s, c);
    }
    j->tok.raw = cs_slice_of(begin, (size_t)(s->p - begin));
    return j->tok.type;
}

static cs_code parse_object(struct json *j, const struct hcl_node **out);

/* After `[`. *end: a `}` came, which ends the object around the list and drops the list. */
static cs_code parse_list(struct json *j, const struct hcl_node **out, bool *end)
{
    struct hcl_pos pos = j->tok.pos;
    struct hcl_list l = {0};
    for (;;) {
        const struct hcl_node *n = NULL;
        switch (next(j)) {
        case TOK_NUMBER:
        case TOK_FLOAT:
        case TOK_STRING:
            CS_TRY(hcl_build_literal(&j->b, &j->tok, true, &n));
            break;
        case TOK_LBRACE:
            CS_TRY(parse_object(j, &n));
            break;
        case TOK_COMMA:
        case TOK_BOOL:
        case TOK_LBRACK:
            continue;
        case TOK_RBRACK:
            return hcl_build_list(&j->b, pos, &l, out);
        case TOK_RBRACE:
            *end = true;
            return CS_OK;
        default:
            return JSON_FAIL(j, "unexpected token while parsing list: %s", hcl_tok_name(j->tok.type));
        }
        CS_TRY(hcl_list_add(&j->b, &l, n));
    }
}

static cs_code parse_value(struct json *j, const struct hcl_node **out, bool *end)
{
    switch (next(j)) {
    case TOK_NUMBER:
    case TOK_FLOAT:
    case TOK_BOOL:
    case TOK_NULL:
    case TOK_STRING:
        return hcl_build_literal(&j->b, &j->tok, true, out);
    case TOK_LBRACE:
        return parse_object(j, out);
    case TOK_LBRACK:
        return parse_list(j, out, end);
    case TOK_EOF:
    case TOK_RBRACE:
        *end = true;
        return CS_OK;
    default:
        return JSON_FAIL(j, "Expected object value, got unknown token: %s", hcl_tok_name(j->tok.type));
    }
}

/* One member. *end: the text, or the object, ended before one began. */
static cs_code parse_member(struct json *j, struct hcl_list *out, bool *end)
{
    struct hcl_key keys[8];
    size_t n = 0;
    for (;;) {
        enum hcl_tok_type t = next(j);
        if (t == TOK_COLON && n > 0)
            break;
        if (t == TOK_EOF || t == TOK_RBRACE) { /* HCL forgives a `}` wherever a key is due */
            *end = true;
            return CS_OK;
        }
        if (t != TOK_STRING || n == sizeof keys / sizeof keys[0])
            return JSON_FAIL(j, "expected: STRING got: %s", hcl_tok_name(t));
        CS_TRY(hcl_build_key(&j->b, &j->tok, true, &keys[n++]));
    }
    struct hcl_item *it = cs_arena_zalloc(j->b.a, sizeof *it);
    if (it == NULL)
        return cs_nomem(j->b.e);
    it->keys = cs_arena_memdup(j->b.a, keys, n * sizeof keys[0]);
    if (it->keys == NULL)
        return cs_nomem(j->b.e);
    it->key_count = n;
    it->assigned = true;
    CS_TRY(parse_value(j, &it->value, end));
    return *end ? CS_OK : hcl_list_add(&j->b, out, it);
}

/* After `{`. */
static cs_code parse_object(struct json *j, const struct hcl_node **out)
{
    struct hcl_pos pos = j->tok.pos;
    struct hcl_list items = {0};
    CS_TRY(hcl_build_enter(&j->b, pos));
    do {
        bool end = false;
        CS_TRY(parse_member(j, &items, &end));
        if (end)
            break;
    } while (next(j) == TOK_COMMA);
    j->b.depth--;
    return hcl_build_object(&j->b, pos, &items, out);
}

/* --- joining nested objects into labels --- */

static bool all_objects(const struct hcl_node *n)
{
    if (n->kind == HCL_LIST) {
        for (size_t i = 0; i < n->list_len; i++)
            if (n->list[i]->kind != HCL_OBJECT)
                return false;
        return n->list_len > 0;
    }
    for (size_t i = 0; i < n->items.len; i++)
        if (n->items.at[i]->value->kind != HCL_OBJECT)
            return false;
    return n->items.len > 0;
}

static cs_code join(struct hcl_build *b, const struct hcl_item *outer, const struct hcl_item *inner,
                    const struct hcl_node *value, const struct hcl_item **out)
{
    struct hcl_item *it = cs_arena_memdup(b->a, outer, sizeof *outer);
    if (it == NULL)
        return cs_nomem(b->e);
    CS_TRY(hcl_build_count(b, value->pos));
    it->value = value;
    if (inner != NULL) {
        size_t n = outer->key_count + inner->key_count;
        struct hcl_key *keys = cs_arena_alloc(b->a, n * sizeof *keys);
        if (keys == NULL)
            return cs_nomem(b->e);
        memcpy(keys, outer->keys, outer->key_count * sizeof *keys);
        memcpy(keys + outer->key_count, inner->keys, inner->key_count * sizeof *keys);
        it->keys = keys;
        it->key_count = n;
    }
    *out = it;
    return CS_OK;
}

static cs_code flatten_items(struct hcl_build *b, struct hcl_items *items);

/* Appends what an item becomes. Depth is that of the values: bounded when they were read. */
static cs_code flatten_item(struct hcl_build *b, const struct hcl_item *it, struct hcl_list *out)
{
    const struct hcl_node *v = it->value;
    bool object = v->kind == HCL_OBJECT, list = v->kind == HCL_LIST;
    if ((!object && !list) || !all_objects(v))
        return hcl_list_add(b, out, it);
    for (size_t i = 0; i < (list ? v->list_len : v->items.len); i++) {
        const struct hcl_item *inner = list ? NULL : v->items.at[i], *joined = NULL;
        CS_TRY(join(b, it, inner, list ? v->list[i] : inner->value, &joined));
        CS_TRY(flatten_item(b, joined, out));
    }
    return CS_OK;
}

static cs_code flatten_node(struct hcl_build *b, const struct hcl_node *n)
{
    if (n->kind == HCL_OBJECT) {
        /* The tree is still ours alone to change. */
        struct hcl_node *own = (struct hcl_node *)(uintptr_t)n;
        return flatten_items(b, &own->items);
    }
    for (size_t i = 0; n->kind == HCL_LIST && i < n->list_len; i++)
        CS_TRY(flatten_node(b, n->list[i]));
    return CS_OK;
}

static cs_code flatten_items(struct hcl_build *b, struct hcl_items *items)
{
    struct hcl_list out = {0};
    for (size_t i = 0; i < items->len; i++)
        CS_TRY(flatten_item(b, items->at[i], &out));
    *items = (struct hcl_items){.at = (const struct hcl_item *const *)out.at, .len = out.len};
    for (size_t i = 0; i < items->len; i++)
        CS_TRY(flatten_node(b, items->at[i]->value));
    return CS_OK;
}

static cs_code parse_root(struct json *j, struct hcl_items *out)
{
    const struct hcl_node *root = NULL;
    enum hcl_tok_type t = next(j);
    if (t == TOK_EOF)
        return JSON_FAIL(j, "EOF token found");
    if (t != TOK_LBRACE)
        return JSON_FAIL(j, "Expected object, got unknown token: %s", hcl_tok_name(t));
    CS_TRY(parse_object(j, &root));
    if (j->scan.failed)
        return CS_OK;
    *out = root->items;
    return flatten_items(&j->b, out);
}

cs_code hcl_parse_json(struct cs_slice text, struct cs_arena *a, struct hcl_items *out, struct cs_err *e)
{
    *out = (struct hcl_items){0};
    if (text.len > HCL_MAX_SIZE)
        return cs_fail(e, CS_EXHAUSTED, "configuration is larger than %d bytes", HCL_MAX_SIZE);
    struct json j = {.b = {.a = a, .e = e}};
    j.b.scan_failed = &j.scan.failed;
    uint8_t *copy = cs_arena_alloc(a, text.len + 1);
    if (copy == NULL)
        return cs_nomem(e);
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    copy[text.len] = 0;
    hcl_scan_init(&j.scan, cs_slice_of(copy, text.len), true);
    cs_code code = parse_root(&j, out);
    if (j.scan.failed && (code == CS_OK || code == CS_INVALID)) {
        *out = (struct hcl_items){0};
        return cs_fail(e, CS_INVALID, "%s", j.scan.err.text);
    }
    if (code != CS_OK)
        *out = (struct hcl_items){0};
    return code;
}
