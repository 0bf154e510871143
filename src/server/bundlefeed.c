/* SPDX-License-Identifier: Apache-2.0 */
#include "server/bundlefeed.h"

#include "base/mem.h"
#include "loop/loop.h"
#include "plugin/bundlepublisher.h"
#include "plugin/notifier.h"

#include <pthread.h>

/* One plugin. The flags are guarded by the feed's lock. */
struct outlet {
    struct bundlefeed *feed;
    const struct catalog_plugin *plugin;
    bool notifier;   /* otherwise a publisher */
    bool loaded_due; /* "bundle loaded" is still to be told */
    bool due;        /* there is a bundle that it was not given */
    bool running;    /* a job is queued or at work */
    bool was_away;   /* the last call found nobody */
};

struct bundlefeed {
    struct bundlefeed_config cfg;
    struct cs_log notify_log, publish_log;
    pthread_mutex_t lock;
    bool started, stopping;
    struct loop_pool *pool; /* a thread for each outlet; NULL without any */
    struct outlet *outlets;
    size_t count;
};

/* --- Calls --- */

static cs_code notify(struct outlet *o, const struct spiffe_bundle *bundle, bool loaded, struct cs_err *e)
{
    const struct notifier_ops *ops = o->plugin->ops;
    cs_code rc = loaded ? ops->bundle_loaded(o->plugin->self, bundle, e)
                        : ops->bundle_updated(o->plugin->self, bundle, e);
    if (rc == CS_UNIMPLEMENTED)
        return CS_OK;
    return plugin_answer(o->plugin->type, o->plugin->name, rc, e);
}

static bool is_stopping(struct bundlefeed *f)
{
    pthread_mutex_lock(&f->lock);
    bool stopping = f->stopping;
    pthread_mutex_unlock(&f->lock);
    return stopping;
}

static cs_code tell(struct outlet *o, const struct spiffe_bundle *bundle, bool loaded)
{
    struct bundlefeed *f = o->feed;
    struct cs_err err = {0};
    const char *event = loaded ? "bundle loaded" : "bundle updated";
    cs_code rc = notify(o, bundle, loaded, &err);
    if (rc == CS_OK) {
        cs_log_debug(&f->notify_log, "Notifier handled event", KV("event", event),
                     KV("notifier", o->plugin->name));
        return rc;
    }
    if (is_stopping(f))
        return rc;
    cs_log(&f->notify_log, loaded ? CS_LOG_ERROR : CS_LOG_WARN, "Notifier failed to handle event",
           KV_ERR(&err), KV("event", event), KV("notifier", o->plugin->name));
    (void)cs_wrap(&err, "one or more notifiers returned an error");
    if (loaded)
        f->cfg.refused(f->cfg.arg, &err);
    else
        cs_log_warn(&f->notify_log, "Failed to notify on bundle update", KV_ERR(&err));
    return rc;
}

static cs_code publish(struct outlet *o, const struct spiffe_bundle *bundle)
{
    const struct bundlepublisher_ops *ops = o->plugin->ops;
    struct cs_err err = {0};
    cs_code rc = ops->publish(o->plugin->self, bundle, &err);
    rc = plugin_answer(o->plugin->type, o->plugin->name, rc, &err);
    if (rc != CS_OK && !is_stopping(o->feed))
        cs_log_error(&o->feed->publish_log, "Failed to publish bundle", KV(o->plugin->type, o->plugin->name),
                     KV_ERR(&err));
    return rc;
}

static void serve(struct outlet *o, bool loaded)
{
    CS_AUTO(spiffe_bundle) bundle = bundlestore_own(o->feed->cfg.bundles);
    if (bundle == NULL) /* deleted by hand: the next authority makes a new one, and a change */
        return;
    cs_code rc = o->notifier ? tell(o, bundle, loaded) : publish(o, bundle);
    pthread_mutex_lock(&o->feed->lock);
    o->was_away = rc == CS_UNAVAILABLE;
    pthread_mutex_unlock(&o->feed->lock);
}

/* --- Jobs --- */

/* What is to be told next; false: nothing, and the job is over. */
static bool take(struct outlet *o, bool *loaded)
{
    struct bundlefeed *f = o->feed;
    pthread_mutex_lock(&f->lock);
    bool any = !f->stopping && (o->loaded_due || o->due);
    *loaded = o->loaded_due;
    o->loaded_due = false;
    o->due = false;
    o->running = any;
    pthread_mutex_unlock(&f->lock);
    return any;
}

static void job(void *arg)
{
    struct outlet *o = arg;
    for (bool loaded; take(o, &loaded);)
        serve(o, loaded);
}

/* Under the lock. */
static void kick(struct outlet *o)
{
    if (!o->running && !o->feed->stopping)
        o->running = loop_pool_submit(o->feed->pool, job, o);
}

static void on_change(void *arg, const char *trust_domain)
{
    struct bundlefeed *f = arg;
    if (strcmp(trust_domain, f->cfg.trust_domain) != 0)
        return;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; f->started && i < f->count; i++) {
        f->outlets[i].due = true;
        kick(&f->outlets[i]);
    }
    pthread_mutex_unlock(&f->lock);
}

void bundlefeed_start(struct bundlefeed *f)
{
    pthread_mutex_lock(&f->lock);
    f->started = true;
    for (size_t i = 0; i < f->count; i++) {
        struct outlet *o = &f->outlets[i];
        o->loaded_due = o->notifier;
        o->due = true;
        kick(o);
    }
    pthread_mutex_unlock(&f->lock);
}

bool bundlefeed_refresh(struct bundlefeed *f)
{
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; f->started && i < f->count; i++) {
        struct outlet *o = &f->outlets[i];
        /* also after a job that found the pool full, or no memory for a thread */
        o->due |= !o->notifier || o->was_away;
        if (o->due || o->loaded_due)
            kick(o);
    }
    pthread_mutex_unlock(&f->lock);
    return f->count > 0;
}

/* --- Life --- */

static size_t add(struct bundlefeed *f, const char *type, bool notifier, size_t at)
{
    const struct catalog_plugin *p;
    for (size_t i = 0; (p = catalog_nth(f->cfg.catalog, type, i)) != NULL; i++, at++)
        if (f->outlets != NULL)
            f->outlets[at] = (struct outlet){.feed = f, .plugin = p, .notifier = notifier};
    return at;
}

static cs_code build(struct bundlefeed *f, struct cs_err *e)
{
    size_t count = add(f, PLUGIN_TYPE_BUNDLEPUBLISHER, false, add(f, PLUGIN_TYPE_NOTIFIER, true, 0));
    if (count == 0)
        return CS_OK;
    f->outlets = cs_calloc(count, sizeof *f->outlets);
    if (f->outlets == NULL)
        return cs_nomem(e);
    f->count = add(f, PLUGIN_TYPE_BUNDLEPUBLISHER, false, add(f, PLUGIN_TYPE_NOTIFIER, true, 0));
    CS_TRY(loop_pool_new("bundle-feed", (unsigned)count, (unsigned)count, &f->pool, e));
    return bundlestore_on_change(f->cfg.bundles, on_change, f, e);
}

cs_code bundlefeed_new(const struct bundlefeed_config *cfg, struct bundlefeed **out, struct cs_err *e)
{
    *out = NULL;
    struct bundlefeed *f = cs_calloc(1, sizeof *f);
    if (f == NULL)
        return cs_nomem(e);
    int rc = pthread_mutex_init(&f->lock, NULL);
    if (rc != 0) {
        cs_free(f);
        return cs_fail_errno(e, CS_INTERNAL, rc, "bundle feed lock");
    }
    f->cfg = *cfg;
    f->notify_log = cs_log_sub(cfg->log, "ca_manager");
    f->publish_log = cs_log_sub(cfg->log, "bundle_publishing");
    cs_code code = build(f, e);
    if (code != CS_OK) {
        bundlefeed_free(f);
        return code;
    }
    *out = f;
    return CS_OK;
}

void bundlefeed_stop(struct bundlefeed *f)
{
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    pthread_mutex_unlock(&f->lock);
}

void bundlefeed_free(struct bundlefeed *f)
{
    if (f == NULL)
        return;
    bundlefeed_stop(f);
    loop_pool_free(f->pool); /* NULL is fine */
    cs_free(f->outlets);
    pthread_mutex_destroy(&f->lock);
    cs_free(f);
}
