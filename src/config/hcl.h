/* SPDX-License-Identifier: Apache-2.0
 *
 * HCL 1 and its JSON form, read into a tree with positions.
 *
 * The language is HashiCorp's HCL version 1 as SPIRE reads it: `#`, `//` and comments between slash
 * and star, here-documents (`<<X`, `<<-X`), nested and labelled blocks, lists, the escapes of
 * double-quoted strings, decimal, octal, hexadecimal and floating-point numbers, bare true and
 * false. A text whose first byte after white space is `{` is JSON in the dialect of HCL's own
 * reader, which is laxer than RFC 8259 (trailing commas, repeated keys, missing closing braces).
 */
#ifndef CS_CONFIG_HCL_H
#define CS_CONFIG_HCL_H

#include "base/buf.h"
#include "base/mem.h"

#define HCL_MAX_SIZE (1024 * 1024) /* bytes of a text */
#define HCL_MAX_DEPTH 64           /* nested blocks and lists */
#define HCL_MAX_NODES 65536        /* items and values of a text */

/* Line and column count from 1, columns in characters. line 0: not known. */
struct hcl_pos {
    uint32_t line, column;
};

enum hcl_kind { HCL_STRING, HCL_HEREDOC, HCL_NUMBER, HCL_FLOAT, HCL_BOOL, HCL_LIST, HCL_OBJECT };

struct hcl_item;

/* A run of items: a block's content, or the whole text. */
struct hcl_items {
    const struct hcl_item *const *at;
    size_t len;
};

struct hcl_node {
    enum hcl_kind kind;
    struct hcl_pos pos;
    struct cs_slice raw;                /* literals: the source text, quotes and all (empty for null) */
    const char *text;                   /* literals: the value, never NULL; no NUL byte inside */
    const struct hcl_node *const *list; /* HCL_LIST */
    size_t list_len;
    struct hcl_items items; /* HCL_OBJECT */
};

/* One word before a value or block. */
struct hcl_key {
    struct hcl_pos pos;
    const char *text; /* value, without quotes */
    struct cs_slice raw;
    bool named; /* a bare word, or a JSON key: counts when unknown keys are looked for */
};

/* `a = value`, `a { }`, `a "b" { }`; in JSON nested objects may have been joined into labels, as
 * HCL's reader does. */
struct hcl_item {
    const struct hcl_key *keys;
    size_t key_count;
    bool assigned; /* with `=` or, in JSON, `:` */
    const struct hcl_node *value;
};

/* Reads the whole of `text` (any bytes, not NUL-terminated). Everything in *out lives in `a`, the
 * text included. CS_INVALID with SPIRE's text, `At LINE:COLUMN: reason`; CS_EXHAUSTED past a limit;
 * CS_INTERNAL when memory is out. Any thread. */
CS_CHECKED cs_code hcl_parse(struct cs_slice text, struct cs_arena *a, struct hcl_items *out,
                             struct cs_err *e);

/* The same text read as HCL or as JSON whatever it begins with (for tests and fuzzing). */
CS_CHECKED cs_code hcl_parse_hcl(struct cs_slice text, struct cs_arena *a, struct hcl_items *out,
                                 struct cs_err *e);
CS_CHECKED cs_code hcl_parse_json(struct cs_slice text, struct cs_arena *a, struct hcl_items *out,
                                  struct cs_err *e);

/* Prints items as HCL text that hcl_parse reads back into an equal tree: what a plugin is given as
 * its configuration. Comments are not kept. */
void hcl_print(struct cs_buf *out, struct hcl_items items);

/* Key compared as HCL does: letter case of ASCII does not matter. */
bool hcl_key_is(const struct hcl_key *key, const char *name);

#endif
