/* SPDX-License-Identifier: Apache-2.0
 *
 * spire-server entry show|count
 */
#include "base/coll.h"
#include "cli/server/entry.h"

#include <stdlib.h>

#define PAGE_SIZE 500

struct show_opts {
    struct cli_common common;
    const char *entry_id, *parent_id, *spiffe_id, *hint, *match_selectors_on, *match_federates_with_on;
    struct cli_strings selectors, federates_with;
    bool downstream;
};

#define OFF(field) offsetof(struct show_opts, field)
#define FILTER_FLAGS                                                                                         \
    {"parentID", CLI_STRING, OFF(parent_id), "Only entries with this parent", NULL},                         \
        {"spiffeID", CLI_STRING, OFF(spiffe_id), "Only entries that give this SPIFFE ID", NULL},             \
        {"downstream", CLI_BOOL, OFF(downstream), "Only entries of downstream SPIRE servers", NULL},         \
        {"selector", CLI_STRINGS, OFF(selectors), "Only entries with this type:value selector; repeatable",  \
         NULL},                                                                                              \
        {"federatesWith", CLI_STRINGS, OFF(federates_with),                                                  \
         "Only entries that federate with this trust domain; repeatable", NULL},                             \
        {"matchFederatesWithOn", CLI_STRING, OFF(match_federates_with_on),                                   \
         "How -federatesWith has to match: exact, any, superset or subset", "superset"},                     \
        {"matchSelectorsOn", CLI_STRING, OFF(match_selectors_on),                                            \
         "How -selector has to match: exact, any, superset or subset", "superset"},                          \
        {"hint", CLI_STRING, OFF(hint), "Only entries with this hint", NULL},                                \
        CLI_SERVER_FLAGS(struct show_opts)

static const struct cli_flag show_flags[] = {
    FILTER_FLAGS,
    {"entryID", CLI_STRING, OFF(entry_id), "The one entry with this ID", NULL},
    CLI_END,
};
static const struct cli_flag count_flags[] = {FILTER_FLAGS, CLI_END};

/* What the list and the count filter have in common: the same fields in two message types. */
struct filter {
    Types__SPIFFEID *by_spiffe_id, *by_parent_id;
    Types__SelectorMatch selectors, *by_selectors;
    Types__FederatesWithMatch federates_with, *by_federates_with;
    Google__Protobuf__StringValue hint, *by_hint;
    Google__Protobuf__BoolValue downstream;
};

static bool given(const char *s)
{
    return s != NULL && s[0] != '\0';
}

static cs_code fill_ids(struct cs_arena *a, const struct show_opts *o, struct filter *f, struct cs_err *e)
{
    if (given(o->parent_id) && srv_id_arg(a, o->parent_id, &f->by_parent_id, e) != CS_OK)
        return cs_wrap(e, "error parsing parent ID \"%s\"", o->parent_id);
    if (given(o->spiffe_id) && srv_id_arg(a, o->spiffe_id, &f->by_spiffe_id, e) != CS_OK)
        return cs_wrap(e, "error parsing SPIFFE ID \"%s\"", o->spiffe_id);
    return CS_OK;
}

static cs_code fill_selectors(struct cs_arena *a, const struct show_opts *o, struct filter *f,
                              struct cs_err *e)
{
    int mode;
    if (o->selectors.len == 0)
        return CS_OK;
    if (!srv_match_arg(o->match_selectors_on, &mode))
        return cs_fail(e, CS_INVALID, "match behavior \"%s\" unknown", o->match_selectors_on);
    types__selector_match__init(&f->selectors);
    f->selectors.match = (Types__SelectorMatch__MatchBehavior)mode;
    f->by_selectors = &f->selectors;
    if (srv_selectors_arg(a, &o->selectors, &f->selectors.n_selectors, &f->selectors.selectors, e) != CS_OK)
        return cs_wrap(e, "error parsing selectors");
    return CS_OK;
}

static cs_code fill_federates_with(struct cs_arena *a, const struct show_opts *o, struct filter *f,
                                   struct cs_err *e)
{
    int mode;
    if (o->federates_with.len == 0)
        return CS_OK;
    if (!srv_match_arg(o->match_federates_with_on, &mode))
        return cs_fail(e, CS_INVALID, "match behavior \"%s\" unknown", o->match_federates_with_on);
    types__federates_with_match__init(&f->federates_with);
    f->federates_with.match = (Types__FederatesWithMatch__MatchBehavior)mode;
    f->by_federates_with = &f->federates_with;
    return srv_strings(a, &o->federates_with, &f->federates_with.n_trust_domains,
                       &f->federates_with.trust_domains, e);
}

static cs_code fill_filter(struct cs_arena *a, const struct show_opts *o, struct filter *f, struct cs_err *e)
{
    *f = (struct filter){0};
    CS_TRY(fill_ids(a, o, f, e));
    CS_TRY(fill_selectors(a, o, f, e));
    CS_TRY(fill_federates_with(a, o, f, e));
    google__protobuf__bool_value__init(&f->downstream);
    f->downstream.value = o->downstream; /* false does not filter */
    if (!given(o->hint))
        return CS_OK;
    google__protobuf__string_value__init(&f->hint);
    f->hint.value = cs_arena_strdup(a, o->hint);
    f->by_hint = &f->hint;
    return f->hint.value != NULL ? CS_OK : cs_nomem(e);
}

static cs_code list_entries(struct cli_session *s, const struct show_opts *o,
                            Entryv1__ListEntriesResponse *all, struct cs_err *e)
{
    struct filter common;
    CS_TRY(fill_filter(s->arena, o, &common, e));
    Entryv1__ListEntriesRequest__Filter f = ENTRYV1__LIST_ENTRIES_REQUEST__FILTER__INIT;
    f.by_spiffe_id = common.by_spiffe_id;
    f.by_parent_id = common.by_parent_id;
    f.by_selectors = common.by_selectors;
    f.by_federates_with = common.by_federates_with;
    f.by_hint = common.by_hint;
    f.by_downstream = &common.downstream;
    Entryv1__ListEntriesRequest req = ENTRYV1__LIST_ENTRIES_REQUEST__INIT;
    req.filter = &f;
    req.page_size = PAGE_SIZE;
    CS_CLEANUP(cs_vec_free) struct cs_vec got = {0};
    do {
        ProtobufCMessage *reply;
        if (cli_call(s, ENTRY_SERVICE "ListEntries", MSG(req), &entryv1__list_entries_response__descriptor,
                     &reply, e) != CS_OK)
            return cs_wrap(e, "error fetching entries");
        const Entryv1__ListEntriesResponse *page = (const Entryv1__ListEntriesResponse *)reply;
        for (size_t i = 0; i < page->n_entries; i++)
            if (cs_vec_push(&got, page->entries[i]) != CS_OK)
                return cs_nomem(e);
        req.page_token = page->next_page_token;
    } while (req.page_token[0] != '\0');
    all->n_entries = got.len;
    all->entries = got.len > 0 ? cs_arena_memdup(s->arena, got.at, got.len * sizeof *all->entries) : NULL;
    return all->entries != NULL || got.len == 0 ? CS_OK : cs_nomem(e);
}

static cs_code fetch_one(struct cli_session *s, const char *id, Entryv1__ListEntriesResponse *all,
                         struct cs_err *e)
{
    Entryv1__GetEntryRequest req = ENTRYV1__GET_ENTRY_REQUEST__INIT;
    ProtobufCMessage *reply;
    req.id = cs_arena_strdup(s->arena, id);
    all->entries = cs_arena_alloc(s->arena, sizeof *all->entries);
    if (req.id == NULL || all->entries == NULL)
        return cs_nomem(e);
    if (cli_call(s, ENTRY_SERVICE "GetEntry", MSG(req), &types__entry__descriptor, &reply, e) != CS_OK)
        return cs_wrap(e, "error fetching entry ID %s", id);
    all->entries[0] = (Types__Entry *)reply;
    all->n_entries = 1;
    return CS_OK;
}

/* --- The order of the output: ID, parent, TTLs, then selectors --- */

static int compare_ids(const Types__SPIFFEID *a, const Types__SPIFFEID *b)
{
    if (a == NULL || b == NULL)
        return (a != NULL) - (b != NULL);
    int d = strcmp(a->trust_domain, b->trust_domain);
    return d != 0 ? d : strcmp(a->path, b->path);
}

static int compare_selectors(const void *x, const void *y)
{
    const Types__Selector *a = *(const Types__Selector *const *)x, *b = *(const Types__Selector *const *)y;
    int d = strcmp(a->type, b->type);
    return d != 0 ? d : strcmp(a->value, b->value);
}

static int compare_selector_lists(const Types__Entry *a, const Types__Entry *b)
{
    if (a->n_selectors != b->n_selectors)
        return a->n_selectors < b->n_selectors ? -1 : 1;
    for (size_t i = 0; i < a->n_selectors; i++) {
        int d = compare_selectors(&a->selectors[i], &b->selectors[i]);
        if (d != 0)
            return d;
    }
    return 0;
}

static int compare_entries(const void *x, const void *y)
{
    const Types__Entry *a = *(const Types__Entry *const *)x, *b = *(const Types__Entry *const *)y;
    int d = compare_ids(a->spiffe_id, b->spiffe_id);
    if (d == 0)
        d = compare_ids(a->parent_id, b->parent_id);
    if (d == 0)
        d = (a->x509_svid_ttl > b->x509_svid_ttl) - (a->x509_svid_ttl < b->x509_svid_ttl);
    if (d == 0)
        d = (a->jwt_svid_ttl > b->jwt_svid_ttl) - (a->jwt_svid_ttl < b->jwt_svid_ttl);
    return d != 0 ? d : compare_selector_lists(a, b);
}

static void sort_entries(Entryv1__ListEntriesResponse *all)
{
    for (size_t i = 0; i < all->n_entries; i++)
        if (all->entries[i]->n_selectors > 0)
            qsort(all->entries[i]->selectors, all->entries[i]->n_selectors,
                  sizeof *all->entries[i]->selectors, compare_selectors);
    if (all->n_entries > 0)
        qsort(all->entries, all->n_entries, sizeof *all->entries, compare_entries);
}

static cs_code run_show(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct show_opts *o = opts;
    if (given(o->entry_id) && (given(o->parent_id) || given(o->spiffe_id) || o->selectors.len > 0))
        return cs_fail(e, CS_INVALID, "the -entryID flag can't be combined with others");
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Entryv1__ListEntriesResponse all = ENTRYV1__LIST_ENTRIES_RESPONSE__INIT;
    if (given(o->entry_id))
        CS_TRY(fetch_one(s, o->entry_id, &all, e));
    else
        CS_TRY(list_entries(s, o, &all, e));
    sort_entries(&all);
    if (o->common.output.json)
        return cli_print_json(env, MSG(all), e);
    fprintf(env->out, "Found %zu %s\n", all.n_entries, srv_plural(all.n_entries, "entry", "entries"));
    for (size_t i = 0; i < all.n_entries; i++)
        CS_TRY(entry_print(env->out, all.entries[i], e));
    return CS_OK;
}

static cs_code run_count(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct show_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    struct filter common;
    CS_TRY(fill_filter(s->arena, o, &common, e));
    Entryv1__CountEntriesRequest__Filter f = ENTRYV1__COUNT_ENTRIES_REQUEST__FILTER__INIT;
    f.by_spiffe_id = common.by_spiffe_id;
    f.by_parent_id = common.by_parent_id;
    f.by_selectors = common.by_selectors;
    f.by_federates_with = common.by_federates_with;
    f.by_hint = common.by_hint;
    f.by_downstream = &common.downstream;
    Entryv1__CountEntriesRequest req = ENTRYV1__COUNT_ENTRIES_REQUEST__INIT;
    req.filter = &f;
    ProtobufCMessage *reply;
    CS_TRY(cli_call(s, ENTRY_SERVICE "CountEntries", MSG(req), &entryv1__count_entries_response__descriptor,
                    &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    int n = ((const Entryv1__CountEntriesResponse *)reply)->count;
    fprintf(env->out, "%d registration %s\n", n, n == 1 ? "entry" : "entries");
    return CS_OK;
}

const struct cli_command srv_entry_show = {
    .path = "entry show",
    .synopsis = "Displays configured registration entries",
    .flags = show_flags,
    .opts_size = sizeof(struct show_opts),
    .run = run_show,
};
const struct cli_command srv_entry_count = {
    .path = "entry count",
    .synopsis = "Count registration entries",
    .flags = count_flags,
    .opts_size = sizeof(struct show_opts),
    .run = run_count,
};
