/* SPDX-License-Identifier: Apache-2.0
 *
 * `expect` says what may come next, `inside` what a piece may have ended in the middle of.
 */
#include "plugins/modules/workload_k8s/scan.h"

#include "base/mem.h"
#include "plugins/modules/workload_k8s/pass.h"

#include <stdio.h>

enum expect {
    A_VALUE,
    A_VALUE_OR_END, /* behind '[' */
    A_KEY,
    A_KEY_OR_END, /* behind '{' */
    A_COLON,
    A_COMMA_OR_END,
    NOTHING, /* but white space: the value is complete */
};

enum inside {
    NO_TOKEN,
    TEXT,
    WORD,
    PASSED, /* a text, object or array that is passed over */
};

struct k8s_scan {
    k8s_scan_fn *tell;
    void *arg;
    enum expect expect;
    enum inside inside;
    struct k8s_nest nest;
    struct k8s_pass pass;
    bool unwanted;        /* the value that comes */
    bool key;             /* the TEXT is one */
    bool escaped;         /* the next byte of the TEXT */
    bool escapes;         /* there are some in it */
    bool is_long;         /* too long to be kept */
    struct cs_buf kept;   /* of a TEXT or WORD that began in an earlier piece */
    size_t before;        /* bytes of earlier pieces */
    const uint8_t *piece; /* the one at hand begins here */
};

static cs_code bad(const struct k8s_scan *s, const uint8_t *at, struct cs_err *e, const char *what)
{
    return cs_fail(e, CS_INVALID, "%s at byte %zu", what, s->before + (size_t)(at - s->piece));
}

static cs_code unexpected(const struct k8s_scan *s, const uint8_t *at, struct cs_err *e)
{
    char what[32];
    (void)snprintf(what, sizeof what, *at > ' ' && *at < 0x7f ? "unexpected '%c'" : "unexpected byte 0x%02x",
                   *at);
    return bad(s, at, e, what);
}

/* --- Events --- */

static void after_value(struct k8s_scan *s)
{
    s->inside = NO_TOKEN;
    s->unwanted = false;
    s->expect = s->nest.depth > 0 ? A_COMMA_OR_END : NOTHING;
}

static cs_code tell(struct k8s_scan *s, enum k8s_scan_event what, struct cs_slice text, struct cs_err *e)
{
    bool pass = false;
    CS_TRY(s->tell(s->arg, what, text, &pass, e));
    s->unwanted = pass && what >= K8S_SCAN_KEY && what <= K8S_SCAN_ARRAY;
    return CS_OK;
}

/* --- Texts --- */

static bool hex4(const uint8_t *at, uint32_t *out)
{
    *out = 0;
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t c = at[i], lower = c | 0x20;
        if (c >= '0' && c <= '9')
            *out = *out << 4 | (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            *out = *out << 4 | (uint32_t)(lower - 'a' + 10);
        else
            return false;
    }
    return true;
}

static size_t put_utf8(uint8_t *out, uint32_t rune)
{
    if (rune < 0x80) {
        out[0] = (uint8_t)rune;
        return 1;
    }
    const unsigned n = rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;
    for (unsigned i = n - 1; i > 0; i--, rune >>= 6)
        out[i] = (uint8_t)(0x80 | (rune & 0x3f));
    out[0] = (uint8_t)(0xf00 >> n | rune);
    return n;
}

/* What \uXXXX stands for, two of them if they are a pair; *at is behind the 'u'. Half a pair is U+FFFD. */
static bool unicode(const uint8_t **at, const uint8_t *end, uint32_t *rune)
{
    uint32_t low;
    if (end - *at < 4 || !hex4(*at, rune))
        return false;
    *at += 4;
    if (*rune < 0xd800 || *rune > 0xdfff)
        return true;
    if (*rune < 0xdc00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u' && hex4(*at + 2, &low) &&
        low >= 0xdc00 && low <= 0xdfff) {
        *rune = 0x10000 + ((*rune - 0xd800) << 10 | (low - 0xdc00));
        *at += 6;
    } else {
        *rune = 0xfffd;
    }
    return true;
}

/* Takes the escapes out, in place: none is shorter than what it stands for. */
static bool unescape(struct cs_buf *b)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const uint8_t *at = b->data, *end = at + b->len;
    uint8_t *out = b->data;
    while (at < end) {
        if (*at != '\\') {
            *out++ = *at++;
            continue;
        }
        const uint8_t c = at[1]; /* a text does not end with a lone backslash */
        at += 2;
        if (c == 'u') {
            uint32_t rune;
            if (!unicode(&at, end, &rune))
                return false;
            out += put_utf8(out, rune);
        } else {
            const char *found = c != '\0' ? strchr(from, c) : NULL;
            if (found == NULL)
                return false;
            *out++ = (uint8_t)to[found - from];
        }
    }
    b->len = (size_t)(out - b->data);
    return true;
}

static cs_code keep(struct k8s_scan *s, struct cs_slice part, struct cs_err *e)
{
    cs_buf_add_slice(&s->kept, part);
    return cs_buf_ok(&s->kept) ? CS_OK : cs_nomem(e);
}

/* The text as it is meant; `last` is its part in this piece, and `at` the closing quote. */
static cs_code text_of(struct k8s_scan *s, struct cs_slice last, const uint8_t *at, struct cs_slice *out,
                       struct cs_err *e)
{
    *out = last;
    if (s->kept.len == 0 && !s->escapes)
        return CS_OK;
    CS_TRY(keep(s, last, e));
    if (s->escapes && !unescape(&s->kept))
        return bad(s, at, e, "bad escape in a text that ends");
    *out = cs_buf_slice(&s->kept);
    return CS_OK;
}

static cs_code text_complete(struct k8s_scan *s, struct cs_slice last, const uint8_t *at, struct cs_err *e)
{
    struct cs_slice text = {0};
    if (!s->is_long)
        CS_TRY(text_of(s, last, at, &text, e));
    if (s->key) {
        s->inside = NO_TOKEN;
        s->expect = A_COLON;
    } else {
        after_value(s);
    }
    const enum k8s_scan_event what = s->key ? (s->is_long ? K8S_SCAN_LONG_KEY : K8S_SCAN_KEY)
                                            : (s->is_long ? K8S_SCAN_LONG_TEXT : K8S_SCAN_TEXT);
    CS_TRY(tell(s, what, text, e));
    cs_buf_reset(&s->kept);
    return CS_OK;
}

/* Up to the closing quote, a control character, or the end of the piece. */
static void find_end(struct k8s_scan *s, struct cs_rd *in)
{
    while (in->p < in->end) {
        if (s->escaped) {
            s->escaped = false;
            in->p++;
            continue;
        }
        in->p = k8s_plain_end(in->p, in->end);
        if (in->p == in->end || *in->p != '\\')
            return;
        s->escaped = s->escapes = true;
        in->p++;
    }
}

static cs_code in_text(struct k8s_scan *s, struct cs_rd *in, struct cs_err *e)
{
    const uint8_t *from = in->p;
    find_end(s, in);
    const struct cs_slice part = cs_slice_of(from, (size_t)(in->p - from));
    if (part.len > K8S_SCAN_TEXT_MAX - s->kept.len)
        s->is_long = true;
    if (in->p == in->end)
        return s->is_long ? CS_OK : keep(s, part, e);
    if (*in->p != '"')
        return unexpected(s, in->p, e);
    const uint8_t *at = in->p++;
    return text_complete(s, part, at, e);
}

/* --- Words: null, true, false, numbers --- */

static bool is_word_byte(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '+' ||
           c == '.';
}

static bool digits(struct cs_rd *r)
{
    const uint8_t *from = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return r->p > from;
}

static bool take(struct cs_rd *r, uint8_t c)
{
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

/* RFC 8259, section 6. */
static bool is_number(struct cs_slice word)
{
    struct cs_rd r = cs_rd_of(word);
    (void)take(&r, '-');
    if (!take(&r, '0') && !digits(&r))
        return false;
    if (take(&r, '.') && !digits(&r))
        return false;
    if (take(&r, 'e') || take(&r, 'E')) {
        if (!take(&r, '-'))
            (void)take(&r, '+');
        if (!digits(&r))
            return false;
    }
    return r.p == r.end;
}

/* `at` is behind the word. */
static cs_code word_complete(struct k8s_scan *s, struct cs_slice last, const uint8_t *at, struct cs_err *e)
{
    const bool wanted = !s->unwanted;
    if (s->kept.len > 0) {
        CS_TRY(keep(s, last, e));
        last = cs_buf_slice(&s->kept);
    }
    const bool null = cs_slice_is(last, "null");
    if (!null && !cs_slice_is(last, "true") && !cs_slice_is(last, "false") && !is_number(last))
        return bad(s, at, e, "bad word or number that ends");
    cs_buf_reset(&s->kept);
    after_value(s);
    return wanted ? tell(s, null ? K8S_SCAN_NULL : K8S_SCAN_WORD, (struct cs_slice){0}, e) : CS_OK;
}

static cs_code in_word(struct k8s_scan *s, struct cs_rd *in, struct cs_err *e)
{
    const uint8_t *from = in->p;
    while (in->p < in->end && is_word_byte(*in->p))
        in->p++;
    const struct cs_slice part = cs_slice_of(from, (size_t)(in->p - from));
    if (part.len > K8S_SCAN_WORD_MAX - s->kept.len)
        return cs_fail(e, CS_INVALID, "a word or number of more than %d bytes", K8S_SCAN_WORD_MAX);
    return in->p < in->end ? word_complete(s, part, in->p, e) : keep(s, part, e);
}

/* --- What is passed over --- */

static cs_code in_passed(struct k8s_scan *s, struct cs_rd *in, struct cs_err *e)
{
    switch (k8s_pass_over(&s->pass, &s->nest, in)) {
    case K8S_PASS_MORE:
        return CS_OK;
    case K8S_PASS_END:
        after_value(s);
        return CS_OK;
    case K8S_PASS_DEEP:
        return cs_fail(e, CS_EXHAUSTED, "nested deeper than %d", K8S_NEST_MAX);
    default:
        return unexpected(s, in->p, e);
    }
}

static void pass_from_here(struct k8s_scan *s, unsigned outside, bool in_a_text)
{
    s->inside = PASSED;
    s->pass = (struct k8s_pass){.outside = outside, .in_text = in_a_text};
}

/* --- Between tokens --- */

static void begin_text(struct k8s_scan *s, bool key)
{
    if (!key && s->unwanted) {
        pass_from_here(s, s->nest.depth, true);
        return;
    }
    s->inside = TEXT;
    s->key = key;
    s->escaped = s->escapes = s->is_long = false;
}

static cs_code open(struct k8s_scan *s, bool object, struct cs_err *e)
{
    const unsigned outside = s->nest.depth;
    if (!k8s_nest_open(&s->nest, object))
        return cs_fail(e, CS_EXHAUSTED, "nested deeper than %d", K8S_NEST_MAX);
    s->expect = object ? A_KEY_OR_END : A_VALUE_OR_END;
    if (!s->unwanted)
        CS_TRY(tell(s, object ? K8S_SCAN_OBJECT : K8S_SCAN_ARRAY, (struct cs_slice){0}, e));
    if (s->unwanted)
        pass_from_here(s, outside, false);
    return CS_OK;
}

static cs_code close(struct k8s_scan *s, bool object, const uint8_t *at, struct cs_err *e)
{
    const enum expect end = object ? A_KEY_OR_END : A_VALUE_OR_END;
    if ((s->expect != end && s->expect != A_COMMA_OR_END) || !k8s_nest_close(&s->nest, object))
        return unexpected(s, at, e);
    after_value(s);
    return tell(s, K8S_SCAN_END, (struct cs_slice){0}, e);
}

/* One byte that is no white space, and is behind `in` already. */
static cs_code begin(struct k8s_scan *s, struct cs_rd *in, struct cs_err *e)
{
    const uint8_t *at = in->p - 1;
    const bool value = s->expect == A_VALUE || s->expect == A_VALUE_OR_END;
    if (*at == '"' && (value || s->expect == A_KEY || s->expect == A_KEY_OR_END)) {
        begin_text(s, !value);
        return CS_OK;
    }
    if ((*at == '{' || *at == '[') && value)
        return open(s, *at == '{', e);
    if (*at == '}' || *at == ']')
        return close(s, *at == '}', at, e);
    if (*at == ':' && s->expect == A_COLON) {
        s->expect = A_VALUE;
        return CS_OK;
    }
    if (*at == ',' && s->expect == A_COMMA_OR_END) {
        s->expect = k8s_nest_object(&s->nest) ? A_KEY : A_VALUE;
        return CS_OK;
    }
    if (!value || !is_word_byte(*at))
        return unexpected(s, at, e);
    s->inside = WORD;
    in->p--;
    return CS_OK;
}

static cs_code between(struct k8s_scan *s, struct cs_rd *in, struct cs_err *e)
{
    while (in->p < in->end && s->inside == NO_TOKEN) {
        const uint8_t c = *in->p++;
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
            CS_TRY(begin(s, in, e));
    }
    return CS_OK;
}

static cs_code step(struct k8s_scan *s, struct cs_rd *in, struct cs_err *e)
{
    switch (s->inside) {
    case TEXT:
        return in_text(s, in, e);
    case WORD:
        return in_word(s, in, e);
    case PASSED:
        return in_passed(s, in, e);
    default:
        return between(s, in, e);
    }
}

/* --- The whole --- */

cs_code k8s_scan_new(k8s_scan_fn *fn, void *arg, struct k8s_scan **out, struct cs_err *e)
{
    struct k8s_scan *s = cs_calloc(1, sizeof *s);
    *out = s;
    if (s == NULL)
        return cs_nomem(e);
    s->tell = fn;
    s->arg = arg;
    return CS_OK;
}

void k8s_scan_free(struct k8s_scan *s)
{
    if (s == NULL)
        return;
    cs_buf_free(&s->kept);
    cs_free(s);
}

cs_code k8s_scan_add(struct k8s_scan *s, struct cs_slice piece, struct cs_err *e)
{
    struct cs_rd in = cs_rd_of(piece);
    s->piece = piece.data;
    while (in.p < in.end)
        CS_TRY(step(s, &in, e));
    s->before += piece.len;
    return CS_OK;
}

cs_code k8s_scan_end(struct k8s_scan *s, struct cs_err *e)
{
    static const uint8_t none;
    s->piece = &none;
    if (s->inside == WORD)
        CS_TRY(word_complete(s, (struct cs_slice){0}, &none, e));
    return s->expect == NOTHING ? CS_OK : bad(s, &none, e, "unexpected end");
}
