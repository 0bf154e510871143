/* SPDX-License-Identifier: Apache-2.0
 *
 * The scanner says what comes; a stack of places says where we are. What is at no place of ours is passed
 * over.
 */
#include "plugins/modules/workload_k8s/pods.h"

#include "base/mem.h"
#include "base/text.h"
#include "plugins/modules/workload_k8s/scan.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

struct k8s_pods {
    atomic_uint refs;
    struct cs_arena *arena; /* all texts and arrays of pods */
    struct k8s_pod *at;
    size_t count, cap, nameless;
};

/* Objects and arrays of a list that something is kept of. */
enum place {
    NOWHERE,
    TOP, /* outside of the list's object */
    LIST,
    ITEMS,
    POD,
    METADATA,
    LABELS,
    OWNERS,
    OWNER,
    SPEC,
    STATUS,
    CONTAINERS,
    CONTAINER,
    INITS,
    INIT,
    PLACES
};
#define PLACES_DEEP 7 /* from TOP to a CONTAINER */

/* What is wanted of an object: a text, or all that is wanted of what is at another place. */
struct member {
    const char *key;
    size_t key_len;
    enum place to; /* NOWHERE: a text */
    size_t offset; /* of the text, in struct k8s_pod, or in the container or owner */
};
#define PLACE(name, place)                                                                                   \
    {                                                                                                        \
        name, sizeof(name) - 1, place, 0                                                                     \
    }
#define TEXT(name, type, field)                                                                              \
    {                                                                                                        \
        name, sizeof(name) - 1, NOWHERE, offsetof(struct type, field)                                        \
    }
static const struct member of_list[] = {PLACE("items", ITEMS)};
static const struct member of_pod[] = {PLACE("metadata", METADATA), PLACE("spec", SPEC),
                                       PLACE("status", STATUS)};
static const struct member of_metadata[] = {TEXT("uid", k8s_pod, uid), TEXT("name", k8s_pod, name),
                                            TEXT("namespace", k8s_pod, ns), PLACE("labels", LABELS),
                                            PLACE("ownerReferences", OWNERS)};
static const struct member of_owner[] = {TEXT("kind", k8s_owner, kind), TEXT("name", k8s_owner, name),
                                         TEXT("uid", k8s_owner, uid)};
static const struct member of_spec[] = {TEXT("serviceAccountName", k8s_pod, service_account),
                                        TEXT("nodeName", k8s_pod, node)};
static const struct member of_status[] = {PLACE("containerStatuses", CONTAINERS),
                                          PLACE("initContainerStatuses", INITS)};
static const struct member of_container[] = {
    TEXT("name", k8s_container, name), TEXT("image", k8s_container, image),
    TEXT("imageID", k8s_container, image_id), TEXT("containerID", k8s_container, id)};
#undef PLACE
#undef TEXT

#define MEMBERS(a) .members = (a), .count = sizeof(a) / sizeof((a)[0])
static const struct rule {
    const struct member *members; /* of an object */
    size_t count;
    enum place element; /* of an array, and of TOP */
    bool array;
    const char *name; /* for the text of a fault */
} rules[PLACES] = {
    [TOP] = {.element = LIST},
    [LIST] = {MEMBERS(of_list)},
    [ITEMS] = {.array = true, .element = POD},
    [POD] = {MEMBERS(of_pod), .name = "pod"},
    [METADATA] = {MEMBERS(of_metadata), .name = "metadata"},
    [LABELS] = {.name = "metadata.labels"},
    [OWNERS] = {.array = true, .element = OWNER, .name = "metadata.ownerReferences"},
    [OWNER] = {MEMBERS(of_owner), .name = "metadata.ownerReferences"},
    [SPEC] = {MEMBERS(of_spec), .name = "spec"},
    [STATUS] = {MEMBERS(of_status), .name = "status"},
    [CONTAINERS] = {.array = true, .element = CONTAINER, .name = "status.containerStatuses"},
    [CONTAINER] = {MEMBERS(of_container), .name = "status.containerStatuses"},
    [INITS] = {.array = true, .element = INIT, .name = "status.initContainerStatuses"},
    [INIT] = {MEMBERS(of_container), .name = "status.initContainerStatuses"},
};
#undef MEMBERS

/* An array that grows while a pod is read and is used again for the next one. */
struct scratch {
    void *at;
    size_t count, cap, size; /* of an element */
};

#define SHARED 256 /* a power of two */

struct k8s_reader {
    struct k8s_scan *scan;
    struct k8s_pods *list;
    struct k8s_pod pod; /* the one being read */
    struct k8s_owner owner;
    struct k8s_container container;
    struct scratch labels, owners, containers, inits;
    enum place stack[PLACES_DEEP];
    size_t depth;
    const struct member *member; /* whose value comes, in an object of ours but the labels */
    const char *label;
    struct {
        const char *text; /* in the list's arena; NULL: none yet */
        size_t len;
    } shared[SHARED]; /* texts of before, by their hash */
    size_t kept;      /* bytes of the pod */
    bool items;       /* there is an array, or null */
    bool ours;        /* the error is not the scanner's */
};

/* --- Small things --- */

static cs_code no_memory(struct k8s_reader *r, struct cs_err *e)
{
    return cs_arena_used(r->list->arena) > K8S_PODS_KEPT_MAX / 2
               ? cs_fail(e, CS_EXHAUSTED, "kubelet response is too large: more than %zu MiB to keep",
                         K8S_PODS_KEPT_MAX >> 20)
               : cs_nomem(e);
}

static enum place here(const struct k8s_reader *r)
{
    return r->stack[r->depth - 1];
}

static const struct rule *rule(const struct k8s_reader *r)
{
    return &rules[here(r)];
}

static void set_fault(struct k8s_reader *r, const char *what, const char *key, const char *problem)
{
    if (r->pod.fault != NULL)
        return;
    r->pod.fault =
        cs_arena_printf(r->list->arena, "%s%s%s %s", what, key[0] != '\0' ? "." : "", key, problem);
    if (r->pod.fault == NULL)
        r->pod.fault = "malformed";
}

/* One pod that is too large is at fault alone, and does not spoil the list. */
static void set_too_large(struct k8s_reader *r)
{
    set_fault(r, rules[POD].name, "", "is too large");
}

static bool has_room(struct k8s_reader *r, size_t n)
{
    r->kept += n;
    if (r->kept > K8S_POD_KEPT_MAX)
        set_too_large(r);
    return r->kept <= K8S_POD_KEPT_MAX;
}

static cs_code push(struct k8s_reader *r, struct scratch *s, const void *element, struct cs_err *e)
{
    if (!has_room(r, s->size))
        return CS_OK;
    if (s->count == s->cap) {
        size_t cap = s->cap > 0 ? s->cap * 2 : 16;
        void *grown = cs_realloc(s->at, cap * s->size);
        if (grown == NULL)
            return cs_nomem(e);
        s->at = grown;
        s->cap = cap;
    }
    memcpy((uint8_t *)s->at + s->count++ * s->size, element, s->size);
    return CS_OK;
}

/* What was gathered, in the list's arena; NULL when there is nothing. */
static bool settle(struct k8s_reader *r, struct scratch *s, const void **out, size_t *count)
{
    *count = s->count;
    *out = s->count > 0 ? cs_arena_memdup(r->list->arena, s->at, s->count * s->size) : NULL;
    bool good = s->count == 0 || *out != NULL;
    s->count = 0;
    return good;
}

/* --- Values --- */

/* Where an object or array that comes now leads; NOWHERE: a text is due. */
static enum place due(const struct k8s_reader *r)
{
    if (rule(r)->element != NOWHERE)
        return rule(r)->element;
    return here(r) == LABELS ? NOWHERE : r->member->to;
}

static const char **slot(struct k8s_reader *r)
{
    uint8_t *base = here(r) == OWNER                          ? (uint8_t *)&r->owner
                    : here(r) == CONTAINER || here(r) == INIT ? (uint8_t *)&r->container
                                                              : (uint8_t *)&r->pod;
    return (const char **)(void *)(base + r->member->offset);
}

/* For the text of a fault: the key of a text that is due. */
static const char *key_due(const struct k8s_reader *r)
{
    return here(r) == LABELS ? "" : r->member->key;
}

/* A value of the wrong kind. Of a pod it is the pod's fault, which counts when somebody asks for the pod;
 * what has no UID then is left out. */
static cs_code misfit(struct k8s_reader *r, struct cs_err *e)
{
    const enum place to = due(r);
    if (to == LIST)
        return cs_fail(e, CS_INVALID, "invalid kubelet response: expected an object");
    if (to == ITEMS)
        return cs_fail(e, CS_INVALID, "invalid kubelet response: expected an items array");
    if (to == POD)
        r->list->nameless++;
    else if (to != NOWHERE)
        set_fault(r, rules[to].name, "", rules[to].array ? "is not an array" : "is not an object");
    else
        set_fault(r, rule(r)->name, key_due(r), here(r) == LABELS ? "is not all strings" : "is not a string");
    return CS_OK;
}

static cs_code add_label(struct k8s_reader *r, const char *value, struct cs_err *e)
{
    const struct k8s_label l = {r->label, value};
    return push(r, &r->labels, &l, e);
}

/* null is what was not given; Go writes it for lists without elements. */
static cs_code on_null(struct k8s_reader *r, struct cs_err *e)
{
    const enum place to = due(r);
    if (to == LIST || to == POD)
        return misfit(r, e);
    if (to == ITEMS)
        r->items = true;
    return here(r) == LABELS ? add_label(r, "", e) : CS_OK;
}

/* Valid UTF-8, and no NUL, which would cut it off. */
static bool is_text(struct cs_slice text)
{
    return text.len == 0 || (memchr(text.data, 0, text.len) == NULL && cs_utf8_valid(text));
}

/* Of the length, the first and the last bytes: what differs between pods is there. */
static size_t hash(struct cs_slice text)
{
    const size_t n = text.len < 8 ? text.len : 8;
    uint64_t first = 0, last = 0;
    memcpy(&first, text.data, n);
    memcpy(&last, text.data + text.len - n, n);
    const uint64_t mixed = (first ^ text.len) * UINT64_C(0x9e3779b97f4a7c15) ^ last;
    return (size_t)((mixed * UINT64_C(0xff51afd7ed558ccd)) >> 32) % SHARED;
}

/* Pods have most of their texts in common: keys of labels, images, the node's name. One text for each hash is
 * remembered, which finds nearly all of them at a cost that nobody who names pods can raise. */
static cs_code keep(struct k8s_reader *r, struct cs_slice text, const char **out, struct cs_err *e)
{
    *out = "";
    if (text.len == 0)
        return CS_OK;
    const size_t i = hash(text);
    if (r->shared[i].text != NULL && cs_slice_eq(text, cs_slice_of(r->shared[i].text, r->shared[i].len))) {
        *out = r->shared[i].text;
        return CS_OK;
    }
    if (!has_room(r, (text.len + 16) & ~(size_t)15)) /* as the arena takes it */
        return CS_OK;
    if (!is_text(text)) {
        set_fault(r, rule(r)->name, key_due(r), "is not good UTF-8 text");
        return CS_OK;
    }
    *out = cs_arena_strndup(r->list->arena, (const char *)text.data, text.len);
    if (*out == NULL)
        return no_memory(r, e);
    r->shared[i].text = *out;
    r->shared[i].len = text.len;
    return CS_OK;
}

static cs_code on_text(struct k8s_reader *r, struct cs_slice text, struct cs_err *e)
{
    const char *kept;
    if (due(r) != NOWHERE)
        return misfit(r, e);
    CS_TRY(keep(r, text, &kept, e));
    if (here(r) == LABELS)
        return add_label(r, kept, e);
    *slot(r) = kept;
    return CS_OK;
}

static cs_code on_long_text(struct k8s_reader *r, struct cs_err *e)
{
    if (due(r) != NOWHERE)
        return misfit(r, e);
    set_too_large(r);
    return CS_OK;
}

/* --- Objects and arrays --- */

static cs_code on_key(struct k8s_reader *r, struct cs_slice key, bool *pass, struct cs_err *e)
{
    if (here(r) == LABELS)
        return keep(r, key, &r->label, e);
    const struct rule *of = rule(r);
    for (size_t i = 0; i < of->count; i++) {
        r->member = &of->members[i];
        if (cs_slice_eq(key, cs_slice_of(r->member->key, r->member->key_len)))
            return CS_OK;
    }
    *pass = true;
    return CS_OK;
}

static void begin(struct k8s_reader *r, enum place p)
{
    switch (p) {
    case POD:
        r->pod = (struct k8s_pod){.uid = "", .name = "", .ns = "", .service_account = "", .node = ""};
        r->labels.count = r->owners.count = r->containers.count = r->inits.count = r->kept = 0;
        break;
    case ITEMS: /* of the same array twice, the last one counts */
        r->items = true;
        r->list->count = 0;
        r->list->nameless = 0;
        break;
    case LABELS:
        r->labels.count = 0;
        break;
    case OWNERS:
        r->owners.count = 0;
        break;
    case CONTAINERS:
        r->containers.count = 0;
        break;
    case INITS:
        r->inits.count = 0;
        break;
    case OWNER:
        r->owner = (struct k8s_owner){"", "", ""};
        break;
    case CONTAINER:
    case INIT:
        r->container = (struct k8s_container){"", "", "", ""};
        break;
    default:
        break;
    }
}

static cs_code on_begin(struct k8s_reader *r, bool array, bool *pass, struct cs_err *e)
{
    const enum place to = due(r);
    if (to == NOWHERE || rules[to].array != array) {
        *pass = true;
        return misfit(r, e);
    }
    begin(r, to);
    r->stack[r->depth++] = to;
    return CS_OK;
}

static cs_code end_pod(struct k8s_reader *r, struct cs_err *e)
{
    struct k8s_pods *l = r->list;
    if (r->pod.uid[0] == '\0') {
        l->nameless++;
        return CS_OK;
    }
    if (l->count == K8S_PODS_MAX)
        return cs_fail(e, CS_EXHAUSTED, "kubelet response has more than %d pods", K8S_PODS_MAX);
    if (!settle(r, &r->labels, (const void **)&r->pod.labels, &r->pod.label_count) ||
        !settle(r, &r->owners, (const void **)&r->pod.owners, &r->pod.owner_count) ||
        !settle(r, &r->containers, (const void **)&r->pod.containers, &r->pod.container_count) ||
        !settle(r, &r->inits, (const void **)&r->pod.init_containers, &r->pod.init_container_count))
        return no_memory(r, e);
    if (l->count == l->cap) {
        size_t cap = l->cap > 0 ? l->cap * 2 : 64;
        struct k8s_pod *grown = cs_realloc(l->at, cap * sizeof *grown);
        if (grown == NULL)
            return cs_nomem(e);
        l->at = grown;
        l->cap = cap;
    }
    l->at[l->count++] = r->pod;
    return CS_OK;
}

static cs_code on_end(struct k8s_reader *r, struct cs_err *e)
{
    switch (r->stack[--r->depth]) {
    case POD:
        return end_pod(r, e);
    case OWNER:
        return push(r, &r->owners, &r->owner, e);
    case CONTAINER:
        return push(r, &r->containers, &r->container, e);
    case INIT:
        return push(r, &r->inits, &r->container, e);
    default:
        return CS_OK;
    }
}

/* --- The reader --- */

static cs_code dispatch(struct k8s_reader *r, enum k8s_scan_event what, struct cs_slice text, bool *pass,
                        struct cs_err *e)
{
    switch (what) {
    case K8S_SCAN_NULL:
        return on_null(r, e);
    case K8S_SCAN_WORD:
        return misfit(r, e);
    case K8S_SCAN_TEXT:
        return on_text(r, text, e);
    case K8S_SCAN_LONG_TEXT:
        return on_long_text(r, e);
    case K8S_SCAN_KEY:
        return on_key(r, text, pass, e);
    case K8S_SCAN_LONG_KEY:
        *pass = true;
        if (here(r) == LABELS)
            set_too_large(r);
        return CS_OK;
    case K8S_SCAN_OBJECT:
    case K8S_SCAN_ARRAY:
        return on_begin(r, what == K8S_SCAN_ARRAY, pass, e);
    default:
        return on_end(r, e);
    }
}

static cs_code on_event(void *arg, enum k8s_scan_event what, struct cs_slice text, bool *pass,
                        struct cs_err *e)
{
    struct k8s_reader *r = arg;
    const cs_code rc = dispatch(r, what, text, pass, e);
    r->ours = rc != CS_OK;
    return rc;
}

cs_code k8s_reader_new(struct k8s_reader **out, struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(k8s_reader) r = cs_calloc(1, sizeof *r);
    if (r == NULL)
        return cs_nomem(e);
    r->stack[r->depth++] = TOP;
    r->labels.size = sizeof(struct k8s_label);
    r->owners.size = sizeof(struct k8s_owner);
    r->containers.size = r->inits.size = sizeof(struct k8s_container);
    r->list = cs_calloc(1, sizeof *r->list);
    if (r->list == NULL)
        return cs_nomem(e);
    atomic_init(&r->list->refs, 1);
    r->list->arena = cs_arena_new(16384, K8S_PODS_KEPT_MAX);
    if (r->list->arena == NULL)
        return cs_nomem(e);
    CS_TRY(k8s_scan_new(on_event, r, &r->scan, e));
    *out = CS_MOVE(r);
    return CS_OK;
}

void k8s_reader_free(struct k8s_reader *r)
{
    if (r == NULL)
        return;
    k8s_scan_free(r->scan);
    cs_free(r->labels.at);
    cs_free(r->owners.at);
    cs_free(r->containers.at);
    cs_free(r->inits.at);
    k8s_pods_unref(r->list);
    cs_free(r);
}

static cs_code judge(const struct k8s_reader *r, cs_code rc, struct cs_err *e)
{
    if ((rc == CS_INVALID || rc == CS_EXHAUSTED) && !r->ours)
        (void)cs_wrap(e, "unable to parse kubelet response");
    return rc;
}

cs_code k8s_reader_add(struct k8s_reader *r, struct cs_slice piece, struct cs_err *e)
{
    return judge(r, k8s_scan_add(r->scan, piece, e), e);
}

static int by_uid(const void *a, const void *b)
{
    return strcmp(((const struct k8s_pod *)a)->uid, ((const struct k8s_pod *)b)->uid);
}

/* Of a UID that is there twice, one stays. */
static void sort(struct k8s_pods *l)
{
    size_t kept = 0;
    if (l->count > 0)
        qsort(l->at, l->count, sizeof *l->at, by_uid);
    for (size_t i = 0; i < l->count; i++)
        if (i + 1 == l->count || strcmp(l->at[i].uid, l->at[i + 1].uid) != 0)
            l->at[kept++] = l->at[i];
    l->count = kept;
}

cs_code k8s_reader_end(struct k8s_reader *r, struct k8s_pods **out, struct cs_err *e)
{
    *out = NULL;
    CS_TRY(judge(r, k8s_scan_end(r->scan, e), e));
    if (!r->items)
        return cs_fail(e, CS_INVALID, "invalid kubelet response: expected an items array");
    sort(r->list);
    *out = CS_MOVE(r->list);
    return CS_OK;
}

/* --- The list --- */

size_t k8s_pods_count(const struct k8s_pods *l)
{
    return l->count;
}

const struct k8s_pod *k8s_pods_at(const struct k8s_pods *l, size_t i)
{
    return &l->at[i];
}

size_t k8s_pods_nameless(const struct k8s_pods *l)
{
    return l->nameless;
}

static int uid_is(const void *key, const void *element)
{
    return strcmp(key, ((const struct k8s_pod *)element)->uid);
}

const struct k8s_pod *k8s_pods_find(const struct k8s_pods *l, const char *uid)
{
    return l->count > 0 ? bsearch(uid, l->at, l->count, sizeof *l->at, uid_is) : NULL;
}

struct k8s_pods *k8s_pods_ref(struct k8s_pods *l)
{
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    return l;
}

void k8s_pods_unref(struct k8s_pods *l)
{
    if (l == NULL || atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
        return;
    cs_arena_free(l->arena);
    cs_free(l->at);
    cs_free(l);
}
