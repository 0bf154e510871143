/* SPDX-License-Identifier: Apache-2.0
 *
 * Trees into structs by option table. The rules are those of HCL's decoder: an option takes each
 * item whose first key is its name, what is left of the keys being labels; items with labels come
 * first and together, then each plain one.
 */
#include "config/option.h"
#include "config/hcl_scan.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

struct decoder {
    struct cs_arena *a;
    struct cs_err *e;
};

/* What an option is filled from. HCL's decoder tells these apart in its messages too. */
struct source {
    enum { FROM_NODE, FROM_ITEMS, FROM_ITEM } kind;
    const struct hcl_node *node;
    struct hcl_items items;
    const struct hcl_item *item;
    struct hcl_pos pos; /* of an empty run of items */
};

static struct source from_node(const struct hcl_node *n)
{
    return (struct source){.kind = FROM_NODE, .node = n};
}

static struct source from_items(struct hcl_items items)
{
    return (struct source){.kind = FROM_ITEMS, .items = items};
}

static struct hcl_pos item_pos(const struct hcl_item *it)
{
    return it->key_count > 0 ? it->keys[0].pos : it->value->pos;
}

static struct hcl_pos source_pos(const struct source *s)
{
    switch (s->kind) {
    case FROM_NODE:
        return s->node->pos;
    case FROM_ITEM:
        return item_pos(s->item);
    case FROM_ITEMS:
        return s->items.len > 0 ? item_pos(s->items.at[0]) : s->pos;
    }
    return (struct hcl_pos){0};
}

/* HCL's name of what was met; operators' tools and habits know these words. */
static const char *source_type(const struct source *s)
{
    if (s->kind == FROM_ITEMS)
        return "*ast.ObjectList";
    if (s->kind == FROM_ITEM)
        return "*ast.ObjectItem";
    return s->node->kind == HCL_LIST     ? "*ast.ListType"
           : s->node->kind == HCL_OBJECT ? "*ast.ObjectType"
                                         : "*ast.LiteralType";
}

static const struct hcl_node *literal_of(const struct source *s)
{
    return s->kind == FROM_NODE && s->node->kind != HCL_LIST && s->node->kind != HCL_OBJECT ? s->node : NULL;
}

#define DECODE_FAIL(d, s, ...) hcl_fail((d)->e, CS_INVALID, source_pos(s), __VA_ARGS__)

static cs_code decode_string(struct decoder *d, const char *path, const struct source *s, const char **out)
{
    const struct hcl_node *n = literal_of(s);
    if (n == NULL || n->kind == HCL_BOOL || n->kind == HCL_FLOAT)
        return DECODE_FAIL(d, s, "%s: unknown type for string %s", path, source_type(s));
    *out = n->text;
    return CS_OK;
}

static cs_code decode_bool(struct decoder *d, const char *path, const struct source *s,
                           struct config_bool *out)
{
    const struct hcl_node *n = literal_of(s);
    if (n == NULL || n->kind != HCL_BOOL)
        return DECODE_FAIL(d, s, "%s: unknown type %s", path, source_type(s));
    *out = (struct config_bool){.value = n->text[0] == 't', .given = true};
    return CS_OK;
}

/* Digits of a base with single `_` between them (or after a prefix) when the base came from one. */
static bool parse_digits(const char *p, unsigned base, bool underscores, uint64_t *out, bool *range)
{
    bool any = false, gap_allowed = underscores && base != 10;
    uint64_t v = 0;
    for (; *p != 0; p++) {
        if (*p == '_' && underscores && (any || gap_allowed) && p[1] != '_' && p[1] != 0) {
            gap_allowed = false;
            continue;
        }
        unsigned digit = *p >= '0' && *p <= '9'   ? (unsigned)(*p - '0')
                         : *p >= 'a' && *p <= 'z' ? (unsigned)(*p - 'a') + 10
                         : *p >= 'A' && *p <= 'Z' ? (unsigned)(*p - 'A') + 10
                                                  : 36;
        if (digit >= base)
            return false;
        any = true;
        if (v > (UINT64_MAX - digit) / base)
            *range = true;
        v = v * base + digit;
    }
    *out = v;
    return any;
}

/* Go's strconv.ParseInt with base 0: prefix decides the base. NULL: fine; else Go's reason. */
static const char *parse_int(const char *text, int64_t *out)
{
    const char *p = text;
    bool negative = *p == '-', range = false;
    if (*p == '-' || *p == '+')
        p++;
    unsigned base = 10;
    bool leading_zero = false;
    if (p[0] == '0' && p[1] != 0) {
        char c = (char)(p[1] | 0x20);
        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        leading_zero = c != 'x' && c != 'b' && c != 'o';
        p += leading_zero ? 1 : 2;
    }
    uint64_t v;
    bool gap_at_start = leading_zero && *p == '_';
    if (!parse_digits(gap_at_start ? p + 1 : p, base, true, &v, &range))
        return "invalid syntax";
    if (range || v > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return "value out of range";
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return NULL;
}

static cs_code decode_int(struct decoder *d, const char *path, const struct source *s, struct config_int *out)
{
    const struct hcl_node *n = literal_of(s);
    if (n == NULL || (n->kind != HCL_NUMBER && n->kind != HCL_STRING))
        return DECODE_FAIL(d, s, "%s: unknown type %s", path, source_type(s));
    int64_t v = 0;
    const char *why = parse_int(n->text, &v);
    if (why != NULL)
        return DECODE_FAIL(d, s, "%s: strconv.ParseInt: parsing \"%.64s\": %s", path, n->text, why);
    *out = (struct config_int){.value = v, .given = true};
    return CS_OK;
}

/* --- lists --- */

static cs_code grow(struct decoder *d, void *old, size_t len, size_t more, size_t size, void *out)
{
    uint8_t *at = cs_arena_zalloc(d->a, (len + more + 1) * size);
    if (at == NULL)
        return cs_nomem(d->e);
    if (len > 0)
        memcpy(at, old, len * size);
    *(void **)out = at;
    return CS_OK;
}

static size_t source_count(const struct source *s)
{
    if (s->kind == FROM_ITEMS)
        return s->items.len;
    return s->node->kind == HCL_LIST ? s->node->list_len : 1;
}

static cs_code check_list(struct decoder *d, const struct source *s)
{
    if (literal_of(s) != NULL || s->kind == FROM_ITEM)
        return DECODE_FAIL(d, s, "unknown slice type: %s", source_type(s));
    return CS_OK;
}

static struct source source_at(const struct source *s, size_t i)
{
    if (s->kind == FROM_ITEMS)
        return (struct source){.kind = FROM_ITEM, .item = s->items.at[i]};
    return from_node(s->node->kind == HCL_LIST ? s->node->list[i] : s->node);
}

static char *element_path(struct decoder *d, const char *path, size_t i)
{
    return cs_arena_printf(d->a, "%s[%zu]", path, i);
}

static cs_code decode_strings(struct decoder *d, const char *path, const struct source *s,
                              struct config_strings *out)
{
    CS_TRY(check_list(d, s));
    size_t n = source_count(s);
    const char **at = NULL;
    CS_TRY(grow(d, (void *)(uintptr_t)out->at, out->len, n, sizeof *at, &at));
    for (size_t i = 0; i < n; i++) {
        const char *name = element_path(d, path, i);
        struct source item = source_at(s, i);
        if (name == NULL)
            return cs_nomem(d->e);
        CS_TRY(decode_string(d, name, &item, &at[out->len + i]));
    }
    *out = (struct config_strings){.at = at, .len = out->len + n};
    return CS_OK;
}

/* --- blocks --- */

static cs_code decode_section(struct decoder *d, const struct config_section *sec, const char *path,
                              const struct source *s, void *out);

static cs_code decode_blocks(struct decoder *d, const struct config_section *sec, const char *path,
                             const struct source *s, struct config_blocks *out)
{
    CS_TRY(check_list(d, s));
    size_t n = source_count(s);
    void **at = NULL;
    CS_TRY(grow(d, (void *)(uintptr_t)out->at, out->len, n, sizeof *at, &at));
    for (size_t i = 0; i < n; i++) {
        const char *name = element_path(d, path, i);
        struct source item = source_at(s, i);
        void *one = cs_arena_zalloc(d->a, sec->size);
        if (name == NULL || one == NULL)
            return cs_nomem(d->e);
        CS_TRY(decode_section(d, sec, name, &item, one));
        at[out->len + i] = one;
    }
    *out = (struct config_blocks){.at = at, .len = out->len + n};
    return CS_OK;
}

/* The items that begin with `key` (in any letter case), that key taken off. */
static cs_code filter(struct decoder *d, struct hcl_items items, const char *key, struct hcl_items *labelled,
                      struct hcl_items *plain)
{
    *labelled = *plain = (struct hcl_items){0};
    size_t hits = 0;
    for (size_t i = 0; i < items.len; i++)
        hits += items.at[i]->key_count > 0 && hcl_key_is(&items.at[i]->keys[0], key);
    if (hits == 0)
        return CS_OK;
    const struct hcl_item **l = cs_arena_alloc(d->a, hits * sizeof *l),
                          **p = cs_arena_alloc(d->a, hits * sizeof *p);
    struct hcl_item *copy = cs_arena_alloc(d->a, hits * sizeof *copy);
    if (l == NULL || p == NULL || copy == NULL)
        return cs_nomem(d->e);
    for (size_t i = 0; i < items.len; i++) {
        const struct hcl_item *it = items.at[i];
        if (it->key_count == 0 || !hcl_key_is(&it->keys[0], key))
            continue;
        *copy = *it;
        copy->keys++;
        if (--copy->key_count > 0)
            l[labelled->len++] = copy;
        else
            p[plain->len++] = copy;
        copy++;
    }
    labelled->at = l;
    plain->at = p;
    return CS_OK;
}

static size_t map_find(const struct config_map *m, const char *label)
{
    size_t i = 0;
    while (i < m->len && strcmp(m->labels[i], label) != 0)
        i++;
    return i;
}

static cs_code decode_map_entry(struct decoder *d, const struct config_section *sec, const char *path,
                                struct hcl_items items, const struct hcl_item *it, struct config_map *out)
{
    const char *label = it->keys[0].text;
    size_t i = map_find(out, label);
    if (i == out->len) {
        void *one = cs_arena_zalloc(d->a, sec->size);
        if (one == NULL)
            return cs_nomem(d->e);
        ((const char **)(uintptr_t)out->labels)[i] = label;
        ((void **)(uintptr_t)out->at)[i] = one;
        out->len++;
    }
    const char *name = cs_arena_printf(d->a, "%s.%s", path, label);
    if (name == NULL)
        return cs_nomem(d->e);
    struct source s = from_node(it->value);
    if (it->key_count > 1) {
        struct hcl_items labelled, plain;
        CS_TRY(filter(d, items, label, &labelled, &plain));
        s = from_items(labelled);
    }
    return decode_section(d, sec, name, &s, out->at[i]);
}

static cs_code decode_map(struct decoder *d, const struct config_section *sec, const char *path,
                          const struct source *s, struct config_map *out)
{
    struct hcl_items items = s->items;
    if (s->kind == FROM_NODE && s->node->kind == HCL_OBJECT)
        items = s->node->items;
    else if (s->kind != FROM_ITEMS)
        return DECODE_FAIL(d, s, "%s: not an object type for map (%s)", path, source_type(s));
    const char **labels = NULL;
    void **at = NULL;
    CS_TRY(grow(d, (void *)(uintptr_t)out->labels, out->len, items.len, sizeof *labels, &labels));
    CS_TRY(grow(d, (void *)(uintptr_t)out->at, out->len, items.len, sizeof *at, &at));
    out->labels = labels;
    out->at = at;
    for (size_t i = 0; i < items.len; i++) {
        if (items.at[i]->key_count == 0)
            return DECODE_FAIL(d, s, "%s: map must have string keys", path);
        CS_TRY(decode_map_entry(d, sec, path, items, items.at[i], out));
    }
    return CS_OK;
}

/* HCL's decoder keeps the first tree it met: it reads a second one into that tree's own fields. */
static cs_code decode_tree(struct decoder *d, const char *path, const struct source *s,
                           struct config_tree *out)
{
    if (out->given)
        return s->kind == FROM_ITEMS
                   ? CS_OK
                   : DECODE_FAIL(d, s, "%s: not an object type for struct (%s)", path, source_type(s));
    *out = (struct config_tree){.given = true};
    if (s->kind == FROM_ITEMS)
        out->items = s->items;
    else
        out->literal = s->node;
    return CS_OK;
}

static cs_code decode_option(struct decoder *d, const struct config_option *o, const char *path,
                             const struct source *s, void *at)
{
    switch (o->type) {
    case CONFIG_STRING:
        return decode_string(d, path, s, at);
    case CONFIG_INT:
        return decode_int(d, path, s, at);
    case CONFIG_BOOL:
        return decode_bool(d, path, s, at);
    case CONFIG_STRINGS:
        return decode_strings(d, path, s, at);
    case CONFIG_BLOCK:
        return decode_section(d, o->section, path, s, at);
    case CONFIG_BLOCKS:
        return decode_blocks(d, o->section, path, s, at);
    case CONFIG_MAP:
        return decode_map(d, o->section, path, s, at);
    case CONFIG_TREE:
        return decode_tree(d, path, s, at);
    }
    return cs_fail(d->e, CS_INTERNAL, "%s: option of no known type", path);
}

static cs_code decode_named(struct decoder *d, const struct config_option *o, const char *path,
                            struct hcl_items items, void *out)
{
    struct hcl_items labelled, plain;
    CS_TRY(filter(d, items, o->name, &labelled, &plain));
    if (labelled.len == 0 && plain.len == 0)
        return CS_OK;
    const char *name = cs_arena_printf(d->a, "%s.%s", path, o->name);
    if (name == NULL)
        return cs_nomem(d->e);
    void *at = (uint8_t *)out + o->offset;
    if (labelled.len > 0) {
        struct source s = from_items(labelled);
        CS_TRY(decode_option(d, o, name, &s, at));
    }
    for (size_t i = 0; i < plain.len; i++) {
        const struct hcl_node *v = plain.at[i]->value;
        struct source s = v->kind == HCL_OBJECT ? from_items(v->items) : from_node(v);
        s.pos = v->pos;
        CS_TRY(decode_option(d, o, name, &s, at));
    }
    return CS_OK;
}

static bool option_exists(const struct config_section *sec, const char *name)
{
    for (size_t i = 0; i < sec->count; i++)
        if (sec->options[i].status != CONFIG_REMOVED && strcasecmp(sec->options[i].name, name) == 0)
            return true;
    return false;
}

bool config_strings_have(const struct config_strings *list, const char *text)
{
    for (size_t i = 0; i < list->len; i++)
        if (strcmp(list->at[i], text) == 0)
            return true;
    return false;
}

/* Labels count too, unless they are quoted or, after the first item, came from JSON joining: so
 * HCL's decoder has it. */
static cs_code collect_unknown(struct decoder *d, const struct config_section *sec, struct hcl_items items,
                               struct config_strings *out)
{
    size_t n = 0;
    for (size_t i = 0; i < items.len; i++)
        n += items.at[i]->key_count;
    struct config_strings found = {0};
    const char **at = NULL;
    CS_TRY(grow(d, NULL, 0, n, sizeof *at, &at));
    found.at = at;
    for (size_t i = 0; i < items.len; i++) {
        const struct hcl_item *it = items.at[i];
        for (size_t k = 0; k < it->key_count && !(i > 0 && it->key_count > 1); k++) {
            const char *name = it->keys[k].text;
            if (it->keys[k].named && !option_exists(sec, name) && !config_strings_have(&found, name))
                at[found.len++] = name;
        }
    }
    if (found.len > 0)
        *out = found;
    return CS_OK;
}

/* Options and unknown keys of one block. */
static cs_code decode_items(struct decoder *d, const struct config_section *sec, const char *path,
                            struct hcl_items items, void *out)
{
    if (sec->given != CONFIG_NO_OFFSET)
        *(bool *)((uint8_t *)out + sec->given) = true;
    for (size_t i = 0; i < sec->count; i++)
        if (sec->options[i].status != CONFIG_REMOVED)
            CS_TRY(decode_named(d, &sec->options[i], path, items, out));
    if (sec->unknown == CONFIG_NO_OFFSET)
        return CS_OK;
    return collect_unknown(d, sec, items, (struct config_strings *)(void *)((uint8_t *)out + sec->unknown));
}

static cs_code decode_section(struct decoder *d, const struct config_section *sec, const char *path,
                              const struct source *s, void *out)
{
    if (s->kind == FROM_ITEMS)
        return decode_items(d, sec, path, s->items, out);
    const struct hcl_node *n = s->kind == FROM_ITEM ? s->item->value : s->node;
    if (n->kind == HCL_OBJECT)
        return decode_items(d, sec, path, n->items, out);
    if (s->kind == FROM_ITEM && n->kind != HCL_LIST)
        return decode_items(d, sec, path, (struct hcl_items){.at = &s->item, .len = 1}, out);
    struct source bad = from_node(n);
    return DECODE_FAIL(d, &bad, "%s: not an object type for struct (%s)", path, source_type(&bad));
}

cs_code config_decode(const struct config_section *s, struct hcl_items items, const char *path,
                      struct cs_arena *a, void *out, struct cs_err *e)
{
    struct decoder d = {.a = a, .e = e};
    return decode_items(&d, s, path, items, out);
}

/* --- what nobody knows --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

cs_code config_refuse_unknown(const struct config_strings *unknown, struct cs_arena *a, struct cs_err *e)
{
    if (unknown->len == 0)
        return CS_OK;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    const char **names = cs_arena_memdup(a, unknown->at, unknown->len * sizeof *names);
    if (names == NULL)
        return cs_nomem(e);
    qsort(names, unknown->len, sizeof *names, by_name);
    for (size_t i = 0; i < unknown->len; i++)
        cs_buf_printf(&text, "%s%s", i > 0 ? "," : "", names[i]);
    return cs_fail(e, CS_INVALID, "unknown configurations detected: %.400s", cs_buf_cstr(&text));
}

/* --- what is not supported yet --- */

static bool asks_for_other(const struct config_option *o, const void *at, const char *fallback)
{
    switch (o->type) {
    case CONFIG_STRING: {
        const char *s = *(const char *const *)at;
        return s != NULL && *s != 0 && strcmp(s, fallback) != 0;
    }
    case CONFIG_INT: {
        const struct config_int *i = at;
        int64_t v = 0;
        return i->given && i->value != 0 && (parse_int(fallback, &v) != NULL || v != i->value);
    }
    case CONFIG_BOOL: {
        const struct config_bool *b = at;
        return b->given && b->value != (strcmp(fallback, "true") == 0);
    }
    case CONFIG_STRINGS:
        return ((const struct config_strings *)at)->len > 0;
    case CONFIG_BLOCKS:
        return ((const struct config_blocks *)at)->len > 0;
    case CONFIG_MAP:
        return ((const struct config_map *)at)->len > 0;
    case CONFIG_TREE:
        return ((const struct config_tree *)at)->given;
    case CONFIG_BLOCK:
        return o->section->given == CONFIG_NO_OFFSET ||
               *(const bool *)((const uint8_t *)at + o->section->given);
    }
    return true;
}

cs_code config_check_later(const struct config_section *s, const void *filled, const char *path,
                           struct cs_err *e)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct config_option *o = &s->options[i];
        const void *at = (const uint8_t *)filled + o->offset;
        char name[160];
        if (o->status == CONFIG_REMOVED || !asks_for_other(o, at, o->fallback == NULL ? "" : o->fallback))
            continue;
        (void)snprintf(name, sizeof name, "%s%s%s", path, *path == 0 ? "" : ".", o->name);
        if (o->status == CONFIG_LATER)
            return cs_fail(e, CS_UNIMPLEMENTED, "%s is not supported yet", name);
        if (o->type == CONFIG_BLOCK)
            CS_TRY(config_check_later(o->section, at, name, e));
    }
    return CS_OK;
}

bool config_in_use(const struct config_section *s, const void *filled)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct config_option *o = &s->options[i];
        const void *at = (const uint8_t *)filled + o->offset;
        if (o->status == CONFIG_REMOVED || !asks_for_other(o, at, ""))
            continue;
        if (o->type != CONFIG_BLOCK || o->section->given != CONFIG_NO_OFFSET || config_in_use(o->section, at))
            return true;
    }
    return s->unknown != CONFIG_NO_OFFSET &&
           ((const struct config_strings *)(const void *)((const uint8_t *)filled + s->unknown))->len > 0;
}

cs_code config_decode_map(const struct config_section *s, struct hcl_items items, const char *path,
                          struct cs_arena *a, struct config_map *out, struct cs_err *e)
{
    struct decoder d = {.a = a, .e = e};
    struct source src = from_items(items);
    return decode_map(&d, s, path, &src, out);
}
