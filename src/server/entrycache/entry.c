/* SPDX-License-Identifier: Apache-2.0
 *
 * One entry: the wire form of spire.api.types.Entry and what the server itself looks at in it.
 */
#include "server/entrycache/internal.h"
#include "server/entrycache/wire.h"

#include <stdlib.h>

static bool span_set(struct span *s, struct cs_slice wire, struct cs_slice value)
{
    size_t at = (size_t)(value.data - wire.data);
    if (at > UINT16_MAX || value.len > UINT16_MAX)
        return false;
    *s = (struct span){(uint16_t)at, (uint16_t)value.len};
    return true;
}

/* spire.api.types.SPIFFEID: 1 trust domain, 2 path. */
static bool spiffe_id_spans(struct cs_slice wire, struct cs_slice id, struct span *domain, struct span *path)
{
    struct cs_rd r = cs_rd_of(id);
    struct wire_field f;
    while (wire_next(&r, &f))
        if (f.type == WIRE_LEN && (f.num == 1 || f.num == 2) &&
            !span_set(f.num == 1 ? domain : path, wire, f.value))
            return false;
    return cs_rd_left(&r) == 0;
}

static bool jti_wanted(struct cs_slice attributes)
{
    struct cs_rd r = cs_rd_of(attributes);
    struct wire_field f;
    bool yes = false;
    while (wire_next(&r, &f))
        if (f.num == 2 && f.type == WIRE_VARINT)
            yes = f.number != 0;
    return yes;
}

static bool take_len(struct entry *en, struct cs_slice wire, const struct wire_field *f)
{
    switch (f->num) {
    case ENTRY_ID:
        return span_set(&en->id, wire, f->value);
    case ENTRY_SPIFFE_ID:
        return spiffe_id_spans(wire, f->value, &en->trust_domain, &en->spiffe_path);
    case ENTRY_PARENT_ID:
        return spiffe_id_spans(wire, f->value, &en->parent_domain, &en->parent_path);
    case ENTRY_ATTRIBUTES:
        en->flags |= jti_wanted(f->value) ? ENTRY_WITH_JTI : 0;
        return true;
    default:
        return true;
    }
}

static void take_number(struct entry *en, const struct wire_field *f)
{
    switch (f->num) {
    case ENTRY_X509_SVID_TTL:
        en->x509_ttl = (int32_t)f->number;
        break;
    case ENTRY_JWT_SVID_TTL:
        en->jwt_ttl = (int32_t)f->number;
        break;
    case ENTRY_ADMIN:
        en->flags |= f->number != 0 ? ENTRY_IS_ADMIN : 0;
        break;
    case ENTRY_DOWNSTREAM:
        en->flags |= f->number != 0 ? ENTRY_IS_DOWNSTREAM : 0;
        break;
    case ENTRY_REVISION_NUMBER:
        en->revision = (int64_t)f->number;
        break;
    case ENTRY_CREATED_AT:
        en->created_at = (int64_t)f->number;
        break;
    default:
        break;
    }
}

static bool scan(struct entry *en)
{
    struct cs_slice wire = entry_wire(en);
    struct cs_rd r = cs_rd_of(wire);
    struct wire_field f;
    while (wire_next(&r, &f)) {
        if (f.type == WIRE_LEN && !take_len(en, wire, &f))
            return false;
        if (f.type == WIRE_VARINT)
            take_number(en, &f);
    }
    return cs_rd_left(&r) == 0 && en->id.len > 0 && en->trust_domain.len > 0 && en->parent_domain.len > 0;
}

cs_code entry_new(struct cs_slice wire, struct entry **out, struct cs_err *e)
{
    *out = NULL;
    if (wire.len > UINT32_MAX)
        return cs_fail(e, CS_INVALID, "entry is too large");
    CS_AUTO(entry) en = cs_malloc(sizeof *en + wire.len);
    if (en == NULL)
        return cs_nomem(e);
    *en = (struct entry){.refs = 1, .wire_len = (uint32_t)wire.len};
    if (wire.len > 0)
        memcpy(en->wire, wire.data, wire.len);
    if (!scan(en))
        return cs_fail(e, CS_INVALID, "malformed entry");
    *out = CS_MOVE(en);
    return CS_OK;
}

struct entry *entry_ref(struct entry *en)
{
    en->refs++;
    return en;
}

void entry_unref(struct entry *en)
{
    if (en != NULL && --en->refs == 0)
        cs_free(en);
}

struct cs_slice entry_id(const struct entry *en)
{
    return entry_span(en, en->id);
}
struct cs_slice entry_trust_domain(const struct entry *en)
{
    return entry_span(en, en->trust_domain);
}
struct cs_slice entry_spiffe_path(const struct entry *en)
{
    return entry_span(en, en->spiffe_path);
}
struct cs_slice entry_parent_path(const struct entry *en)
{
    return entry_span(en, en->parent_path);
}
struct cs_slice entry_wire(const struct entry *en)
{
    return cs_slice_of(en->wire, en->wire_len);
}
int64_t entry_revision(const struct entry *en)
{
    return en->revision;
}
int64_t entry_created_at(const struct entry *en)
{
    return en->created_at;
}
int32_t entry_x509_ttl(const struct entry *en)
{
    return en->x509_ttl;
}
int32_t entry_jwt_ttl(const struct entry *en)
{
    return en->jwt_ttl;
}
bool entry_jwt_jti(const struct entry *en)
{
    return (en->flags & ENTRY_WITH_JTI) != 0;
}

static size_t count_field(const struct entry *en, uint32_t num)
{
    struct cs_rd r = cs_rd_of(entry_wire(en));
    struct wire_field f;
    size_t n = 0;
    while (wire_next(&r, &f))
        n += f.num == num && f.type == WIRE_LEN;
    return n;
}

cs_code entry_dns_names(const struct entry *en, struct cs_arena *a, const char ***names, size_t *count,
                        struct cs_err *e)
{
    *names = NULL;
    *count = 0;
    size_t n = count_field(en, ENTRY_DNS_NAMES);
    if (n == 0)
        return CS_OK;
    const char **list = cs_arena_alloc(a, n * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    struct cs_rd r = cs_rd_of(entry_wire(en));
    struct wire_field f;
    size_t i = 0;
    while (i < n && wire_next(&r, &f)) {
        if (f.num != ENTRY_DNS_NAMES || f.type != WIRE_LEN)
            continue;
        list[i] = cs_arena_strndup(a, (const char *)f.value.data, f.value.len);
        if (list[i++] == NULL)
            return cs_nomem(e);
    }
    *names = list;
    *count = n;
    return CS_OK;
}

/* Runs of neighbouring wanted fields, so that most entries are two or three copies. */
struct runs {
    struct cs_slice at[20];
    size_t n, bytes;
    bool overflow;
};

static void runs_add(struct runs *runs, const struct wire_field *f)
{
    size_t len = (size_t)(f->end - f->start);
    runs->bytes += len;
    if (runs->n > 0 && runs->at[runs->n - 1].data + runs->at[runs->n - 1].len == f->start)
        runs->at[runs->n - 1].len += len;
    else if (runs->n < sizeof runs->at / sizeof runs->at[0])
        runs->at[runs->n++] = cs_slice_of(f->start, len);
    else
        runs->overflow = true;
}

static bool wanted(uint32_t num, uint32_t mask)
{
    return num == ENTRY_ID || (num < 32 && (mask & ENTRY_FIELD(num)) != 0);
}

void entry_wire_fields(struct cs_buf *b, struct cs_slice wire, uint32_t mask)
{
    struct cs_rd r = cs_rd_of(wire);
    struct wire_field f;
    while (wire_next(&r, &f))
        if (wanted(f.num, mask))
            cs_buf_add(b, f.start, (size_t)(f.end - f.start));
}

void entry_wire_append(struct cs_buf *b, uint32_t field, struct cs_slice wire, uint32_t mask)
{
    if (mask == ENTRY_ALL_FIELDS) {
        wire_bytes(b, field, wire);
        return;
    }
    struct runs runs = {.n = 0};
    struct cs_rd r = cs_rd_of(wire);
    struct wire_field f;
    while (wire_next(&r, &f))
        if (wanted(f.num, mask))
            runs_add(&runs, &f);
    wire_len(b, field, runs.bytes);
    if (runs.overflow) { /* fields out of order: not as we write them */
        entry_wire_fields(b, wire, mask);
        return;
    }
    for (size_t i = 0; i < runs.n; i++)
        cs_buf_add_slice(b, runs.at[i]);
}

void entry_append(struct cs_buf *b, uint32_t field, const struct entry *en, uint32_t mask)
{
    entry_wire_append(b, field, entry_wire(en), mask);
}

static bool selector_key(struct cs_buf *tmp, struct cs_slice selector)
{
    struct cs_slice type = {0}, value = {0};
    struct cs_rd r = cs_rd_of(selector);
    struct wire_field f;
    while (wire_next(&r, &f)) {
        if (f.num == 1 && f.type == WIRE_LEN)
            type = f.value;
        if (f.num == 2 && f.type == WIRE_LEN)
            value = f.value;
    }
    cs_buf_reset(tmp);
    cs_buf_add_slice(tmp, type);
    cs_buf_add_byte(tmp, ':');
    cs_buf_add_slice(tmp, value);
    return cs_buf_ok(tmp);
}

bool entry_each_selector(const struct entry *en, struct cs_buf *tmp,
                         bool (*fn)(void *arg, struct cs_slice key), void *arg)
{
    struct cs_rd r = cs_rd_of(entry_wire(en));
    struct wire_field f;
    while (wire_next(&r, &f)) {
        if (f.num != ENTRY_SELECTORS || f.type != WIRE_LEN)
            continue;
        if (!selector_key(tmp, f.value) || !fn(arg, cs_buf_slice(tmp)))
            return false;
    }
    return true;
}

void entry_list_free(struct entry_list *l)
{
    for (size_t i = 0; i < l->len; i++)
        entry_unref(l->at[i]);
    cs_free(l->at);
    *l = (struct entry_list){0};
}

static int id_order(struct cs_slice a, struct cs_slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int d = memcmp(a.data, b.data, n);
    return d != 0 ? d : (a.len > b.len) - (a.len < b.len);
}

static int by_id(const void *a, const void *b)
{
    return id_order(entry_id(*(struct entry *const *)a), entry_id(*(struct entry *const *)b));
}

void entry_list_sort(struct entry_list *l)
{
    if (l->len > 1)
        qsort(l->at, l->len, sizeof(struct entry *), by_id);
}

static bool is_before(const struct entry_list *l, size_t i, struct cs_slice id)
{
    return id_order(entry_id(l->at[i]), id) < 0;
}

size_t entry_list_find(const struct entry_list *l, size_t *from, struct cs_slice id)
{
    size_t lo = *from, step = 1;
    while (lo + step <= l->len && is_before(l, lo + step - 1, id)) { /* in growing strides */
        lo += step;
        step *= 2;
    }
    size_t hi = lo + step - 1 < l->len ? lo + step - 1 : l->len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (is_before(l, mid, id))
            lo = mid + 1;
        else
            hi = mid;
    }
    *from = lo;
    return lo < l->len && cs_slice_eq(entry_id(l->at[lo]), id) ? lo : SIZE_MAX;
}
