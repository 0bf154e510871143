/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/x509_name.h"

#include "base/text.h"
#include "crypto/der.h"

#include <stddef.h>
#include <stdlib.h>

#define MAX_VALUES 32 /* of one attribute type */

/* The attribute types 2.5.4.n, in the order in which names are written. Lists are struct x509_values, single
 * ones const char *, at `field` of struct x509_name. */
static const struct attribute {
    uint8_t n;
    bool list;
    const char *label; /* NULL: printed by number */
    size_t field;
} attributes[] = {
    {6, true, "C", offsetof(struct x509_name, country)},
    {10, true, "O", offsetof(struct x509_name, organization)},
    {11, true, "OU", offsetof(struct x509_name, organizational_unit)},
    {7, true, "L", offsetof(struct x509_name, locality)},
    {8, true, "ST", offsetof(struct x509_name, province)},
    {9, true, "STREET", offsetof(struct x509_name, street)},
    {17, true, "POSTALCODE", offsetof(struct x509_name, postal_code)},
    {3, false, "CN", offsetof(struct x509_name, common_name)},
    {5, false, "SERIALNUMBER", offsetof(struct x509_name, serial_number)},
    {45, false, NULL, offsetof(struct x509_name, unique_id)},
};
#define ATTRIBUTES (sizeof attributes / sizeof attributes[0])

static struct x509_values values_of(const struct x509_name *n, const struct attribute *a,
                                    const char *const **one)
{
    const char *base = (const char *)n + a->field;
    if (a->list)
        return *(const struct x509_values *)(const void *)base;
    *one = (const char *const *)(const void *)base;
    bool there = **one != NULL && ***one != '\0';
    return (struct x509_values){*one, there ? 1 : 0};
}

bool x509_name_empty(const struct x509_name *n)
{
    const char *const *one;
    for (size_t i = 0; i < ATTRIBUTES; i++)
        if (values_of(n, &attributes[i], &one).count > 0)
            return false;
    return n->extra_count == 0;
}

/* PrintableString of X.680 section 41.4 (Go allows '*' and '&' only when reading). */
static bool printable(struct cs_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  (c != 0 && strchr(" '()+,-./:=?", c) != NULL);
        if (!ok)
            return false;
    }
    return true;
}

static const struct attribute *attribute_of(struct cs_slice oid)
{
    for (size_t i = 0; i < ATTRIBUTES; i++)
        if (oid.len == 3 && oid.data[0] == 0x55 && oid.data[1] == 0x04 && oid.data[2] == attributes[i].n)
            return &attributes[i];
    return NULL;
}

static void write_attribute(struct cs_buf *out, struct cs_slice oid, const char *value)
{
    struct cs_slice text = cs_slice_str(value);
    size_t attr = der_begin(out, DER_SEQUENCE);
    der_put(out, DER_OID, oid);
    if (!cs_utf8_valid(text))
        out->failed = true;
    der_put(out, printable(text) ? DER_PRINTABLE_STRING : DER_UTF8_STRING, text);
    der_end(out, attr);
}

static int by_bytes(const void *a, const void *b)
{
    const struct cs_slice *x = a, *y = b;
    int d = memcmp(x->data, y->data, x->len < y->len ? x->len : y->len);
    return d != 0 ? d : (x->len > y->len) - (x->len < y->len);
}

/* The members of a SET OF are in the order of their bytes (X.690 section 11.6). */
static void write_sorted(struct cs_buf *out, struct cs_slice oid, struct x509_values v)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf all = {0};
    CS_CLEANUP(cs_freep) struct cs_slice *members = cs_calloc(v.count, sizeof *members);
    for (size_t i = 0; i < v.count; i++)
        write_attribute(&all, oid, v.at[i]);
    struct cs_rd r = cs_rd_of(cs_buf_slice(&all));
    size_t n = 0;
    while (members != NULL && n < v.count && der_read_whole(&r, DER_SEQUENCE, &members[n]))
        n++;
    if (!cs_buf_ok(&all) || n < v.count) {
        out->failed = true;
        return;
    }
    qsort(members, n, sizeof *members, by_bytes);
    for (size_t i = 0; i < n; i++)
        cs_buf_add_slice(out, members[i]);
}

static bool is_extra(const struct x509_name *n, struct cs_slice oid)
{
    for (size_t i = 0; i < n->extra_count; i++)
        if (cs_slice_eq(n->extra[i].oid, oid))
            return true;
    return false;
}

void x509_name_write(struct cs_buf *out, const struct x509_name *n)
{
    size_t seq = der_begin(out, DER_SEQUENCE);
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        const uint8_t bytes[] = {0x55, 0x04, attributes[i].n};
        struct cs_slice oid = cs_slice_of(bytes, sizeof bytes);
        const char *const *one;
        struct x509_values v = values_of(n, &attributes[i], &one);
        if (v.count == 0 || is_extra(n, oid))
            continue;
        size_t set = der_begin(out, DER_SET);
        if (v.count == 1)
            write_attribute(out, oid, v.at[0]);
        else
            write_sorted(out, oid, v);
        der_end(out, set);
    }
    for (size_t i = 0; i < n->extra_count; i++) {
        size_t set = der_begin(out, DER_SET);
        write_attribute(out, n->extra[i].oid, n->extra[i].value);
        der_end(out, set);
    }
    der_end(out, seq);
}

static cs_code malformed(struct cs_err *e)
{
    return cs_fail(e, CS_INVALID, "x509: invalid RDNSequence");
}

struct rdn_attr {
    struct cs_slice oid, value, whole_value;
    uint8_t tag;
};

static bool next_attr(struct cs_rd *set, struct rdn_attr *out)
{
    struct cs_rd attr;
    return der_enter(set, DER_SEQUENCE, &attr) && der_read(&attr, DER_OID, &out->oid) &&
           der_oid_valid(out->oid) && der_next(&attr, &out->tag, &out->value, &out->whole_value) &&
           cs_rd_left(&attr) == 0;
}

bool x509_name_sound(struct cs_slice der)
{
    struct cs_rd r = cs_rd_of(der), rdns, set;
    struct rdn_attr attr;
    if (!der_enter(&r, DER_SEQUENCE, &rdns) || cs_rd_left(&r) != 0)
        return false;
    while (cs_rd_left(&rdns) > 0) {
        if (!der_enter(&rdns, DER_SET, &set) || cs_rd_left(&set) == 0)
            return false;
        while (cs_rd_left(&set) > 0)
            if (!next_attr(&set, &attr))
                return false;
    }
    return true;
}

static bool is_text(const struct rdn_attr *a)
{
    switch (a->tag) {
    case DER_UTF8_STRING:
    case DER_PRINTABLE_STRING:
    case DER_IA5_STRING:
    case DER_T61_STRING:
    case 0x12: /* NumericString */
        return cs_utf8_valid(a->value) &&
               (a->value.len == 0 || memchr(a->value.data, 0, a->value.len) == NULL);
    default:
        return false;
    }
}

/* Values gathered while reading, before they move into the arena. */
struct gathered {
    const char *at[ATTRIBUTES][MAX_VALUES];
    size_t count[ATTRIBUTES];
};

static cs_code gather(struct cs_arena *a, struct cs_rd *set, struct gathered *g, struct cs_err *e)
{
    struct rdn_attr attr;
    if (!next_attr(set, &attr))
        return malformed(e);
    const struct attribute *known = attribute_of(attr.oid);
    if (known == NULL)
        return CS_OK;
    if (!is_text(&attr))
        return malformed(e);
    size_t i = (size_t)(known - attributes);
    if (!known->list)
        g->count[i] = 0; /* the last one counts */
    if (g->count[i] == MAX_VALUES)
        return malformed(e);
    char *text = cs_arena_strndup(a, (const char *)attr.value.data, attr.value.len);
    if (text == NULL)
        return cs_nomem(e);
    g->at[i][g->count[i]++] = text;
    return CS_OK;
}

cs_code x509_name_parse(struct cs_arena *a, struct cs_slice der, struct x509_name *out, struct cs_err *e)
{
    *out = (struct x509_name){0};
    struct gathered g = {.count = {0}};
    struct cs_rd r = cs_rd_of(der), rdns, set;
    if (!der_enter(&r, DER_SEQUENCE, &rdns) || cs_rd_left(&r) != 0)
        return malformed(e);
    while (cs_rd_left(&rdns) > 0) {
        if (!der_enter(&rdns, DER_SET, &set))
            return malformed(e);
        while (cs_rd_left(&set) > 0)
            CS_TRY(gather(a, &set, &g, e));
    }
    struct x509_name name = {0};
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        char *base = (char *)&name + attributes[i].field;
        if (g.count[i] == 0)
            continue;
        if (!attributes[i].list) {
            *(const char **)(void *)base = g.at[i][0];
            continue;
        }
        const char **list = cs_arena_memdup(a, g.at[i], g.count[i] * sizeof(const char *));
        if (list == NULL)
            return cs_nomem(e);
        *(struct x509_values *)(void *)base = (struct x509_values){list, g.count[i]};
    }
    *out = name;
    return CS_OK;
}

/* RFC 2253 section 2.4 as Go escapes it. */
static void add_escaped(struct cs_buf *out, struct cs_slice v)
{
    for (size_t i = 0; i < v.len; i++) {
        uint8_t c = v.data[i];
        bool edge_blank = c == ' ' && (i == 0 || i == v.len - 1);
        if (strchr(",+\"\\<>;", c) != NULL || edge_blank || (c == '#' && i == 0))
            cs_buf_add_byte(out, '\\');
        cs_buf_add_byte(out, c);
    }
}

static void add_attr(struct cs_buf *out, const struct rdn_attr *attr)
{
    const struct attribute *known = attribute_of(attr->oid);
    if (known != NULL && known->label != NULL && is_text(attr)) {
        cs_buf_printf(out, "%s=", known->label);
        add_escaped(out, attr->value);
        return;
    }
    der_oid_text(out, attr->oid);
    cs_buf_add_str(out, "=#");
    cs_hex_encode(out, attr->whole_value);
}

#define MAX_RDNS 64

cs_code x509_name_text(struct cs_buf *out, struct cs_slice der, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(der), rdns, sets[MAX_RDNS];
    size_t count = 0;
    if (!der_enter(&r, DER_SEQUENCE, &rdns) || cs_rd_left(&r) != 0)
        return malformed(e);
    for (; cs_rd_left(&rdns) > 0; count++)
        if (count == MAX_RDNS || !der_enter(&rdns, DER_SET, &sets[count]))
            return malformed(e);
    for (size_t i = count; i-- > 0;) {
        if (i + 1 < count)
            cs_buf_add_byte(out, ',');
        for (bool first = true; cs_rd_left(&sets[i]) > 0; first = false) {
            struct rdn_attr attr;
            if (!next_attr(&sets[i], &attr))
                return malformed(e);
            if (!first)
                cs_buf_add_byte(out, '+');
            add_attr(out, &attr);
        }
    }
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}
