/* SPDX-License-Identifier: Apache-2.0
 *
 * Characters and tokens of HCL. Where HCL's own scanner has a quirk that decides what is accepted
 * or which position is printed, it is kept, and named here.
 */
#include "config/hcl_scan.h"

#include <stdio.h>

static const char *const tok_names[] = {
    [TOK_ILLEGAL] = "ILLEGAL", [TOK_EOF] = "EOF",         [TOK_COMMENT] = "COMMENT", [TOK_IDENT] = "IDENT",
    [TOK_NUMBER] = "NUMBER",   [TOK_FLOAT] = "FLOAT",     [TOK_BOOL] = "BOOL",       [TOK_STRING] = "STRING",
    [TOK_NULL] = "NULL",       [TOK_HEREDOC] = "HEREDOC", [TOK_LBRACK] = "LBRACK",   [TOK_LBRACE] = "LBRACE",
    [TOK_COMMA] = "COMMA",     [TOK_PERIOD] = "PERIOD",   [TOK_RBRACK] = "RBRACK",   [TOK_RBRACE] = "RBRACE",
    [TOK_ASSIGN] = "ASSIGN",   [TOK_COLON] = "COLON",     [TOK_ADD] = "ADD",         [TOK_SUB] = "SUB",
};

const char *hcl_tok_name(enum hcl_tok_type t)
{
    return tok_names[t];
}

void hcl_scan_init(struct hcl_scan *s, struct cs_slice text, bool json)
{
    if (text.data == NULL)
        text = cs_slice_str("");
    *s = (struct hcl_scan){.src = text.data, .p = text.data, .end = text.data + text.len, .json = json};
    s->pos = s->prev = (struct hcl_pos){.line = 1, .column = 0};
}

struct hcl_pos hcl_here(const struct hcl_scan *s)
{
    if (s->pos.column > 0)
        return s->pos;
    if (s->last_line_len > 0)
        return (struct hcl_pos){.line = s->pos.line - 1, .column = s->last_line_len};
    return (struct hcl_pos){.line = 1, .column = 1};
}

void hcl_scan_fault(struct hcl_scan *s, const char *msg)
{
    struct hcl_pos at = hcl_here(s);
    s->failed = true;
    (void)cs_fail(&s->err, CS_INVALID, "At %u:%u: %s", at.line, at.column, msg);
}

/* Decodes one character of UTF-8 (RFC 3629) at p; 0xFFFD with length 1 when it is none. */
static uint32_t decode(const uint8_t *p, const uint8_t *end, uint32_t *len)
{
    uint32_t c = p[0];
    *len = 1;
    if (c < 0x80)
        return c;
    uint32_t n = c >= 0xF0 && c <= 0xF4 ? 4 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xC2 && c < 0xE0 ? 2 : 0;
    if (n == 0 || (size_t)(end - p) < n)
        return 0xFFFD;
    uint32_t r = c & (0x7Fu >> n);
    for (uint32_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0xFFFD;
        r = r << 6 | (p[i] & 0x3F);
    }
    if ((n == 3 && (r < 0x800 || (r >= 0xD800 && r <= 0xDFFF))) || (n == 4 && (r < 0x10000 || r > 0x10FFFF)))
        return 0xFFFD;
    *len = n;
    return r;
}

uint32_t hcl_next(struct hcl_scan *s)
{
    if (s->p == s->end) {
        s->pos.column++; /* each read at the end moves on: seen in positions of messages */
        s->last_len = 0;
        return HCL_EOF;
    }
    uint32_t len;
    uint32_t c = decode(s->p, s->end, &len);
    s->prev = s->pos;
    s->pos.column++;
    s->last_len = len;
    s->p += len;
    if (c == 0xFFFD && len == 1) {
        hcl_scan_fault(s, "illegal UTF-8 encoding");
        return c;
    }
    if (c == '\n') {
        s->last_line_len = s->pos.column;
        s->pos.line++;
        s->pos.column = 0;
    }
    if (c == 0 && !s->json)
        hcl_scan_fault(s, "unexpected null character (0x00)");
    if (c == 0xE123 && !s->json) {
        hcl_scan_fault(s, "unicode code point U+E123 reserved for internal use");
        return 0xFFFD;
    }
    return c;
}

uint32_t hcl_peek(const struct hcl_scan *s)
{
    uint32_t len;
    return s->p == s->end ? HCL_EOF : decode(s->p, s->end, &len);
}

void hcl_unread(struct hcl_scan *s)
{
    s->p -= s->last_len;
    s->last_len = 0;
    s->pos = s->prev;
}

/* Non-ASCII blocks that hold no letters. HCL asks Unicode; keys and labels that anybody reads are
 * ASCII, so it is enough that blanks, marks and symbols met in practice are refused. */
static bool is_symbol(uint32_t c)
{
    static const struct {
        uint32_t from, to;
    } blocks[] = {
        {0x80, 0xA9},     {0xAB, 0xB4},       {0xB6, 0xB9},        {0xBB, 0xBF},     {0xD7, 0xD7},
        {0xF7, 0xF7},     {0x300, 0x36F},     {0x2000, 0x2070},    {0x20A0, 0x20FF}, {0x2190, 0x2BFF},
        {0x3000, 0x3004}, {0x3008, 0x3020},   {0xE000, 0xF8FF},    {0xFE00, 0xFE6F}, {0xFEFF, 0xFEFF},
        {0xFFE0, 0xFFFF}, {0x1F000, 0x1FAFF}, {0x32400, 0x10FFFF},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        if (c >= blocks[i].from && c <= blocks[i].to)
            return true;
    return false;
}

bool hcl_is_letter(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= 0x80 && !is_symbol(c));
}

bool hcl_is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

bool hcl_is_space(uint32_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static uint32_t digit_value(uint32_t c)
{
    if (hcl_is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 16;
}

/* `want` digits of a base, the first one already read as c. */
static void scan_digits(struct hcl_scan *s, uint32_t c, uint32_t base, unsigned want)
{
    unsigned left = want;
    while (left > 0 && digit_value(c) < base) {
        c = hcl_next(s);
        if (c == HCL_EOF && !s->json)
            break;
        left--;
    }
    if (left > 0)
        hcl_scan_fault(s, "illegal char escape");
    if ((left != want || s->json) && s->last_len > 0 && c != HCL_EOF)
        hcl_unread(s);
}

void hcl_scan_escape(struct hcl_scan *s)
{
    uint32_t c = hcl_next(s);
    switch (c) {
    case 'a':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
    case 'v':
    case '\\':
    case '"':
        return;
    case 'x':
        scan_digits(s, hcl_next(s), 16, 2);
        return;
    case 'u':
        scan_digits(s, hcl_next(s), 16, 4);
        return;
    case 'U':
        scan_digits(s, hcl_next(s), 16, 8);
        return;
    default:
        if (c >= '0' && c <= '7')
            scan_digits(s, c, 8, 3);
        else
            hcl_scan_fault(s, "illegal char escape");
    }
}

uint32_t hcl_scan_mantissa(struct hcl_scan *s, uint32_t c)
{
    bool any = false;
    while (hcl_is_digit(c)) {
        c = hcl_next(s);
        any = true;
    }
    if (any && c != HCL_EOF)
        hcl_unread(s);
    return c;
}

uint32_t hcl_scan_fraction(struct hcl_scan *s, uint32_t c)
{
    return c == '.' ? hcl_scan_mantissa(s, hcl_peek(s)) : c;
}

uint32_t hcl_scan_exponent(struct hcl_scan *s, uint32_t c)
{
    if (c != 'e' && c != 'E')
        return c;
    c = hcl_next(s);
    if (c == '-' || c == '+')
        c = hcl_next(s);
    return hcl_scan_mantissa(s, c);
}

static void scan_comment(struct hcl_scan *s, uint32_t c)
{
    if (c == '#' || hcl_peek(s) != '*') {
        if (c == '/' && hcl_peek(s) != '/') {
            hcl_scan_fault(s, "expected '/' for comment");
            return;
        }
        do
            c = hcl_next(s);
        while (c != '\n' && c != HCL_EOF);
        if (c != HCL_EOF)
            hcl_unread(s);
        return;
    }
    (void)hcl_next(s);
    c = hcl_next(s);
    for (;;) {
        if (c == HCL_EOF) {
            hcl_scan_fault(s, "comment not terminated");
            return;
        }
        uint32_t before = c;
        c = hcl_next(s);
        if (before == '*' && c == '/')
            return;
    }
}

static enum hcl_tok_type scan_float_tail(struct hcl_scan *s, uint32_t c)
{
    c = hcl_scan_fraction(s, c);
    if (c == 'e' || c == 'E')
        (void)hcl_scan_exponent(s, hcl_next(s));
    return TOK_FLOAT;
}

static void scan_hex(struct hcl_scan *s)
{
    bool any = false;
    uint32_t c = hcl_next(s);
    while (digit_value(c) < 16) {
        any = true;
        c = hcl_next(s);
    }
    if (!any)
        hcl_scan_fault(s, "illegal hexadecimal number");
    if (c != HCL_EOF)
        hcl_unread(s);
}

static enum hcl_tok_type scan_number(struct hcl_scan *s, uint32_t c)
{
    bool octal = c == '0', bad_octal = false;
    if (octal) {
        c = hcl_next(s);
        if (c == 'x' || c == 'X') {
            scan_hex(s);
            return TOK_NUMBER;
        }
        /* The digit right after the 0 is not looked at: `08` fails later, as a number. */
        while (hcl_is_digit(c)) {
            c = hcl_next(s);
            bad_octal = bad_octal || c == '8' || c == '9';
        }
    } else {
        (void)hcl_scan_mantissa(s, c);
        c = hcl_next(s);
    }
    if (c == 'e' || c == 'E') {
        (void)hcl_scan_exponent(s, c);
        return TOK_FLOAT;
    }
    if (c == '.')
        return scan_float_tail(s, c);
    if (bad_octal)
        hcl_scan_fault(s, "illegal octal number");
    if (c != HCL_EOF)
        hcl_unread(s);
    return TOK_NUMBER;
}

static void scan_string(struct hcl_scan *s)
{
    unsigned braces = 0;
    for (;;) {
        uint32_t c = hcl_next(s);
        if ((c == '\n' && braces == 0) || c == HCL_EOF) {
            hcl_scan_fault(s, "literal not terminated");
            return;
        }
        if (c == '"' && braces == 0)
            return;
        /* Inside of ${ } quotes and line ends do not count. */
        if (braces == 0 && c == '$' && hcl_peek(s) == '{') {
            braces++;
            (void)hcl_next(s);
        } else if (braces > 0 && c == '{') {
            braces++;
        }
        if (braces > 0 && c == '}')
            braces--;
        if (c == '\\')
            hcl_scan_escape(s);
    }
}

/* True when the line [from, to) is the anchor, with white space before and \r after it allowed. */
static bool is_anchor_line(const uint8_t *from, const uint8_t *to, struct cs_slice anchor)
{
    while (from < to && (*from == ' ' || (*from >= '\t' && *from <= '\r')))
        from++;
    if ((size_t)(to - from) < anchor.len || memcmp(from, anchor.data, anchor.len) != 0)
        return false;
    for (from += anchor.len; from < to; from++)
        if (*from != '\r')
            return false;
    return true;
}

static void scan_heredoc(struct hcl_scan *s)
{
    if (hcl_next(s) != '<') {
        hcl_scan_fault(s, "heredoc expected second '<', didn't see it");
        return;
    }
    const uint8_t *begin = s->p;
    uint32_t c = hcl_next(s);
    if (c == '-')
        c = hcl_next(s);
    while (hcl_is_letter(c) || hcl_is_digit(c))
        c = hcl_next(s);
    if (c == HCL_EOF) {
        hcl_scan_fault(s, "heredoc not terminated");
        return;
    }
    if (c != '\n') {
        hcl_scan_fault(s, "invalid characters in heredoc anchor");
        return;
    }
    struct cs_slice mark = cs_slice_of(begin, (size_t)(s->p - 1 - begin));
    bool dash = mark.len > 0 && mark.data[0] == '-';
    struct cs_slice anchor = dash ? cs_slice_of(mark.data + 1, mark.len - 1) : mark;
    if (anchor.len == 0) {
        hcl_scan_fault(s, "zero-length heredoc anchor");
        return;
    }
    for (const uint8_t *line = s->p;;) {
        c = hcl_next(s);
        if (c == '\n') {
            /* The `-` counts here, so an unindented anchor never ends <<-X: HCL does the same. */
            if ((size_t)(s->p - 1 - line) >= mark.len && is_anchor_line(line, s->p - 1, anchor))
                return;
            line = s->p;
        }
        if (c == HCL_EOF) {
            hcl_scan_fault(s, "heredoc not terminated");
            return;
        }
    }
}

static enum hcl_tok_type scan_word(struct hcl_scan *s, const uint8_t *begin)
{
    uint32_t c;
    do
        c = hcl_next(s);
    while (hcl_is_letter(c) || hcl_is_digit(c) || c == '-' || c == '.');
    if (c != HCL_EOF)
        hcl_unread(s);
    struct cs_slice word = cs_slice_of(begin, (size_t)(s->p - begin));
    return cs_slice_is(word, "true") || cs_slice_is(word, "false") ? TOK_BOOL : TOK_IDENT;
}

static enum hcl_tok_type scan_sign(struct hcl_scan *s, uint32_t c)
{
    switch (c) {
    case HCL_EOF:
        return TOK_EOF;
    case '[':
        return TOK_LBRACK;
    case ']':
        return TOK_RBRACK;
    case '{':
        return TOK_LBRACE;
    case '}':
        return TOK_RBRACE;
    case ',':
        return TOK_COMMA;
    case '=':
        return TOK_ASSIGN;
    case '+':
        return TOK_ADD;
    case '-':
        return hcl_is_digit(hcl_peek(s)) ? scan_number(s, hcl_next(s)) : TOK_SUB;
    case '.':
        if (!hcl_is_digit(hcl_peek(s)))
            return TOK_PERIOD;
        (void)hcl_scan_exponent(s, hcl_scan_mantissa(s, hcl_peek(s)));
        return TOK_FLOAT;
    default:
        hcl_scan_fault(s, "illegal char");
        return TOK_ILLEGAL;
    }
}

struct hcl_tok hcl_scan_token(struct hcl_scan *s)
{
    uint32_t c;
    do
        c = hcl_next(s);
    while (hcl_is_space(c));
    struct hcl_tok t = {.pos = hcl_here(s)};
    const uint8_t *begin = s->p - s->last_len;
    if (hcl_is_letter(c)) {
        t.type = scan_word(s, begin);
    } else if (hcl_is_digit(c)) {
        t.type = scan_number(s, c);
    } else if (c == '"') {
        t.type = TOK_STRING;
        scan_string(s);
    } else if (c == '#' || c == '/') {
        t.type = TOK_COMMENT;
        scan_comment(s, c);
    } else if (c == '<') {
        t.type = TOK_HEREDOC;
        scan_heredoc(s);
    } else {
        t.type = scan_sign(s, c);
    }
    t.raw = cs_slice_of(begin, (size_t)(s->p - begin));
    return t;
}
