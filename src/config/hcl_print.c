/* SPDX-License-Identifier: Apache-2.0
 *
 * Trees back to text.
 */
#include "base/text.h"
#include "config/hcl.h"

static bool printable_as_is(const char *text)
{
    struct cs_slice s = cs_slice_str(text);
    /* U+E123 is refused by HCL's scanner. */
    return cs_utf8_valid(s) && memmem(s.data, s.len, "\xEE\x84\xA3", 3) == NULL;
}

static void print_string(struct cs_buf *out, const char *text)
{
    bool raw = printable_as_is(text);
    cs_buf_add_byte(out, '"');
    for (const char *p = text; *p != 0; p++) {
        uint8_t c = (uint8_t)*p;
        if (c == '"' || c == '\\')
            cs_buf_printf(out, "\\%c", c);
        else if (c == '\n')
            cs_buf_add_str(out, "\\n");
        else if (c < 0x20 || c == 0x7F || (c >= 0x80 && !raw) || (c == '$' && p[1] == '{'))
            cs_buf_printf(out, "\\x%02x", c); /* `${` would begin an interpolation */
        else
            cs_buf_add_byte(out, c);
    }
    cs_buf_add_byte(out, '"');
}

static void print_indent(struct cs_buf *out, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        cs_buf_add_str(out, "  ");
}

static void print_items(struct cs_buf *out, struct hcl_items items, unsigned depth);

/* Recursion is as deep as the tree: HCL_MAX_DEPTH. */
static void print_node(struct cs_buf *out, const struct hcl_node *n, unsigned depth)
{
    switch (n->kind) {
    case HCL_STRING:
    case HCL_HEREDOC:
        print_string(out, n->text);
        return;
    case HCL_NUMBER:
    case HCL_FLOAT:
    case HCL_BOOL:
        cs_buf_add_str(out, n->text);
        return;
    case HCL_LIST:
        cs_buf_add_byte(out, '[');
        for (size_t i = 0; i < n->list_len; i++) {
            if (i > 0)
                cs_buf_add_str(out, ", ");
            print_node(out, n->list[i], depth);
        }
        cs_buf_add_byte(out, ']');
        return;
    case HCL_OBJECT:
        cs_buf_add_byte(out, '{');
        if (n->items.len > 0) {
            cs_buf_add_byte(out, '\n');
            print_items(out, n->items, depth + 1);
            print_indent(out, depth);
        }
        cs_buf_add_byte(out, '}');
        return;
    }
}

/* HCL's printer sets outermost items apart by an empty line, but for neighbours like `a {}`. It shows
 * in the line numbers of what plugins say about their data. */
static bool stand_together(const struct hcl_item *a, const struct hcl_item *b)
{
    return !a->assigned && !b->assigned && a->value->kind == HCL_OBJECT && a->value->items.len == 0 &&
           b->value->kind == HCL_OBJECT && b->value->items.len == 0 && a->key_count > 0 && b->key_count > 0 &&
           b->keys[0].pos.line == a->keys[0].pos.line + 1;
}

static void print_items(struct cs_buf *out, struct hcl_items items, unsigned depth)
{
    for (size_t i = 0; i < items.len; i++) {
        const struct hcl_item *it = items.at[i];
        if (depth == 0 && i > 0 && !stand_together(items.at[i - 1], it))
            cs_buf_add_byte(out, '\n');
        print_indent(out, depth);
        for (size_t k = 0; k < it->key_count; k++) {
            if (it->keys[k].raw.len > 0 && it->keys[k].raw.data[0] == '"')
                print_string(out, it->keys[k].text);
            else
                cs_buf_add_str(out, it->keys[k].text);
            cs_buf_add_byte(out, ' ');
        }
        if (it->assigned && (it->key_count == 1 || it->value->kind != HCL_OBJECT))
            cs_buf_add_str(out, "= ");
        print_node(out, it->value, depth);
        cs_buf_add_byte(out, '\n');
    }
}

void hcl_print(struct cs_buf *out, struct hcl_items items)
{
    print_items(out, items, 0);
}
