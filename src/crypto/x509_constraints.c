/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/x509_constraints.h"

#include "crypto/der.h"

#define MAX_COMPARISONS 65536 /* names times constraints, against hostile certificates */

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static bool equal_fold(const uint8_t *a, const uint8_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (lower(a[i]) != lower(b[i]))
            return false;
    return true;
}

static bool domain_covers(struct cs_slice constraint, struct cs_slice name)
{
    if (constraint.len == 0)
        return true;
    if (constraint.len > name.len)
        return false;
    size_t lead = name.len - constraint.len;
    if (!equal_fold(constraint.data, name.data + lead, constraint.len))
        return false;
    return lead == 0 ? constraint.data[0] != '.' : constraint.data[0] == '.' || name.data[lead - 1] == '.';
}

static struct cs_slice after_first_label(struct cs_slice s)
{
    const uint8_t *dot = s.len == 0 ? NULL : memchr(s.data, '.', s.len);
    return dot == NULL ? (struct cs_slice){0} : cs_slice_of(dot, (size_t)(s.data + s.len - dot));
}

/* "*.example.com" also stands for an excluded "a.example.com". */
static bool wildcard_hits(struct cs_slice constraint, struct cs_slice name)
{
    if (name.len == 0 || name.data[0] != '*')
        return false;
    struct cs_slice a = after_first_label(constraint), b = after_first_label(name);
    return a.len > 0 && a.len == b.len && equal_fold(a.data, b.data, a.len);
}

/* Host of an absolute URI: scheme "://" [userinfo "@"] host [":" port] ["/" ...]. Empty when there is none.
 */
static struct cs_slice uri_host(struct cs_slice uri)
{
    struct cs_slice none = {0};
    const uint8_t *end = uri.data + uri.len, *p = uri.len < 3 ? NULL : memmem(uri.data, uri.len, "://", 3);
    if (p == NULL)
        return none;
    p += 3;
    const uint8_t *stop = p;
    while (stop < end && *stop != '/' && *stop != '?' && *stop != '#')
        stop++;
    const uint8_t *at = memrchr(p, '@', (size_t)(stop - p));
    if (at != NULL)
        p = at + 1;
    const uint8_t *colon = memchr(p, ':', (size_t)(stop - p));
    if (colon != NULL)
        stop = colon;
    return cs_slice_of(p, (size_t)(stop - p));
}

/* Constraints never apply to addresses; "[::1]" and dotted quads are refused. */
static bool host_is_address(struct cs_slice host)
{
    if (host.data[0] == '[')
        return true;
    for (size_t i = 0; i < host.len; i++)
        if ((host.data[i] < '0' || host.data[i] > '9') && host.data[i] != '.')
            return false;
    return true;
}

/* One pass over a GeneralSubtrees list for one name. */
struct matcher {
    enum x509_san_kind kind;
    struct cs_slice name; /* DNS name, or host of a URI */
    bool excluded;        /* which list this is */
    unsigned budget;      /* comparisons left */
    bool any, hit;        /* results: a constraint of the kind was there; one matched */
};

static bool match_list(struct cs_rd list, struct matcher *m)
{
    m->any = m->hit = false;
    while (cs_rd_left(&list) > 0) {
        struct cs_rd tree;
        uint8_t tag;
        struct cs_slice value;
        if (m->budget-- == 0 || !der_enter(&list, DER_SEQUENCE, &tree) ||
            !der_next(&tree, &tag, &value, NULL))
            return false;
        if (tag != (0x80 | m->kind))
            continue;
        m->any = true;
        if (m->kind != X509_SAN_DNS && m->kind != X509_SAN_URI)
            return false; /* not evaluated here */
        if (domain_covers(value, m->name) || (m->excluded && wildcard_hits(value, m->name)))
            m->hit = true;
    }
    return true;
}

static bool only_known_kinds(struct cs_rd list)
{
    while (cs_rd_left(&list) > 0) {
        struct cs_rd tree;
        uint8_t tag;
        if (!der_enter(&list, DER_SEQUENCE, &tree) || !der_next(&tree, &tag, NULL, NULL))
            return false;
        if (tag != DER_CONTEXT(1) && tag != DER_CONTEXT(2) && tag != DER_CONTEXT(6) && tag != DER_CONTEXT(7))
            return false;
    }
    return true;
}

static bool name_allowed(struct cs_rd permitted, struct cs_rd excluded, enum x509_san_kind kind,
                         struct cs_slice value, unsigned *budget)
{
    struct matcher m = {.kind = kind, .name = value, .budget = *budget};
    if (kind == X509_SAN_OTHER)
        return true;
    if (kind == X509_SAN_URI) {
        m.name = uri_host(value);
        if (m.name.len == 0 || host_is_address(m.name)) {
            /* cannot be matched: only fine when no constraint speaks of URIs */
            m.name = (struct cs_slice){0};
            bool sound = match_list(permitted, &m);
            bool spoken = m.any;
            return sound && !spoken && match_list(excluded, &m) && !m.any;
        }
    }
    if (!match_list(permitted, &m) || (m.any && !m.hit))
        return false;
    m.excluded = true;
    bool allowed = match_list(excluded, &m) && !m.hit;
    *budget = m.budget;
    return allowed;
}

cs_code x509_check_name_constraints(const struct x509_cert *ca, const struct x509_cert *below,
                                    struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(ca->ext.name_constraints), permitted = {0}, excluded = {0};
    struct cs_slice list;
    bool there;
    if (!ca->ext.has_name_constraints)
        return CS_OK;
    bool sound = der_optional(&r, DER_CONTEXT_CONS(0), &list, &there);
    if (sound && there)
        permitted = cs_rd_of(list);
    sound = sound && der_optional(&r, DER_CONTEXT_CONS(1), &list, &there);
    if (sound && there)
        excluded = cs_rd_of(list);
    if (!sound || cs_rd_left(&r) != 0)
        return cs_fail(e, CS_DENIED, "x509: invalid NameConstraints extension");
    if (ca->ext.name_constraints_critical && (!only_known_kinds(permitted) || !only_known_kinds(excluded)))
        return cs_fail(e, CS_DENIED, "x509: unhandled critical extension");
    struct cs_rd it = x509_san_begin(&below->ext.san);
    enum x509_san_kind kind;
    struct cs_slice value;
    unsigned budget = MAX_COMPARISONS;
    while (x509_san_next(&it, &kind, &value))
        if (!name_allowed(permitted, excluded, kind, value, &budget))
            return cs_fail(
                e, CS_DENIED,
                "x509: a root or intermediate certificate is not authorized to sign for this name: "
                "\"%.*s\" is not permitted by any constraint",
                (int)(value.len < 256 ? value.len : 256), (const char *)value.data);
    return CS_OK;
}
