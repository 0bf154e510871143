/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/suite/reference.h"

#include "base/file.h"
#include "base/text.h"
#include "plugin/bundlepublisher.h"
#include "plugin/credentialcomposer.h"
#include "plugin/nodeattestor_agent.h"
#include "plugin/nodeattestor_server.h"
#include "plugin/notifier.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct reference {
    const struct plugin_env *env;
    char folder[128];
};

/* --- Life --- */

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct reference *r = cs_calloc(1, sizeof *r);
    *self = r;
    if (r == NULL)
        return cs_nomem(e);
    r->env = env;
    return CS_OK;
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct reference *r = self;
    if (data.len == 0 || data.len >= sizeof r->folder)
        return cs_fail(e, CS_INVALID, "folder is required");
    memcpy(r->folder, data.data, data.len);
    r->folder[data.len] = '\0';
    return CS_OK;
}

static cs_code write_file(const struct reference *r, const char *name, const struct cs_buf *text,
                          struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *path = cs_asprintf("%s/%s", r->folder, name);
    if (path == NULL || !cs_buf_ok(text))
        return cs_nomem(e);
    return cs_file_write_atomic(path, cs_buf_slice(text), 0600, e);
}

/* --- Bundles --- */

static void dump_bytes(struct cs_buf *out, const char *what, struct cs_slice bytes)
{
    cs_buf_printf(out, "%s ", what);
    cs_hex_encode(out, bytes);
    cs_buf_add_byte(out, '\n');
}

void reference_dump_bundle(struct cs_buf *out, const struct spiffe_bundle *b)
{
    cs_buf_printf(out, "domain %s\nhint %lld\nsequence %llu\n", b->trust_domain, (long long)b->refresh_hint,
                  (unsigned long long)b->sequence_number);
    for (size_t i = 0; i < b->x509_count; i++)
        dump_bytes(out, b->x509[i].tainted ? "tainted root" : "root", b->x509[i].cert->der);
    for (size_t i = 0; i < b->jwt_count; i++) {
        cs_buf_printf(out, "key %s %lld %d\n", b->jwt[i].kid, (long long)b->jwt[i].expires_at,
                      b->jwt[i].tainted);
        dump_bytes(out, "pkix", b->jwt[i].spki);
    }
}

static cs_code take_bundle(void *self, const char *name, const struct spiffe_bundle *bundle, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    if (bundle->refresh_hint == REFERENCE_REFUSED_HINT)
        return cs_fail(e, CS_DENIED, "refused by the reference");
    reference_dump_bundle(&text, bundle);
    return write_file(self, name, &text, e);
}

static cs_code bundle_updated(void *self, const struct spiffe_bundle *bundle, struct cs_err *e)
{
    return take_bundle(self, "updated", bundle, e);
}

static cs_code bundle_loaded(void *self, const struct spiffe_bundle *bundle, struct cs_err *e)
{
    return take_bundle(self, "loaded", bundle, e);
}

static cs_code publish(void *self, const struct spiffe_bundle *bundle, struct cs_err *e)
{
    return take_bundle(self, "published", bundle, e);
}

static const struct notifier_ops notifier = {bundle_updated, bundle_loaded};
static const struct bundlepublisher_ops bundlepublisher = {publish};

/* --- CredentialComposer --- */

static cs_code add_text(struct cs_arena *a, struct credentialcomposer_texts *t, const char *text,
                        struct cs_err *e)
{
    const char **grown = cs_arena_alloc(a, (t->count + 1) * sizeof *grown);
    if (grown == NULL)
        return cs_nomem(e);
    if (t->count > 0)
        memcpy(grown, t->at, t->count * sizeof *grown);
    grown[t->count++] = text;
    t->at = grown;
    return CS_OK;
}

/* Everything that was there stays, in its order. */
static cs_code add_marks(struct cs_arena *a, struct credentialcomposer_x509 *x, struct cs_err *e)
{
    struct credentialcomposer_extension *grown = cs_arena_alloc(a, (x->extension_count + 1) * sizeof *grown);
    if (grown == NULL)
        return cs_nomem(e);
    if (x->extension_count > 0)
        memcpy(grown, x->extensions, x->extension_count * sizeof *grown);
    grown[x->extension_count++] = (struct credentialcomposer_extension){
        .oid = "1.3.6.1.4.1.55555.7", .value = cs_slice_str("\x0c\x02hi"), .critical = false};
    x->extensions = grown;
    return add_text(a, &x->subject.organizational_unit, "reference", e);
}

static cs_code server_x509_ca(void *self, struct cs_arena *a, struct credentialcomposer_x509 *x,
                              struct cs_err *e)
{
    (void)self;
    CS_TRY(add_text(a, &x->policy_identifiers, "1.2.3.9", e));
    return add_marks(a, x, e);
}

static cs_code server_x509_svid(void *self, struct cs_arena *a, struct credentialcomposer_x509 *x,
                                struct cs_err *e)
{
    (void)self;
    return add_marks(a, x, e);
}

/* One that it does not care for. */
static cs_code agent_x509_svid(void *self, struct cs_arena *a, const char *spiffe_id, struct cs_slice spki,
                               struct credentialcomposer_x509 *x, struct cs_err *e)
{
    (void)self, (void)a, (void)spiffe_id, (void)spki, (void)x;
    return cs_fail(e, CS_UNIMPLEMENTED, "not for agents");
}

static cs_code workload_x509_svid(void *self, struct cs_arena *a, const char *spiffe_id, struct cs_slice spki,
                                  struct credentialcomposer_x509 *x, struct cs_err *e)
{
    (void)self;
    const char *name = cs_arena_printf(a, "%zu.key.of.%s", spki.len, spiffe_id + strlen("spiffe://"));
    if (name == NULL)
        return cs_nomem(e);
    CS_TRY(add_text(a, &x->dns_sans, name, e));
    return add_marks(a, x, e);
}

static cs_code workload_jwt_svid(void *self, struct cs_arena *a, const char *spiffe_id,
                                 struct cs_slice *claims, struct cs_err *e)
{
    (void)self;
    if (strcmp(spiffe_id, "spiffe://example.org/refused") == 0)
        return cs_fail(e, CS_DENIED, "refused by the reference");
    /* "zz" is behind all names, where it is put */
    const char *text = cs_arena_printf(a, "%.*s,\"zz\":{\"by\":\"%s\",\"n\":0.25}}", (int)claims->len - 1,
                                       (const char *)claims->data, spiffe_id);
    if (text == NULL)
        return cs_nomem(e);
    *claims = cs_slice_str(text);
    return CS_OK;
}

static const struct credentialcomposer_ops credentialcomposer = {
    server_x509_ca, server_x509_svid, agent_x509_svid, workload_x509_svid, workload_jwt_svid};

/* --- SVIDStore --- */

void reference_dump_svid(struct cs_buf *out, const struct svidstore_svid *svid)
{
    cs_buf_printf(out, "id %s\nexpires %lld\n", svid->spiffe_id, (long long)svid->expires_at);
    for (size_t i = 0; i < svid->chain_count; i++)
        dump_bytes(out, "chain", svid->chain[i]);
    dump_bytes(out, "key", svid->key);
    for (size_t i = 0; i < svid->bundle_count; i++)
        dump_bytes(out, "root", svid->bundle[i]);
    for (size_t i = 0; i < svid->federated_count; i++) {
        const struct svidstore_federated *f = &svid->federated[i];
        cs_buf_printf(out, "federated %s ", f->trust_domain);
        for (size_t k = 0; k < f->root_count; k++) /* they come as one */
            cs_hex_encode(out, f->roots[k]);
        cs_buf_add_byte(out, '\n');
    }
}

static const char *name_of(const char *const *metadata, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strncmp(metadata[i], "name:", 5) == 0)
            return metadata[i] + 5;
    return NULL;
}

static cs_code put(void *self, const struct svidstore_svid *svid, const char *const *metadata, size_t count,
                   struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    const char *name = name_of(metadata, count);
    if (name == NULL)
        return cs_fail(e, CS_INVALID, "name is required");
    reference_dump_svid(&text, svid);
    for (size_t i = 0; i < count; i++)
        cs_buf_printf(&text, "metadata %s\n", metadata[i]);
    return write_file(self, name, &text, e);
}

static cs_code take_away(void *self, const char *const *metadata, size_t count, struct cs_err *e)
{
    const struct reference *r = self;
    const char *name = name_of(metadata, count);
    if (name == NULL)
        return cs_fail(e, CS_INVALID, "name is required");
    CS_CLEANUP(cs_freep) char *path = cs_asprintf("%s/%s", r->folder, name);
    if (path == NULL)
        return cs_nomem(e);
    (void)unlink(path);
    return CS_OK;
}

static const struct svidstore_ops svidstore = {.put = put, .remove = take_away};

/* --- NodeAttestors --- */

void reference_respond(struct cs_buf *out, struct cs_slice challenge)
{
    for (size_t i = challenge.len; i > 0; i--)
        cs_buf_add_byte(out, challenge.data[i - 1]);
}

/* A payload is a digit: how many challenges. */
struct session {
    unsigned left;
    struct cs_buf challenge;
    char payload[2], id[128], selectors[3][80];
    const char *values[3];
};

static void end(void *self, void *session)
{
    (void)self;
    struct session *s = session;
    cs_buf_free(&s->challenge);
    cs_free(s);
}

static cs_code step_of(struct session *s, struct nodeattestor_step *step, struct cs_err *e)
{
    *step = (struct nodeattestor_step){0};
    if (s->left == 0) {
        *step = (struct nodeattestor_step){.done = true,
                                           .agent_id = s->id,
                                           .selector_values = s->values,
                                           .selector_count = 3,
                                           .can_reattest = true};
        return CS_OK;
    }
    cs_buf_reset(&s->challenge);
    cs_buf_printf(&s->challenge, "challenge %u of %s", s->left--, s->payload);
    step->challenge = cs_buf_slice(&s->challenge);
    return cs_buf_ok(&s->challenge) ? CS_OK : cs_nomem(e);
}

static cs_code start(void *self, const struct nodeattestor_request *request, void **session,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    const struct reference *r = self;
    *session = NULL;
    if (request->payload.len != 1 || request->payload.data[0] < '0' || request->payload.data[0] > '9')
        return cs_fail(e, CS_DENIED, "refused by the reference");
    struct session *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->payload[0] = (char)request->payload.data[0];
    s->left = (unsigned)(s->payload[0] - '0');
    snprintf(s->id, sizeof s->id, "spiffe://%s/spire/agent/reference/%s", r->env->trust_domain, s->payload);
    snprintf(s->selectors[0], sizeof s->selectors[0], "ip:%s", request->client_ip);
    snprintf(s->selectors[1], sizeof s->selectors[1], "host:%s", request->host != NULL ? request->host : "");
    snprintf(s->selectors[2], sizeof s->selectors[2], "rounds:%s", s->payload);
    for (size_t i = 0; i < 3; i++)
        s->values[i] = s->selectors[i];
    *session = s;
    return step_of(s, step, e);
}

static cs_code respond(void *self, void *session, struct cs_slice response, struct nodeattestor_step *step,
                       struct cs_err *e)
{
    struct session *s = session;
    CS_CLEANUP(cs_buf_free) struct cs_buf wanted = {0};
    (void)self;
    reference_respond(&wanted, cs_buf_slice(&s->challenge));
    if (!cs_buf_ok(&wanted) || !cs_slice_eq(response, cs_buf_slice(&wanted)))
        return cs_fail(e, CS_DENIED, "the response does not answer the challenge");
    return step_of(s, step, e);
}

static const struct nodeattestor_ops nodeattestor = {start, respond, end};

static cs_code aid(void *self, const struct nodeattestor_agent_stream *stream, struct cs_err *e)
{
    (void)self;
    CS_CLEANUP(cs_buf_free) struct cs_buf challenge = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf response = {0};
    bool done = false;
    CS_TRY(stream->exchange(stream->arg, cs_slice_str(REFERENCE_PAYLOAD), &challenge, &done, e));
    while (!done) {
        cs_buf_reset(&response);
        reference_respond(&response, cs_buf_slice(&challenge));
        CS_TRY(stream->exchange(stream->arg, cs_buf_slice(&response), &challenge, &done, e));
    }
    return CS_OK;
}

static const struct nodeattestor_agent_ops agent_nodeattestor = {aid};

/* --- Tables --- */

#define REFERENCE(kind)                                                                                      \
    static const struct plugin_builtin kind##_builtin = {                                                    \
        .name = "reference", .ops = &kind, .create = create, .destroy = cs_free, .configure = configure};    \
    static const struct plugin_builtin *const kind##_list[] = {&kind##_builtin}
REFERENCE(notifier);
REFERENCE(bundlepublisher);
REFERENCE(credentialcomposer);
REFERENCE(svidstore);
REFERENCE(nodeattestor);
REFERENCE(agent_nodeattestor);

const struct plugin_kind reference_server_kinds[] = {
    {.type = PLUGIN_TYPE_NODEATTESTOR, .builtins = nodeattestor_list, .builtin_count = 1},
    {.type = PLUGIN_TYPE_NOTIFIER, .builtins = notifier_list, .builtin_count = 1},
    {.type = PLUGIN_TYPE_BUNDLEPUBLISHER, .builtins = bundlepublisher_list, .builtin_count = 1},
    {.type = PLUGIN_TYPE_CREDENTIALCOMPOSER, .builtins = credentialcomposer_list, .builtin_count = 1},
};
const size_t reference_server_kind_count = sizeof reference_server_kinds / sizeof reference_server_kinds[0];
const struct plugin_kind reference_agent_kinds[] = {
    {.type = PLUGIN_TYPE_NODEATTESTOR, .builtins = agent_nodeattestor_list, .builtin_count = 1},
    {.type = PLUGIN_TYPE_SVIDSTORE, .builtins = svidstore_list, .builtin_count = 1},
};
const size_t reference_agent_kind_count = sizeof reference_agent_kinds / sizeof reference_agent_kinds[0];
