/* SPDX-License-Identifier: Apache-2.0
 *
 * Notifier "k8sbundle" (pkg/server/plugin/notifier/k8sbundle): the X.509 authorities of the bundle, as PEM,
 * are kept in a ConfigMap, and as caBundle in webhook configurations and API services with a label; also in
 * those that are made or changed later. Texts are SPIRE's.
 */
#include "plugins/modules/kubernetes/k8sbundle.h"

#include "plugin/notifier.h"
#include "plugins/modules/http/http.h"

#include <pthread.h>
#include <stdatomic.h>

#define CONFLICTS 5                           /* tries */
#define CONFLICT_PAUSE_NS (10 * CS_NS_PER_MS) /* as client-go's */
#define TARGETS 4                             /* of a cluster: the ConfigMap, and three with labels */
#define AGAIN_NS CS_NS_PER_S /* objects that could not be written: the first pause, doubled */
#define AGAIN_DOUBLED_MAX 8  /* to some four minutes */

/* Objects of one kind in one cluster. */
struct target {
    struct settings *settings;
    const struct config_k8sbundle_cluster *config;
    struct kube_client *client; /* of the cluster */
    const struct k8s_carrier *carrier;
    char *selector; /* "LABEL=true"; NULL: the ConfigMap */
    pthread_t watcher;
    bool watching;
    /* The watcher's alone. */
    struct crypto_stop pass_over; /* the end of all, or all objects are to be looked at again */
    bool failing;                 /* told of */
    bool missed;                  /* an object of the list could not be written */
    int64_t again_at;             /* 0: no need to */
    unsigned tries;
};

/* The last to let go of them ends their watchers. */
struct settings {
    struct notifier *notifier;
    struct config_k8sbundle config;
    struct kube_client **clients; /* one for each cluster */
    struct target *targets;
    size_t target_count;
    atomic_bool ending;
    struct crypto_stop ended;
    struct k8s_stop stop;
};

struct notifier {
    const struct plugin_env *env;
    struct plugin_slot settings;
    pthread_mutex_t lock;         /* for the pointer */
    struct spiffe_bundle *bundle; /* the last one we were told of; NULL: none yet */
};

/* --- The bundle --- */

/* The server's own, as it is now: what we were told may be older than the object that it goes into, when
 * several servers write there. */
static cs_code current_bundle(struct notifier *n, struct spiffe_bundle **out, struct cs_err *e)
{
    const struct plugin_host *host = n->env->host;
    struct cs_err why = {.code = CS_PRECONDITION};
    CS_CLEANUP(plugin_identity_free) struct plugin_identity identity = {0};
    if (host != NULL && host->identity != NULL && host->identity(host->arg, &identity, &why) == CS_OK) {
        *out = spiffe_bundle_ref(identity.bundle);
        return CS_OK;
    }
    pthread_mutex_lock(&n->lock);
    *out = n->bundle != NULL ? spiffe_bundle_ref(n->bundle) : NULL;
    pthread_mutex_unlock(&n->lock);
    if (*out != NULL)
        return CS_OK;
    return cs_fail(e, CS_PRECONDITION, "%s", why.text[0] != '\0' ? why.text : "no bundle yet");
}

static void remember_bundle(struct notifier *n, const struct spiffe_bundle *bundle)
{
    struct spiffe_bundle *mine = spiffe_bundle_ref(bundle);
    pthread_mutex_lock(&n->lock);
    struct spiffe_bundle *old = n->bundle;
    n->bundle = mine;
    pthread_mutex_unlock(&n->lock);
    spiffe_bundle_unref(old);
}

/* --- One object --- */

static cs_code object_path(const struct target *t, const char *name, struct cs_buf *out, struct cs_err *e)
{
    if (t->selector == NULL)
        return kube_path(out, e, "/api/v1/namespaces/%s/configmaps/%s", t->config->namespace, name);
    cs_buf_add_str(out, t->carrier->collection);
    return kube_path(out, e, "/%s", name);
}

/* Read, change, write. *changed: it was not up to date. */
static cs_code update_once(struct target *t, const char *path, bool *changed, struct cs_err *e)
{
    struct settings *s = t->settings;
    CS_CLEANUP(kube_json_drop) json_t *object = NULL;
    CS_CLEANUP(kube_json_drop) json_t *patch = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_AUTO(spiffe_bundle) bundle = NULL;
    if (kube_get(t->client, path, &s->stop.stop, &object, e) != CS_OK)
        return cs_wrap(e, "unable to get object");
    CS_TRY(current_bundle(s->notifier, &bundle, e)); /* after the object: see there */
    spiffe_bundle_write_pem(&pem, bundle);
    if (!cs_buf_ok(&pem))
        return cs_nomem(e);
    CS_TRY(t->carrier->patch(object, t->config->config_map_key, cs_buf_slice(&pem), &patch, e));
    *changed = patch != NULL;
    if (patch == NULL)
        return CS_OK;
    const struct kube_call q = {.method = "PATCH",
                                .path = path,
                                .body = patch,
                                .content_type = KUBE_STRATEGIC_PATCH,
                                .stop = &s->stop.stop,
                                .repeatable = true}; /* it names the version: a second one is a conflict */
    return kube_call(t->client, &q, NULL, e);
}

static cs_code update(struct target *t, const char *name, bool *changed, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    CS_TRY(object_path(t, name, &path, e));
    for (int n = 1;; n++) {
        cs_code rc = update_once(t, cs_buf_cstr(&path), changed, e);
        if (rc != CS_ABORTED || n == CONFLICTS)
            return rc;
        if (!http_pause(CONFLICT_PAUSE_NS, &t->settings->stop.stop))
            return cs_fail(e, CS_CANCELLED, "stopped");
    }
}

/* --- All objects --- */

struct round {
    struct target *target;
    struct cs_buf faults; /* "ns/name: text, " */
};

static void add_fault(struct round *r, const char *where, const struct cs_err *why)
{
    cs_buf_printf(&r->faults, "%s: %s, ", where, why->text);
}

static cs_code update_listed(void *arg, enum kube_event type, const json_t *object, bool *done,
                             struct cs_err *e)
{
    struct round *r = arg;
    struct cs_err why = {0};
    bool changed;
    (void)type, (void)done, (void)e;
    if (update(r->target, kube_name(object), &changed, &why) != CS_OK)
        add_fault(r, kube_name(object), &why);
    return CS_OK; /* the others are done all the same */
}

static void update_labelled(struct target *t, struct round *r)
{
    struct cs_err why = {0};
    const struct kube_watch w = {.path = t->carrier->collection,
                                 .label_selector = t->selector,
                                 .stop = &t->settings->stop.stop,
                                 .event = update_listed,
                                 .arg = r};
    r->target = t;
    if (kube_list(t->client, &w, &why) != CS_OK)
        add_fault(r, "unable to get list", &why);
}

static void update_config_map(struct target *t, struct round *r)
{
    struct cs_err why = {0};
    bool changed;
    CS_CLEANUP(cs_freep) char *where = cs_asprintf("%s/%s", t->config->namespace, t->config->config_map);
    if (update(t, t->config->config_map, &changed, &why) != CS_OK)
        add_fault(r, where != NULL ? where : t->config->config_map, &why);
}

static cs_code update_all(const struct settings *s, struct cs_err *e)
{
    struct round r = {0};
    for (size_t i = 0; i < s->target_count; i++) {
        if (s->targets[i].selector == NULL)
            update_config_map(&s->targets[i], &r);
        else
            update_labelled(&s->targets[i], &r);
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf faults = r.faults;
    if (faults.len == 0 && cs_buf_ok(&faults))
        return CS_OK;
    if (s->stop.stop.asked(s->stop.stop.arg))
        return cs_fail(e, CS_CANCELLED, "stopped");
    if (faults.len > 2)
        faults.len -= 2;
    /* whatever it was, it may be better the next time: the server asks again */
    return cs_fail(e, CS_UNAVAILABLE, "unable to update: %s", cs_buf_cstr(&faults));
}

/* --- Watchers: what is made or changed later --- */

static bool is_pass_over(void *arg)
{
    const struct target *t = arg;
    const struct crypto_stop *end = &t->settings->stop.stop;
    return end->asked(end->arg) || (t->again_at != 0 && cs_mono_ns(&cs_clock_system) >= t->again_at);
}

/* No event comes of what could not be written: the objects are listed again. */
static void plan_again(struct target *t)
{
    if (t->again_at != 0)
        return;
    t->again_at = cs_mono_ns(&cs_clock_system) + (AGAIN_NS << t->tries);
    t->tries += t->tries < AGAIN_DOUBLED_MAX;
}

static cs_code on_event(void *arg, enum kube_event type, const json_t *object, bool *done, struct cs_err *e)
{
    struct target *t = arg;
    const struct cs_log *log = &t->settings->notifier->env->log;
    struct cs_err why = {0};
    bool changed = false;
    (void)done, (void)e;
    if (type == KUBE_DELETED)
        return CS_OK;
    switch (update(t, kube_name(object), &changed, &why)) {
    case CS_OK:
        if (changed)
            cs_log_debug(log, "Set bundle for object", KV("name", kube_name(object)));
        break;
    case CS_PRECONDITION: /* the server has no identity yet: it will tell us of its bundle */
    case CS_CANCELLED:
        break;
    default:
        cs_log_error(log, "Unable to set bundle for object", KV("name", kube_name(object)), KV_ERR(&why));
        if (type == KUBE_LISTED) /* the others come first */
            t->missed = true;
        else
            plan_again(t);
    }
    return CS_OK;
}

/* Once, until it works again. */
static void on_listed(void *arg, const struct cs_err *fault)
{
    struct target *t = arg;
    const struct cs_log *log = &t->settings->notifier->env->log;
    if (fault != NULL && fault->code == CS_CANCELLED) /* by us */
        return;
    if (fault != NULL && !t->failing)
        cs_log_warn(log, "Unable to watch objects; trying again", KV("kind", t->carrier->name),
                    KV_ERR(fault));
    else if (fault == NULL && t->failing)
        cs_log_info(log, "Watching objects again", KV("kind", t->carrier->name));
    t->failing = fault != NULL;
    if (fault != NULL)
        return;
    if (t->missed)
        plan_again(t);
    else
        t->tries = 0;
    t->missed = false;
}

static void *watch_main(void *arg)
{
    struct target *t = arg;
    const struct crypto_stop *end = &t->settings->stop.stop;
    struct cs_err why = {0};
    const struct kube_watch w = {.path = t->carrier->collection,
                                 .label_selector = t->selector,
                                 .stop = &t->pass_over,
                                 .keep_trying = true,
                                 .event = on_event,
                                 .listed = on_listed,
                                 .arg = t};
    (void)pthread_setname_np(pthread_self(), "k8s-watch");
    cs_code rc;
    do {
        t->again_at = 0;
        t->missed = false;
        rc = kube_watch(t->client, &w, &why);
    } while (rc == CS_CANCELLED && !end->asked(end->arg));
    if (rc != CS_CANCELLED)
        cs_log_error(&t->settings->notifier->env->log, "Watching objects ended", KV("kind", t->carrier->name),
                     KV_ERR(&why));
    return NULL;
}

/* --- Settings --- */

static bool is_ending(void *arg)
{
    return atomic_load(&((struct settings *)arg)->ending);
}

static void settings_clear(void *settings)
{
    struct settings *s = settings;
    atomic_store(&s->ending, true);
    for (size_t i = 0; i < s->target_count; i++)
        if (s->targets[i].watching)
            (void)pthread_join(s->targets[i].watcher, NULL);
    for (size_t i = 0; s->clients != NULL && i < s->config.count; i++)
        kube_client_free(s->clients[i]);
}

static cs_code add_target(struct settings *s, size_t cluster, const struct k8s_carrier *carrier,
                          const char *label, struct cs_err *e)
{
    struct target *t = &s->targets[s->target_count];
    *t = (struct target){.settings = s,
                         .config = &s->config.clusters[cluster],
                         .client = s->clients[cluster],
                         .carrier = carrier};
    if (label != NULL && (t->selector = cs_arena_printf(plugin_settings_arena(s), "%s=true", label)) == NULL)
        return cs_nomem(e);
    s->target_count++;
    return CS_OK;
}

static cs_code add_cluster(struct settings *s, size_t i, struct cs_err *e)
{
    const struct config_k8sbundle_cluster *c = &s->config.clusters[i];
    const struct kube_options o = {.kubeconfig = c->kube_config_file_path};
    struct cs_err why = {0};
    if (kube_client_new(&o, &s->clients[i], &why) != CS_OK)
        return cs_fail(e, CS_INTERNAL, "unable to create new kubeClients: %s", why.text);
    CS_TRY(add_target(s, i, &k8s_config_map, NULL, e));
    if (c->webhook_label[0] != '\0') {
        CS_TRY(add_target(s, i, &k8s_mutating_webhook, c->webhook_label, e));
        CS_TRY(add_target(s, i, &k8s_validating_webhook, c->webhook_label, e));
    }
    return c->api_service_label[0] != '\0' ? add_target(s, i, &k8s_api_service, c->api_service_label, e)
                                           : CS_OK;
}

static cs_code settings_make(struct notifier *n, struct cs_slice data, struct settings **out,
                             struct cs_err *e)
{
    CS_CLEANUP(plugin_settings_drop) struct settings *s = plugin_settings_new(sizeof *s, settings_clear);
    if (s == NULL)
        return cs_nomem(e);
    struct cs_arena *arena = plugin_settings_arena(s);
    s->notifier = n;
    s->ended = (struct crypto_stop){.asked = is_ending, .arg = s};
    k8s_stop_init(&s->stop, &s->ended, n->env->stop);
    CS_TRY(config_read_k8sbundle(data, arena, &s->config, e));
    s->clients = cs_arena_zalloc(arena, s->config.count * sizeof(struct kube_client *));
    s->targets = cs_arena_zalloc(arena, s->config.count * TARGETS * sizeof *s->targets);
    if (s->clients == NULL || s->targets == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < s->config.count; i++)
        CS_TRY(add_cluster(s, i, e));
    for (size_t i = 0; i < s->target_count; i++) {
        struct target *t = &s->targets[i];
        if (t->selector == NULL)
            continue;
        t->pass_over = (struct crypto_stop){.asked = is_pass_over, .arg = t};
        if (pthread_create(&t->watcher, NULL, watch_main, t) != 0)
            return cs_fail(e, CS_INTERNAL, "unable to start informers: no thread");
        t->watching = true;
    }
    *out = CS_MOVE(s);
    return CS_OK;
}

/* --- Life --- */

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct notifier *n = cs_calloc(1, sizeof *n);
    *self = n;
    if (n == NULL)
        return cs_nomem(e);
    n->env = env;
    plugin_slot_init(&n->settings);
    (void)pthread_mutex_init(&n->lock, NULL); /* cannot fail without attributes on Linux */
    return CS_OK;
}

static void destroy(void *self)
{
    struct notifier *n = self;
    plugin_slot_destroy(&n->settings);
    spiffe_bundle_unref(n->bundle);
    pthread_mutex_destroy(&n->lock);
    cs_free(n);
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct notifier *n = self;
    struct settings *s = NULL;
    CS_TRY(settings_make(n, data, &s, e));
    plugin_slot_set(&n->settings, s);
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    struct config_k8sbundle config;
    struct cs_err fault;
    (void)env;
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    return plugin_notes_fault(notes, config_read_k8sbundle(data, arena, &config, &fault), &fault, e);
}

/* --- Notifications --- */

static cs_code bundle_changed(void *self, const struct spiffe_bundle *bundle, struct cs_err *e)
{
    struct notifier *n = self;
    remember_bundle(n, bundle);
    CS_CLEANUP(plugin_settings_drop) const struct settings *s = plugin_slot_get(&n->settings);
    if (s == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    return update_all(s, e);
}

static const struct notifier_ops ops = {.bundle_updated = bundle_changed, .bundle_loaded = bundle_changed};

const struct plugin_builtin plugin_notifier_k8sbundle = {
    .name = "k8sbundle",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
