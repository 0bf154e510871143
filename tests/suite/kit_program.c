/* SPDX-License-Identifier: Apache-2.0
 *
 * Plugins of the kinds that the examples leave out, and all host services, written with nothing but the kit.
 *
 *     kit_program notifier|publisher|composer|store
 *
 * plugin_data: journal, a file to which a line is appended for each call.
 */
#include <cspire/plugin.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct self {
    struct cspire_env *env;
    pthread_mutex_t lock;
    FILE *journal;
};

__attribute__((format(printf, 2, 3))) static void note(struct self *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pthread_mutex_lock(&s->lock);
    if (s->journal != NULL) {
        vfprintf(s->journal, fmt, ap);
        fputc('\n', s->journal);
        fflush(s->journal);
    }
    pthread_mutex_unlock(&s->lock);
    va_end(ap);
}

/* --- Host services --- */

static void ask_host(struct self *s, struct cspire_call *call)
{
    const struct cspire_identity *id;
    enum cspire_code code = cspire_host_identity(call, &id);
    if (code == CSPIRE_OK)
        note(s, "identity chain=%zu key=%d td=%s roots=%zu", id->chain_count, id->private_key.len > 0,
             id->bundle->trust_domain, id->bundle->x509_authority_count);
    else
        note(s, "identity code=%d %s", (int)code, cspire_call_error(call));
    code = cspire_host_agent_known(call, "spiffe://example.org/spire/agent/nobody");
    note(s, "agent code=%d %s", (int)code, cspire_call_error(call));
}

static void send_metrics(struct self *s, struct cspire_call *call)
{
    static const char *const key[] = {"kit_program", "calls"};
    static const struct cspire_field labels[] = {{"kind", "test"}};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct cspire_metric m = {.size = sizeof m,
                              .key = {key, 2},
                              .labels = labels,
                              .label_count = 1,
                              .value = 1,
                              .start_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec};
    for (int kind = CSPIRE_METRIC_GAUGE; kind <= CSPIRE_METRIC_SINCE; kind++) {
        m.kind = (enum cspire_metric_kind)kind;
        enum cspire_code code = cspire_host_metric(call, &m);
        note(s, "metric kind=%d code=%d", kind, (int)code);
    }
}

/* --- Notifier, BundlePublisher --- */

static void note_bundle(struct self *s, const char *what, const struct cspire_bundle *b)
{
    note(s, "%s td=%s roots=%zu jwt=%zu", what, b->trust_domain, b->x509_authority_count,
         b->jwt_authority_count);
}

static enum cspire_code bundle_loaded(void *self, struct cspire_call *call,
                                      const struct cspire_bundle *bundle)
{
    note_bundle(self, "loaded", bundle);
    send_metrics(self, call);
    return CSPIRE_OK;
}
static enum cspire_code bundle_updated(void *self, struct cspire_call *call,
                                       const struct cspire_bundle *bundle)
{
    note_bundle(self, "updated", bundle);
    ask_host(self, call);
    return CSPIRE_OK;
}
static enum cspire_code publish(void *self, struct cspire_call *call, const struct cspire_bundle *bundle)
{
    (void)call;
    note_bundle(self, "publish", bundle);
    return CSPIRE_OK;
}
static const struct cspire_notifier_ops notifier = {
    .size = sizeof notifier, .bundle_updated = bundle_updated, .bundle_loaded = bundle_loaded};
static const struct cspire_bundle_publisher_ops publisher = {.size = sizeof publisher, .publish = publish};

/* --- CredentialComposer --- */

static enum cspire_code compose_svid(void *self, struct cspire_call *call, const char *spiffe_id,
                                     struct cspire_bytes public_key, struct cspire_x509_attributes *a)
{
    note(self, "svid id=%s key=%d o=%s", spiffe_id, public_key.len > 0,
         a->subject.organization.count > 0 ? a->subject.organization.at[0] : "");
    return cspire_texts_add(call, &a->subject.organizational_unit, "composed in C");
}
static enum cspire_code compose_jwt(void *self, struct cspire_call *call, const char *spiffe_id,
                                    const char *claims)
{
    note(self, "jwt id=%s claims=%s", spiffe_id, claims);
    char *more = cspire_text(call, "%.*s,\"composed\":[\"in\",\"C\"]}", (int)strlen(claims) - 1, claims);
    return more != NULL ? cspire_reply_claims(call, more) : cspire_fail(call, CSPIRE_INTERNAL, "no memory");
}
static const struct cspire_credential_composer_ops composer = {
    .size = sizeof composer, .workload_x509_svid = compose_svid, .workload_jwt_svid = compose_jwt};

/* --- SVIDStore --- */

static enum cspire_code put(void *self, struct cspire_call *call, const struct cspire_svid *svid,
                            struct cspire_texts metadata)
{
    (void)call;
    note(self, "put id=%s chain=%zu key=%d bundle=%zu metadata=%s expires=%" PRId64, svid->spiffe_id,
         svid->chain_count, svid->private_key.len > 0, svid->bundle_count,
         metadata.count > 0 ? metadata.at[0] : "", svid->expires_at);
    return CSPIRE_OK;
}
static enum cspire_code remove_svid(void *self, struct cspire_call *call, struct cspire_texts metadata)
{
    (void)call;
    note(self, "remove metadata=%s", metadata.count > 0 ? metadata.at[0] : "");
    return CSPIRE_OK;
}
static const struct cspire_svid_store_ops store = {.size = sizeof store, .put = put, .remove = remove_svid};

/* --- Life --- */

static enum cspire_code create(struct cspire_call *call, void **out)
{
    struct self *s = calloc(1, sizeof *s);
    if (s == NULL)
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    s->env = cspire_call_env(call);
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return CSPIRE_OK;
}

static void destroy(void *arg)
{
    struct self *s = arg;
    note(s, "destroy");
    if (s->journal != NULL)
        fclose(s->journal);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static enum cspire_code configure(void *arg, struct cspire_call *call, const struct cspire_config *config)
{
    struct self *s = arg;
    const char *path = "";
    enum cspire_code code = cspire_config_string(call, config, "journal", &path);
    FILE *f = code == CSPIRE_OK ? fopen(path, "ae") : NULL;
    if (f == NULL)
        return code != CSPIRE_OK ? code : cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "journal is needed");
    pthread_mutex_lock(&s->lock);
    FILE *old = s->journal;
    s->journal = f;
    pthread_mutex_unlock(&s->lock);
    if (old != NULL)
        fclose(old);
    note(s, "configure td=%s", cspire_config_trust_domain(config));
    puts("a line on standard output");
    return CSPIRE_OK;
}

int main(int argc, char **argv)
{
    struct cspire_plugin plugin = {
        .size = sizeof plugin, .create = create, .destroy = destroy, .configure = configure};
    const char *kind = argc == 2 ? argv[1] : "";
    if (strcmp(kind, "notifier") == 0) {
        plugin.kind = CSPIRE_NOTIFIER;
        plugin.ops.notifier = &notifier;
    } else if (strcmp(kind, "publisher") == 0) {
        plugin.kind = CSPIRE_BUNDLE_PUBLISHER;
        plugin.ops.bundle_publisher = &publisher;
    } else if (strcmp(kind, "composer") == 0) {
        plugin.kind = CSPIRE_CREDENTIAL_COMPOSER;
        plugin.ops.credential_composer = &composer;
    } else if (strcmp(kind, "store") == 0) {
        plugin.kind = CSPIRE_SVID_STORE;
        plugin.ops.svid_store = &store;
    }
    return cspire_plugin_main(argc, argv, &plugin);
}
