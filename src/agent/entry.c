/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/entry.h"

#include "base/mem.h"
#include "spiffe/id.h"

#include <stdatomic.h>
#include <string.h>

struct holder {
    struct agent_entry entry; /* first: what callers see */
    atomic_uint refs;
    _Alignas(void *) char block[]; /* the two lists, then the text */
};

static struct holder *holder_of(const struct agent_entry *en)
{
    return (struct holder *)(uintptr_t)en;
}

struct agent_entry *agent_entry_ref(const struct agent_entry *en)
{
    atomic_fetch_add_explicit(&holder_of(en)->refs, 1, memory_order_relaxed);
    return (struct agent_entry *)(uintptr_t)en;
}

void agent_entry_unref(const struct agent_entry *en)
{
    if (en != NULL && atomic_fetch_sub_explicit(&holder_of(en)->refs, 1, memory_order_acq_rel) == 1)
        cs_free(holder_of(en));
}

bool agent_entry_is_stale(const struct agent_entry *en, int64_t revision, int64_t created_at)
{
    /* Servers before 1.14 do not send created_at. */
    return en->revision != revision || (created_at != 0 && en->created_at != created_at);
}

/* --- Checks --- */

static cs_code check_id(const Types__Entry *from, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    if (from->id == NULL || from->id[0] == '\0')
        return cs_fail(e, CS_INVALID, "missing entry ID");
    if (from->spiffe_id == NULL)
        return cs_fail(e, CS_INVALID, "invalid SPIFFE ID: response missing SPIFFE ID");
    struct cs_slice td;
    if (spiffe_td_parse(cs_slice_str(from->spiffe_id->trust_domain), &td, e) != CS_OK ||
        spiffe_path_check(cs_slice_str(from->spiffe_id->path), e) != CS_OK) {
        (void)cs_wrap(e, "invalid SPIFFE ID");
        return CS_INVALID;
    }
    return CS_OK;
}

static cs_code check_selectors(const Types__Entry *from, struct cs_err *e)
{
    if (from->n_selectors == 0)
        return cs_fail(e, CS_INVALID, "selector list is empty");
    if (from->n_selectors > AGENT_ENTRY_SELECTORS_MAX)
        return cs_fail(e, CS_INVALID, "more than %d selectors", AGENT_ENTRY_SELECTORS_MAX);
    for (size_t i = 0; i < from->n_selectors; i++) {
        const Types__Selector *s = from->selectors[i];
        if (s->type[0] == '\0')
            return cs_fail(e, CS_INVALID, "missing selector type");
        if (strchr(s->type, ':') != NULL)
            return cs_fail(e, CS_INVALID, "selector type contains ':'");
        if (s->value[0] == '\0')
            return cs_fail(e, CS_INVALID, "missing selector value");
    }
    return CS_OK;
}

static cs_code check_federates(const Types__Entry *from, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    if (from->n_federates_with > AGENT_ENTRY_SELECTORS_MAX)
        return cs_fail(e, CS_INVALID, "more than %d federated trust domains", AGENT_ENTRY_SELECTORS_MAX);
    for (size_t i = 0; i < from->n_federates_with; i++) {
        struct cs_slice td;
        if (spiffe_td_parse(cs_slice_str(from->federates_with[i]), &td, e) != CS_OK) {
            (void)cs_wrap(e, "invalid federated trust domain");
            return CS_INVALID;
        }
    }
    return CS_OK;
}

/* --- Building --- */

static size_t text_size(const Types__Entry *from)
{
    size_t n = strlen(from->id) + 1 + strlen(from->hint) + 1;
    n += 9 + strlen(from->spiffe_id->trust_domain) + strlen(from->spiffe_id->path) + 1;
    for (size_t i = 0; i < from->n_selectors; i++)
        n += strlen(from->selectors[i]->type) + 1 + strlen(from->selectors[i]->value) + 1;
    for (size_t i = 0; i < from->n_federates_with; i++)
        n += strlen(from->federates_with[i]) + 1;
    return n;
}

/* Copies pieces to *at, one after the other, and moves it behind the NUL; returns where it began. */
static const char *put(char **at, struct cs_slice a, struct cs_slice b, struct cs_slice c)
{
    const char *begin = *at;
    const struct cs_slice pieces[] = {a, b, c};
    for (size_t i = 0; i < 3; i++) {
        if (pieces[i].len > 0)
            memcpy(*at, pieces[i].data, pieces[i].len);
        *at += pieces[i].len;
    }
    *(*at)++ = '\0';
    return begin;
}

static void fill_lists(struct holder *h, const Types__Entry *from, char **at)
{
    const struct cs_slice none = {0};
    const char **list = (const char **)(void *)h->block;
    h->entry.selectors = list;
    for (size_t i = 0; i < from->n_selectors; i++)
        *list++ = put(at, cs_slice_str(from->selectors[i]->type), cs_slice_str(":"),
                      cs_slice_str(from->selectors[i]->value));
    h->entry.federates_with = list;
    for (size_t i = 0; i < from->n_federates_with; i++) {
        struct cs_slice td = none;
        if (spiffe_td_parse(cs_slice_str(from->federates_with[i]), &td, NULL) != CS_OK)
            td = none; /* checked before */
        *list++ = put(at, td, none, none);
    }
    h->entry.selector_count = (uint32_t)from->n_selectors;
    h->entry.federates_count = (uint32_t)from->n_federates_with;
}

static void fill(struct holder *h, const Types__Entry *from, char *at)
{
    const struct cs_slice none = {0};
    struct cs_slice td = none;
    if (spiffe_td_parse(cs_slice_str(from->spiffe_id->trust_domain), &td, NULL) != CS_OK)
        td = none; /* checked before */
    h->entry.id = put(&at, cs_slice_str(from->id), none, none);
    h->entry.hint = put(&at, cs_slice_str(from->hint), none, none);
    h->entry.spiffe_id = put(&at, cs_slice_str("spiffe://"), td, cs_slice_str(from->spiffe_id->path));
    fill_lists(h, from, &at);
    h->entry.revision = from->revision_number;
    h->entry.created_at = from->created_at;
    h->entry.admin = from->admin;
    h->entry.downstream = from->downstream;
    h->entry.store_svid = from->store_svid;
    if (from->additional_attributes != NULL) {
        h->entry.no_prefetch = from->additional_attributes->disable_x509_svid_prefetch;
        h->entry.jwt_jti = from->additional_attributes->jwt_svid_include_jti;
    }
    atomic_init(&h->refs, 1);
}

cs_code agent_entry_new(const Types__Entry *from, struct agent_entry **out, struct cs_err *e)
{
    *out = NULL;
    if (from == NULL)
        return cs_fail(e, CS_INVALID, "missing entry");
    CS_TRY(check_id(from, e));
    CS_TRY(check_federates(from, e));
    CS_TRY(check_selectors(from, e));
    size_t text = text_size(from);
    if (text > AGENT_ENTRY_TEXT_MAX)
        return cs_fail(e, CS_INVALID, "entry is larger than %u bytes", AGENT_ENTRY_TEXT_MAX);
    size_t lists = (from->n_selectors + from->n_federates_with) * sizeof(char *);
    struct holder *h = cs_calloc(1, sizeof *h + lists + text);
    if (h == NULL)
        return cs_nomem(e);
    fill(h, from, h->block + lists);
    *out = &h->entry;
    return CS_OK;
}

/* --- Hints --- */

/* True when a is to be kept and b to go. */
static bool older(const struct agent_entry *a, const struct agent_entry *b)
{
    return a->created_at != b->created_at ? a->created_at < b->created_at : strcmp(a->id, b->id) < 0;
}

size_t agent_entry_filter_hints(const struct agent_entry **at, size_t count,
                                void (*dropped)(void *arg, const struct agent_entry *en), void *arg)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        bool keep = true;
        for (size_t j = 0; at[i]->hint[0] != '\0' && j < count && keep; j++)
            keep = j == i || at[j] == NULL || strcmp(at[i]->hint, at[j]->hint) != 0 || older(at[i], at[j]);
        if (!keep && dropped != NULL)
            dropped(arg, at[i]);
        if (keep)
            kept++;
        else
            at[i] = NULL;
    }
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (at[i] != NULL)
            at[n++] = at[i];
    return kept;
}
