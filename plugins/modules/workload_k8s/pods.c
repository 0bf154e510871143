/* SPDX-License-Identifier: Apache-2.0
 *
 * yajl says what comes; a stack of places says where we are. What is at no place of ours is passed over.
 */
#include "plugins/modules/workload_k8s/pods.h"

#include "base/mem.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <yajl/yajl_parse.h>

struct k8s_pods {
    atomic_uint refs;
    struct cs_arena *arena; /* all texts and arrays of pods */
    struct k8s_pod *at;
    size_t count, cap, nameless;
};

/* Objects and arrays of a list that something is kept of. */
enum place {
    OTHER,
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
};

/* Which object or array is entered from where; no key: an element of an array. */
static const struct step {
    enum place from, to;
    const char *key, *what; /* what: for the text of a fault */
    bool array;
} steps[] = {
    {TOP, LIST, NULL, NULL, false},
    {LIST, ITEMS, "items", NULL, true},
    {ITEMS, POD, NULL, NULL, false},
    {POD, METADATA, "metadata", "metadata", false},
    {POD, SPEC, "spec", "spec", false},
    {POD, STATUS, "status", "status", false},
    {METADATA, LABELS, "labels", "metadata.labels", false},
    {METADATA, OWNERS, "ownerReferences", "metadata.ownerReferences", true},
    {OWNERS, OWNER, NULL, "metadata.ownerReferences", false},
    {STATUS, CONTAINERS, "containerStatuses", "status.containerStatuses", true},
    {CONTAINERS, CONTAINER, NULL, "status.containerStatuses", false},
    {STATUS, INITS, "initContainerStatuses", "status.initContainerStatuses", true},
    {INITS, INIT, NULL, "status.initContainerStatuses", false},
};

/* Which texts are kept, and where. */
static const struct field {
    enum place at;
    const char *key;
    size_t offset; /* in struct k8s_pod, or in the container or owner */
} fields[] = {
    {METADATA, "uid", offsetof(struct k8s_pod, uid)},
    {METADATA, "name", offsetof(struct k8s_pod, name)},
    {METADATA, "namespace", offsetof(struct k8s_pod, ns)},
    {SPEC, "serviceAccountName", offsetof(struct k8s_pod, service_account)},
    {SPEC, "nodeName", offsetof(struct k8s_pod, node)},
    {OWNER, "kind", offsetof(struct k8s_owner, kind)},
    {OWNER, "name", offsetof(struct k8s_owner, name)},
    {OWNER, "uid", offsetof(struct k8s_owner, uid)},
    {CONTAINER, "name", offsetof(struct k8s_container, name)},
    {CONTAINER, "image", offsetof(struct k8s_container, image)},
    {CONTAINER, "imageID", offsetof(struct k8s_container, image_id)},
    {CONTAINER, "containerID", offsetof(struct k8s_container, id)},
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* An array that grows while a pod is read and is used again for the next one. */
struct scratch {
    void *at;
    size_t count, cap, size; /* of an element */
};

/* In front of what yajl asked for. */
union block {
    struct {
        union block *prev, *next;
        size_t size;
    };
    max_align_t align;
};

struct k8s_reader {
    yajl_handle yajl;
    union block blocks; /* the ring of yajl's memory begins here */
    jmp_buf no_memory;
    struct k8s_pods *list;
    struct k8s_pod pod; /* the one being read */
    struct k8s_owner owner;
    struct k8s_container container;
    struct scratch labels, owners, containers, inits;
    enum place stack[K8S_PODS_DEPTH_MAX];
    size_t depth;
    char key[64]; /* the last one of an object of ours but the labels */
    const char *label;
    size_t fed, quiet; /* bytes so far; bytes since something came of them */
    bool items;        /* there is an array, or null */
    cs_code rc;        /* why a callback ended it */
    struct cs_err err;
};

/* --- Small things --- */

static int stop(struct k8s_reader *r, cs_code rc)
{
    r->rc = rc;
    return 0;
}

static int no_memory(struct k8s_reader *r)
{
    return stop(r, cs_arena_used(r->list->arena) > K8S_PODS_KEPT_MAX / 2
                       ? cs_fail(&r->err, CS_EXHAUSTED,
                                 "kubelet response is too large: more than %zu MiB to keep",
                                 K8S_PODS_KEPT_MAX >> 20)
                       : cs_nomem(&r->err));
}

static enum place here(const struct k8s_reader *r)
{
    return r->stack[r->depth - 1];
}

static bool push(struct scratch *s, const void *element)
{
    if (s->count == s->cap) {
        size_t cap = s->cap > 0 ? s->cap * 2 : 16;
        void *grown = cs_realloc(s->at, cap * s->size);
        if (grown == NULL)
            return false;
        s->at = grown;
        s->cap = cap;
    }
    memcpy((uint8_t *)s->at + s->count++ * s->size, element, s->size);
    return true;
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

static void set_fault(struct k8s_reader *r, const char *what, const char *key, const char *problem)
{
    if (r->pod.fault != NULL)
        return;
    r->pod.fault =
        cs_arena_printf(r->list->arena, "%s%s%s %s", what, key[0] != '\0' ? "." : "", key, problem);
    if (r->pod.fault == NULL)
        r->pod.fault = "malformed";
}

static const char *name_of(enum place p)
{
    for (size_t i = 0; i < COUNT(steps); i++)
        if (steps[i].to == p && steps[i].what != NULL)
            return steps[i].what;
    return "pod";
}

/* --- Values --- */

static const struct step *step_of(const struct k8s_reader *r)
{
    for (size_t i = 0; i < COUNT(steps); i++)
        if (steps[i].from == here(r) && (steps[i].key == NULL || strcmp(steps[i].key, r->key) == 0))
            return &steps[i];
    return NULL;
}

static const struct field *field_of(const struct k8s_reader *r)
{
    enum place at = here(r) == INIT ? CONTAINER : here(r);
    for (size_t i = 0; i < COUNT(fields); i++)
        if (fields[i].at == at && strcmp(fields[i].key, r->key) == 0)
            return &fields[i];
    return NULL;
}

static const char **slot_of(struct k8s_reader *r, const struct field *f)
{
    uint8_t *base = f->at == OWNER       ? (uint8_t *)&r->owner
                    : f->at == CONTAINER ? (uint8_t *)&r->container
                                         : (uint8_t *)&r->pod;
    return (const char **)(void *)(base + f->offset);
}

/* A value of the wrong kind. Of a pod it is the pod's fault, which counts when somebody asks for the pod;
 * what has no UID then is left out. */
static int misfit(struct k8s_reader *r)
{
    const struct step *s = step_of(r);
    if (s != NULL && s->to == LIST)
        return stop(r, cs_fail(&r->err, CS_INVALID, "invalid kubelet response: expected an object"));
    if (s != NULL && s->to == ITEMS)
        return stop(r, cs_fail(&r->err, CS_INVALID, "invalid kubelet response: expected an items array"));
    if (s != NULL && s->to == POD)
        r->list->nameless++;
    else if (s != NULL)
        set_fault(r, s->what, "", s->array ? "is not an array" : "is not an object");
    else if (here(r) == LABELS || field_of(r) != NULL)
        set_fault(r, name_of(here(r)), here(r) == LABELS ? "" : r->key,
                  here(r) == LABELS ? "is not all strings" : "is not a string");
    return 1;
}

static int on_scalar(struct k8s_reader *r)
{
    r->quiet = 0;
    return here(r) == OTHER ? 1 : misfit(r);
}

static int on_boolean(void *ctx, int value)
{
    (void)value;
    return on_scalar(ctx);
}

static int on_number(void *ctx, const char *text, size_t n)
{
    (void)text;
    (void)n;
    return on_scalar(ctx);
}

static int add_label(struct k8s_reader *r, const char *value)
{
    const struct k8s_label l = {r->label, value};
    return push(&r->labels, &l) ? 1 : no_memory(r);
}

/* null is what was not given; Go writes it for lists without elements. */
static int on_null(void *ctx)
{
    struct k8s_reader *r = ctx;
    r->quiet = 0;
    if (here(r) == OTHER)
        return 1;
    const struct step *s = step_of(r);
    if (s != NULL && (s->to == LIST || s->to == POD))
        return misfit(r);
    if (s != NULL && s->to == ITEMS)
        r->items = true;
    return here(r) == LABELS ? add_label(r, "") : 1;
}

/* Valid UTF-8, and no NUL, which would cut it off. */
static bool is_text(const unsigned char *text, size_t n)
{
    return n == 0 || (memchr(text, 0, n) == NULL && cs_utf8_valid(cs_slice_of(text, n)));
}

static const char *keep(struct k8s_reader *r, const unsigned char *text, size_t n)
{
    return n > 0 ? cs_arena_strndup(r->list->arena, (const char *)text, n) : "";
}

static int on_string(void *ctx, const unsigned char *text, size_t n)
{
    struct k8s_reader *r = ctx;
    r->quiet = 0;
    if (here(r) == OTHER)
        return 1;
    const struct field *f = here(r) == LABELS ? NULL : field_of(r);
    if (here(r) != LABELS && f == NULL)
        return step_of(r) != NULL ? misfit(r) : 1;
    if (!is_text(text, n)) {
        set_fault(r, name_of(here(r)), f != NULL ? r->key : "", "is not good UTF-8 text");
        return 1;
    }
    const char *kept = keep(r, text, n);
    if (kept == NULL)
        return no_memory(r);
    if (f == NULL)
        return add_label(r, kept);
    *slot_of(r, f) = kept;
    return 1;
}

/* --- Objects and arrays --- */

static int on_key(void *ctx, const unsigned char *text, size_t n)
{
    struct k8s_reader *r = ctx;
    r->quiet = 0;
    r->key[0] = '\0';
    if (here(r) == OTHER)
        return 1;
    if (here(r) == LABELS) {
        if (!is_text(text, n))
            set_fault(r, name_of(LABELS), "", "is not good UTF-8 text");
        r->label = keep(r, text, n);
        return r->label != NULL ? 1 : no_memory(r);
    }
    if (n < sizeof r->key) {
        memcpy(r->key, text, n);
        r->key[n] = '\0';
    }
    return 1;
}

static void begin(struct k8s_reader *r, enum place p)
{
    switch (p) {
    case POD:
        r->pod = (struct k8s_pod){.uid = "", .name = "", .ns = "", .service_account = "", .node = ""};
        r->labels.count = r->owners.count = r->containers.count = r->inits.count = 0;
        break;
    case ITEMS: /* of the same key twice, the last one counts, as with all others */
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

static int enter(struct k8s_reader *r, bool array)
{
    enum place next = OTHER;
    r->quiet = 0;
    if (r->depth == K8S_PODS_DEPTH_MAX)
        return stop(r, cs_fail(&r->err, CS_EXHAUSTED, "unable to parse kubelet response: nested too deep"));
    if (here(r) != OTHER) {
        const struct step *s = step_of(r);
        if (s != NULL && s->array == array)
            next = s->to;
        else if (misfit(r) == 0)
            return 0;
    }
    begin(r, next);
    r->stack[r->depth++] = next;
    r->key[0] = '\0';
    return 1;
}

static int on_object(void *ctx)
{
    return enter(ctx, false);
}

static int on_array(void *ctx)
{
    return enter(ctx, true);
}

static int end_pod(struct k8s_reader *r)
{
    struct k8s_pods *l = r->list;
    if (r->pod.uid[0] == '\0') {
        l->nameless++;
        return 1;
    }
    if (l->count == K8S_PODS_MAX)
        return stop(r,
                    cs_fail(&r->err, CS_EXHAUSTED, "kubelet response has more than %d pods", K8S_PODS_MAX));
    if (!settle(r, &r->labels, (const void **)&r->pod.labels, &r->pod.label_count) ||
        !settle(r, &r->owners, (const void **)&r->pod.owners, &r->pod.owner_count) ||
        !settle(r, &r->containers, (const void **)&r->pod.containers, &r->pod.container_count) ||
        !settle(r, &r->inits, (const void **)&r->pod.init_containers, &r->pod.init_container_count))
        return no_memory(r);
    if (l->count == l->cap) {
        size_t cap = l->cap > 0 ? l->cap * 2 : 64;
        struct k8s_pod *grown = cs_realloc(l->at, cap * sizeof *grown);
        if (grown == NULL)
            return stop(r, cs_nomem(&r->err));
        l->at = grown;
        l->cap = cap;
    }
    l->at[l->count++] = r->pod;
    return 1;
}

static int on_end(void *ctx)
{
    struct k8s_reader *r = ctx;
    r->quiet = 0;
    switch (r->stack[--r->depth]) {
    case POD:
        return end_pod(r);
    case OWNER:
        return push(&r->owners, &r->owner) ? 1 : no_memory(r);
    case CONTAINER:
        return push(&r->containers, &r->container) ? 1 : no_memory(r);
    case INIT:
        return push(&r->inits, &r->container) ? 1 : no_memory(r);
    default:
        return 1;
    }
}

/* --- The reader --- */

/* yajl does not look whether it got the memory it asked for. So it is left where it stands when there is
 * none, and what it has is kept in a ring, to be freed without its help. */
static void link_block(struct k8s_reader *r, union block *b)
{
    b->prev = &r->blocks;
    b->next = r->blocks.next;
    b->next->prev = b->prev->next = b;
}

static void y_free(void *ctx, void *p)
{
    (void)ctx;
    if (p == NULL)
        return;
    union block *b = (union block *)p - 1;
    b->prev->next = b->next;
    b->next->prev = b->prev;
    cs_free(b);
}

static void *y_realloc(void *ctx, void *p, size_t n)
{
    struct k8s_reader *r = ctx;
    union block *old = p != NULL ? (union block *)p - 1 : NULL;
    union block *b = cs_malloc(sizeof *b + n);
    if (b == NULL)
        longjmp(r->no_memory, 1);
    link_block(r, b);
    b->size = n;
    if (old != NULL) {
        memcpy(b + 1, p, old->size < n ? old->size : n);
        y_free(r, p);
    }
    return b + 1;
}

static void *y_malloc(void *ctx, size_t n)
{
    return y_realloc(ctx, NULL, n);
}

static cs_code set_up(struct k8s_reader *r, struct cs_err *e)
{
    static const yajl_callbacks calls = {.yajl_null = on_null,
                                         .yajl_boolean = on_boolean,
                                         .yajl_number = on_number,
                                         .yajl_string = on_string,
                                         .yajl_start_map = on_object,
                                         .yajl_map_key = on_key,
                                         .yajl_end_map = on_end,
                                         .yajl_start_array = on_array,
                                         .yajl_end_array = on_end};
    yajl_alloc_funcs memory = {y_malloc, y_realloc, y_free, r}; /* yajl copies it */
    r->list = cs_calloc(1, sizeof *r->list);
    if (r->list == NULL)
        return cs_nomem(e);
    atomic_init(&r->list->refs, 1);
    r->list->arena = cs_arena_new(16384, K8S_PODS_KEPT_MAX);
    if (r->list->arena == NULL || setjmp(r->no_memory) != 0)
        return cs_nomem(e);
    r->yajl = yajl_alloc(&calls, &memory, r);
    if (r->yajl == NULL)
        return cs_nomem(e);
    yajl_config(r->yajl, yajl_dont_validate_strings, 1); /* what is kept is looked at here: far less */
    return CS_OK;
}

cs_code k8s_reader_new(struct k8s_reader **out, struct cs_err *e)
{
    *out = NULL;
    struct k8s_reader *r = cs_calloc(1, sizeof *r);
    if (r == NULL)
        return cs_nomem(e);
    r->stack[r->depth++] = TOP;
    r->blocks.prev = r->blocks.next = &r->blocks;
    r->labels.size = sizeof(struct k8s_label);
    r->owners.size = sizeof(struct k8s_owner);
    r->containers.size = r->inits.size = sizeof(struct k8s_container);
    cs_code rc = set_up(r, e);
    if (rc != CS_OK)
        k8s_reader_free(r);
    else
        *out = r;
    return rc;
}

void k8s_reader_free(struct k8s_reader *r)
{
    if (r == NULL)
        return;
    while (r->blocks.next != &r->blocks)
        y_free(r, r->blocks.next + 1);
    cs_free(r->labels.at);
    cs_free(r->owners.at);
    cs_free(r->containers.at);
    cs_free(r->inits.at);
    k8s_pods_unref(r->list);
    cs_free(r);
}

static cs_code judge(struct k8s_reader *r, yajl_status st, struct cs_err *e)
{
    if (st == yajl_status_ok)
        return CS_OK;
    if (r->rc != CS_OK) {
        if (e != NULL)
            *e = r->err;
        return r->rc;
    }
    unsigned char *text = yajl_get_error(r->yajl, 0, NULL, 0);
    size_t n = text != NULL ? strcspn((const char *)text, "\n") : 0;
    return cs_fail(e, CS_INVALID, "unable to parse kubelet response: %.*s", (int)n,
                   text != NULL ? (const char *)text : ""); /* the text is in the ring */
}

cs_code k8s_reader_add(struct k8s_reader *r, struct cs_slice piece, struct cs_err *e)
{
    r->fed += piece.len;
    r->quiet += piece.len;
    if (r->fed > K8S_PODS_BODY_MAX)
        return cs_fail(e, CS_EXHAUSTED, "kubelet response is larger than %zu MiB", K8S_PODS_BODY_MAX >> 20);
    if (setjmp(r->no_memory) != 0)
        return cs_nomem(e);
    CS_TRY(judge(r, yajl_parse(r->yajl, piece.data, piece.len), e));
    return r->quiet <= K8S_PODS_TOKEN_MAX
               ? CS_OK
               : cs_fail(e, CS_EXHAUSTED, "kubelet response has a value larger than %zu MiB",
                         K8S_PODS_TOKEN_MAX >> 20);
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
    if (setjmp(r->no_memory) != 0)
        return cs_nomem(e);
    CS_TRY(judge(r, yajl_complete_parse(r->yajl), e));
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
