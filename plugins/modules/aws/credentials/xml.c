/* SPDX-License-Identifier: Apache-2.0
 *
 * As much of XML 1.0 as answers of AWS's query protocol have: elements, attributes, text, entities.
 */
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

struct xml {
    struct cs_rd at;
    struct cs_slice open[AWS_XML_DEPTH]; /* names of the elements around */
    size_t depth;
    struct aws_xml_text *want; /* the element whose text is taken; NULL: none */
    struct cs_buf text;
};

static cs_code broken(struct cs_err *e, const char *what)
{
    return cs_fail(e, CS_INVALID, "the answer is no XML that can be read: %s", what);
}

static bool begins(const struct xml *x, const char *with)
{
    const size_t n = strlen(with);
    return cs_rd_left(&x->at) >= n && memcmp(x->at.p, with, n) == 0;
}

/* Past the next `end`; *before (may be NULL) is what stands before it. */
static bool skip_to(struct xml *x, const char *end, struct cs_slice *before)
{
    const uint8_t *found = memmem(x->at.p, cs_rd_left(&x->at), end, strlen(end));
    if (found == NULL)
        return false;
    if (before != NULL)
        *before = cs_slice_of(x->at.p, (size_t)(found - x->at.p));
    x->at.p = found + strlen(end);
    return true;
}

/* --- Text --- */

static void add_rune(struct cs_buf *b, uint32_t c)
{
    if (c < 0x80) {
        cs_buf_add_byte(b, (uint8_t)c);
    } else if (c < 0x800) {
        cs_buf_add_byte(b, (uint8_t)(0xc0 | c >> 6));
        cs_buf_add_byte(b, (uint8_t)(0x80 | (c & 0x3f)));
    } else {
        if (c < 0x10000) {
            cs_buf_add_byte(b, (uint8_t)(0xe0 | c >> 12));
        } else {
            cs_buf_add_byte(b, (uint8_t)(0xf0 | c >> 18));
            cs_buf_add_byte(b, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        }
        cs_buf_add_byte(b, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        cs_buf_add_byte(b, (uint8_t)(0x80 | (c & 0x3f)));
    }
}

static int digit_of(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : 99;
}

/* "#10" or "#xA" (XML 1.0, 4.1); false: no character that a text may have. */
static bool add_numbered(struct cs_buf *b, struct cs_slice s)
{
    const bool hex = s.len > 1 && s.data[1] == 'x';
    const int base = hex ? 16 : 10;
    size_t i = hex ? 2 : 1;
    uint32_t c = 0;
    if (i == s.len || s.len > 9)
        return false;
    for (; i < s.len; i++) {
        const int d = digit_of(s.data[i]);
        if (d >= base)
            return false;
        c = c * (uint32_t)base + (uint32_t)d;
    }
    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return false;
    add_rune(b, c);
    return true;
}

static bool add_entity(struct cs_buf *b, struct cs_slice name)
{
    static const struct {
        const char *name;
        char c;
    } known[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    if (name.len > 0 && name.data[0] == '#')
        return add_numbered(b, name);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (cs_slice_is(name, known[i].name)) {
            cs_buf_add_byte(b, (uint8_t)known[i].c);
            return true;
        }
    return false;
}

static cs_code add_text(struct xml *x, struct cs_slice s, bool resolve, struct cs_err *e)
{
    if (x->want == NULL)
        return CS_OK;
    struct xml in = {.at = cs_rd_of(s)};
    if (s.len > AWS_XML_TEXT_MAX - x->text.len)
        return cs_fail(e, CS_EXHAUSTED, "<%s> of the answer has more than %zu bytes", x->want->name,
                       AWS_XML_TEXT_MAX);
    while (cs_rd_left(&in.at) > 0) {
        struct cs_slice name;
        const uint8_t c = *in.at.p++;
        if (c == '\0')
            return broken(e, "a NUL byte");
        if (c != '&' || !resolve)
            cs_buf_add_byte(&x->text, c);
        else if (!skip_to(&in, ";", &name) || !add_entity(&x->text, name))
            return broken(e, "an entity that is not known");
    }
    return CS_OK;
}

/* --- Elements --- */

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The name, and to the end of the tag over its attributes. */
static bool read_tag(struct xml *x, struct cs_slice *name, bool *empty)
{
    const uint8_t *from = x->at.p;
    while (cs_rd_left(&x->at) > 0 && !is_space(*x->at.p) && memchr("/><='\"&", *x->at.p, 7) == NULL)
        x->at.p++;
    *name = cs_slice_of(from, (size_t)(x->at.p - from));
    uint8_t quote = 0, last = 0;
    while (cs_rd_left(&x->at) > 0) {
        const uint8_t c = *x->at.p++;
        if (quote != 0) {
            quote = c == quote ? 0 : quote;
            continue;
        }
        if (c == '>') {
            *empty = last == '/';
            return name->len > 0;
        }
        if (c == '<')
            return false;
        quote = c == '"' || c == '\'' ? c : 0;
        last = c;
    }
    return false;
}

static cs_code end_element(struct xml *x, struct cs_slice name, struct cs_err *e)
{
    if (x->depth == 0 || !cs_slice_eq(x->open[x->depth - 1], name))
        return broken(e, "an end without a beginning");
    x->depth--;
    if (x->want == NULL)
        return CS_OK;
    char *text = aws_copy(cs_buf_slice(&x->text));
    x->want->text = text;
    x->want = NULL;
    cs_wipe(x->text.data, x->text.len);
    cs_buf_reset(&x->text);
    return text != NULL ? CS_OK : cs_nomem(e);
}

static cs_code begin_element(struct xml *x, struct aws_xml_text *want, size_t count, struct cs_err *e)
{
    struct cs_slice name;
    bool empty = false;
    if (!read_tag(x, &name, &empty))
        return broken(e, "a tag without an end");
    if (x->want != NULL)
        return broken(e, "an element where a text should be");
    if (x->depth == AWS_XML_DEPTH)
        return cs_fail(e, CS_EXHAUSTED, "the answer has more than %d elements within each other",
                       AWS_XML_DEPTH);
    x->open[x->depth++] = name;
    for (size_t i = 0; i < count; i++)
        if (want[i].text == NULL && cs_slice_is(name, want[i].name))
            x->want = &want[i];
    return empty ? end_element(x, name, e) : CS_OK;
}

/* After a '<'. */
static cs_code read_markup(struct xml *x, struct aws_xml_text *want, size_t count, struct cs_err *e)
{
    struct cs_slice inside;
    bool empty;
    if (begins(x, "?"))
        return skip_to(x, "?>", NULL) ? CS_OK : broken(e, "an instruction without an end");
    if (begins(x, "!--"))
        return skip_to(x, "-->", NULL) ? CS_OK : broken(e, "a comment without an end");
    if (begins(x, "![CDATA[")) {
        x->at.p += 8;
        return skip_to(x, "]]>", &inside) ? add_text(x, inside, false, e) : broken(e, "text without an end");
    }
    if (begins(x, "!"))
        return broken(e, "a document type");
    if (!begins(x, "/"))
        return begin_element(x, want, count, e);
    x->at.p++;
    if (!read_tag(x, &inside, &empty))
        return broken(e, "a tag without an end");
    return end_element(x, inside, e);
}

static cs_code read_all(struct xml *x, struct aws_xml_text *want, size_t count, struct cs_err *e)
{
    bool any = false;
    while (cs_rd_left(&x->at) > 0) {
        const uint8_t *tag = memchr(x->at.p, '<', cs_rd_left(&x->at));
        const size_t n = tag != NULL ? (size_t)(tag - x->at.p) : cs_rd_left(&x->at);
        CS_TRY(add_text(x, cs_slice_of(x->at.p, n), true, e));
        x->at.p += n;
        if (tag == NULL)
            break;
        x->at.p++;
        CS_TRY(read_markup(x, want, count, e));
        any |= x->depth > 0;
    }
    return any && x->depth == 0 ? CS_OK : broken(e, "it ends too early");
}

cs_code aws_xml_texts(struct cs_slice xml, struct aws_xml_text *want, size_t count, struct cs_err *e)
{
    struct xml x = {.at = cs_rd_of(xml)};
    cs_code rc = cs_buf_reserve(&x.text, AWS_XML_TEXT_MAX) ? read_all(&x, want, count, e) : cs_nomem(e);
    cs_buf_wipe(&x.text);
    if (rc != CS_OK)
        aws_xml_free(want, count);
    return rc;
}

void aws_xml_free(struct aws_xml_text *want, size_t count)
{
    for (size_t i = 0; i < count; i++)
        aws_wipe_text(&want[i].text);
}
