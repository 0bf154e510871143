/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of hcl: characters with positions, tokens, and the building of trees. The two readers (HCL
 * and JSON) share it; nobody else includes it.
 */
#ifndef CS_CONFIG_HCL_SCAN_H
#define CS_CONFIG_HCL_SCAN_H

#include "config/hcl.h"

enum hcl_tok_type {
    TOK_ILLEGAL,
    TOK_EOF,
    TOK_COMMENT,
    TOK_IDENT,
    TOK_NUMBER,
    TOK_FLOAT,
    TOK_BOOL,
    TOK_STRING,
    TOK_NULL,
    TOK_HEREDOC,
    TOK_LBRACK,
    TOK_LBRACE,
    TOK_COMMA,
    TOK_PERIOD,
    TOK_RBRACK,
    TOK_RBRACE,
    TOK_ASSIGN,
    TOK_COLON,
    TOK_ADD,
    TOK_SUB,
};
/* As HCL prints them: "LBRACE". */
const char *hcl_tok_name(enum hcl_tok_type t);

struct hcl_tok {
    enum hcl_tok_type type;
    struct hcl_pos pos;
    struct cs_slice raw;
};

/* A cursor over characters. Never reads past `end`. `err` keeps the last fault of the characters
 * themselves: it wins over any fault of the grammar, as in HCL's reader. */
struct hcl_scan {
    const uint8_t *src, *p, *end;
    struct hcl_pos pos, prev; /* column 0 right after a line end */
    uint32_t last_len;        /* bytes of the last character; 0 at the end */
    uint32_t last_line_len;
    bool json;
    bool failed;
    struct cs_err err;
};
#define HCL_EOF 0

void hcl_scan_init(struct hcl_scan *s, struct cs_slice text, bool json);
/* Next character; HCL_EOF at the end and for a NUL byte (a fault in HCL). */
uint32_t hcl_next(struct hcl_scan *s);
uint32_t hcl_peek(const struct hcl_scan *s);
/* Takes back the last hcl_next, which must not have hit the end. */
void hcl_unread(struct hcl_scan *s);
/* Position of the last character read. */
struct hcl_pos hcl_here(const struct hcl_scan *s);
void hcl_scan_fault(struct hcl_scan *s, const char *msg);

bool hcl_is_letter(uint32_t c);
bool hcl_is_digit(uint32_t c); /* 0-9 only */
bool hcl_is_space(uint32_t c);
/* The rest of an escape after its backslash, of a number's digits, of an identifier: shared. */
void hcl_scan_escape(struct hcl_scan *s);
uint32_t hcl_scan_mantissa(struct hcl_scan *s, uint32_t c);
uint32_t hcl_scan_fraction(struct hcl_scan *s, uint32_t c);
uint32_t hcl_scan_exponent(struct hcl_scan *s, uint32_t c);

/* Next token of HCL, comments included. */
struct hcl_tok hcl_scan_token(struct hcl_scan *s);

/* --- tree building --- */
struct hcl_build {
    struct cs_arena *a;
    struct cs_err *e;
    const bool *scan_failed; /* then values are not looked at any more: the scanner's fault is reported */
    size_t nodes;            /* made so far */
    unsigned depth;
};

/* A growing list of pointers in the arena. */
struct hcl_list {
    const void **at;
    size_t len, cap;
};
CS_CHECKED cs_code hcl_list_add(struct hcl_build *b, struct hcl_list *l, const void *p);
CS_CHECKED cs_code hcl_build_count(struct hcl_build *b, struct hcl_pos pos);
CS_CHECKED cs_code hcl_build_enter(struct hcl_build *b, struct hcl_pos pos);
CS_CHECKED cs_code hcl_build_literal(struct hcl_build *b, const struct hcl_tok *t, bool json,
                                     const struct hcl_node **out);
CS_CHECKED cs_code hcl_build_list(struct hcl_build *b, struct hcl_pos pos, const struct hcl_list *l,
                                  const struct hcl_node **out);
CS_CHECKED cs_code hcl_build_object(struct hcl_build *b, struct hcl_pos pos, const struct hcl_list *items,
                                    const struct hcl_node **out);
CS_CHECKED cs_code hcl_build_key(struct hcl_build *b, const struct hcl_tok *t, bool json,
                                 struct hcl_key *out);
/* `At L:C: text`. */
CS_PRINTF(4, 5)
CS_CHECKED cs_code hcl_fail(struct cs_err *e, cs_code code, struct hcl_pos pos, const char *fmt, ...);

/* Value of a literal token: quotes and escapes undone, here-documents unindented. */
CS_CHECKED cs_code hcl_token_value(const struct hcl_tok *t, bool json, struct cs_arena *a, const char **out,
                                   struct cs_err *e);

#endif
