/* SPDX-License-Identifier: Apache-2.0
 *
 * SVIDStore "sconecas_sessionmanager": SVIDs and bundles become sessions of a SCONE CAS, from which
 * confidential workloads import them. Configuration, selectors, templates and requests are those of the
 * plugin of the same name in UFCG's fork of SPIRE (ufcg-lsd/spire, branch scone-svidstore-plugin-v1).
 */
#include "plugins/modules/sconecas/store.h"

#include "base/mem.h"
#include "config/plugin_config.h"
#include "crypto/pem.h"
#include "plugin/svidstore.h"
#include "plugins/modules/sconecas/settings.h"

#include <stdlib.h>

struct store {
    struct cs_log log;
    struct scone_sessions *sessions;
    struct plugin_slot settings; /* of struct scone_settings */
};

static void destroy(void *self)
{
    struct store *s = self;
    if (s == NULL)
        return;
    scone_sessions_free(s->sessions);
    plugin_slot_destroy(&s->settings);
    cs_free(s);
}

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    const struct scone_sessions_config cfg = {.log = env->log, .stop = env->stop};
    struct store *s = cs_calloc(1, sizeof *s);
    *self = NULL;
    if (s == NULL)
        return cs_nomem(e);
    s->log = env->log;
    plugin_slot_init(&s->settings);
    cs_code rc = scone_sessions_new(&cfg, &s->sessions, e);
    if (rc != CS_OK) {
        destroy(s);
        return rc;
    }
    *self = s;
    return CS_OK;
}

/* --- Configuration --- */

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct store *s = self;
    struct scone_settings *made = NULL;
    CS_TRY(scone_settings_new(data, &s->log, &made, e));
    plugin_slot_set(&s->settings, made);
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    struct config_sconecas cfg;
    struct cs_err fault;
    (void)env;
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    return plugin_notes_fault(notes, config_read_sconecas(data, arena, &cfg, &fault), &fault, e);
}

/* --- Selectors --- */

struct selectors {
    const char *session_name, *session_hash, *bundle_name, *federated_name; /* "": not there */
};

/* What a CAS takes as name of a session, with the namespaces before it. Anything else could become another
 * line or another key of the session. */
static bool name_ok(const char *s)
{
    for (; *s != '\0'; s++)
        if ((*s < 'a' || *s > 'z') && (*s < 'A' || *s > 'Z') && (*s < '0' || *s > '9') &&
            strchr("_-.~/", *s) == NULL)
            return false;
    return true;
}

static cs_code read_selector(const char *value, struct selectors *out, struct cs_err *e)
{
    const char *colon = strchr(value, ':');
    if (colon == NULL)
        return cs_fail(e, CS_INVALID,
                       "failed to parse metadata: metadata does not contain a colon: \"%.200s\"", value);
    const struct {
        const char *key, **to;
    } keys[] = {
        {"session_name", &out->session_name},
        {"session_hash", &out->session_hash},
        {"trust_bundle_session_name", &out->bundle_name},
        {"fed_bundles_session_name", &out->federated_name},
    };
    const struct cs_slice key = cs_slice_of(value, (size_t)(colon - value));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (cs_slice_is(key, keys[i].key))
            *keys[i].to = colon + 1;
    return CS_OK;
}

static cs_code read_selectors(const char *const *metadata, size_t count, struct selectors *out,
                              struct cs_err *e)
{
    *out = (struct selectors){"", "", "", ""};
    for (size_t i = 0; i < count; i++)
        CS_TRY(read_selector(metadata[i], out, e));
    if (*out->session_name == '\0' || *out->session_hash == '\0')
        return cs_fail(e, CS_INVALID, "selectors session_name and session_hash required");
    const char *const names[] = {out->session_name, out->bundle_name, out->federated_name};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!name_ok(names[i]))
            return cs_fail(e, CS_INVALID, "\"%.200s\" cannot be the name of a session", names[i]);
    if (!scone_hash_ok(cs_slice_str(out->session_hash)))
        return cs_fail(e, CS_INVALID, "session_hash \"%.200s\" cannot be the hash of a session",
                       out->session_hash);
    return CS_OK;
}

/* --- What is put in --- */

struct texts {
    struct cs_buf leaf, intermediates, key, bundle, federated;
};
static void texts_free(struct texts *t)
{
    cs_buf_free(&t->leaf);
    cs_buf_free(&t->intermediates);
    cs_buf_wipe(&t->key);
    cs_buf_free(&t->bundle);
    cs_buf_free(&t->federated);
}

static int by_trust_domain(const void *a, const void *b)
{
    const struct svidstore_federated *const *l = a, *const *r = b;
    return strcmp((*l)->trust_domain, (*r)->trust_domain);
}

/* In the order of their names, so that the same bundles make the same session. */
static cs_code write_federated(const struct svidstore_svid *svid, struct cs_buf *out, struct cs_err *e)
{
    const size_t n = svid->federated_count;
    CS_CLEANUP(cs_freep) const struct svidstore_federated **sorted = cs_calloc(n + 1, sizeof(void *));
    if (sorted == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &svid->federated[i];
    qsort(sorted, n, sizeof(void *), by_trust_domain);
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < sorted[i]->root_count; r++)
            pem_write(out, PEM_CERTIFICATE, sorted[i]->roots[r]);
    return CS_OK;
}

static cs_code write_texts(const struct svidstore_svid *svid, struct texts *t, struct cs_err *e)
{
    if (svid->chain_count == 0 || svid->key.len == 0)
        return cs_fail(e, CS_INVALID, "unable to parse svid data: no certificate, or no key");
    pem_write(&t->leaf, PEM_CERTIFICATE, svid->chain[0]);
    for (size_t i = 1; i < svid->chain_count; i++)
        pem_write(&t->intermediates, PEM_CERTIFICATE, svid->chain[i]);
    if (!cs_buf_reserve(&t->key, 2 * svid->key.len + 128)) /* no copy is left behind by growing */
        return cs_nomem(e);
    pem_write(&t->key, PEM_PRIVATE_KEY, svid->key);
    for (size_t i = 0; i < svid->bundle_count; i++)
        pem_write(&t->bundle, PEM_CERTIFICATE, svid->bundle[i]);
    CS_TRY(write_federated(svid, &t->federated, e));
    return cs_buf_ok(&t->leaf) && cs_buf_ok(&t->intermediates) && cs_buf_ok(&t->key) &&
                   cs_buf_ok(&t->bundle) && cs_buf_ok(&t->federated)
               ? CS_OK
               : cs_nomem(e);
}

static void fill_values(const struct selectors *sel, const struct texts *t, struct scone_values *v)
{
    *v = (struct scone_values){0};
    v->at[SCONE_LEAF] = cs_buf_slice(&t->leaf);
    v->at[SCONE_INTERMEDIATES] = cs_buf_slice(&t->intermediates);
    v->at[SCONE_KEY] = cs_buf_slice(&t->key);
    v->at[SCONE_SESSION_NAME] = cs_slice_str(sel->session_name);
    v->at[SCONE_SESSION_HASH] = cs_slice_str(sel->session_hash);
    v->at[SCONE_BUNDLE_NAME] = cs_slice_str(sel->bundle_name);
    v->at[SCONE_BUNDLE_PEM] = cs_buf_slice(&t->bundle);
    v->at[SCONE_FEDERATED_NAME] = cs_slice_str(sel->federated_name);
    v->at[SCONE_FEDERATED_PEM] = cs_buf_slice(&t->federated);
}

/* --- Operations --- */

static cs_code name_of(const struct scone_settings *g, enum scone_kind kind, const struct scone_values *v,
                       struct cs_buf *out, struct cs_err *e)
{
    CS_TRY(scone_template_name(g->templates[kind], v, out, e));
    return scone_name_check(cs_buf_cstr(out), e);
}

static cs_code put_kind(struct store *s, const struct scone_settings *g, enum scone_kind kind,
                        const struct scone_values *v, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf name = {0};
    CS_TRY(name_of(g, kind, v, &name, e));
    const struct scone_session session = {
        .template = g->templates[kind],
        .name = cs_buf_cstr(&name),
        .values = *v,
        .secret = kind == SCONE_SVID ? v->at[SCONE_KEY] : (struct cs_slice){0},
    };
    return scone_sessions_put(s->sessions, g->cas, &session, e);
}

/* Without its selector a session has a name only if the template gives it one. */
static bool is_named(const struct scone_settings *g, enum scone_kind kind, enum scone_placeholder p,
                     const struct scone_values *v)
{
    return v->at[p].len > 0 || !scone_template_has(g->templates[kind], p);
}

static cs_code unable(cs_code rc, const char *what, struct cs_err *e)
{
    struct cs_err why = {0};
    if (rc == CS_OK)
        return rc;
    if (e != NULL)
        why = *e;
    return cs_fail(e, rc == CS_INVALID ? CS_INVALID : CS_UNAVAILABLE, "unable to post %s into cas: %s", what,
                   why.text);
}

/* What the CAS has already is not posted again, so a call that comes again goes on where the last one
 * failed. */
static cs_code put_all(struct store *s, const struct scone_settings *g, const struct svidstore_svid *svid,
                       const struct scone_values *v, struct cs_err *e)
{
    CS_TRY(unable(put_kind(s, g, SCONE_SVID, v, e), "svid", e));
    if (is_named(g, SCONE_BUNDLE, SCONE_BUNDLE_NAME, v))
        CS_TRY(unable(put_kind(s, g, SCONE_BUNDLE, v, e), "bundle", e));
    if (svid->federated_count == 0)
        return CS_OK;
    if (is_named(g, SCONE_FEDERATED, SCONE_FEDERATED_NAME, v))
        return unable(put_kind(s, g, SCONE_FEDERATED, v, e), "federated bundles", e);
    cs_log_warn(&s->log,
                "The entry has federated bundles and no selector fed_bundles_session_name: they are not "
                "stored",
                KV("spiffe_id", svid->spiffe_id));
    return CS_OK;
}

static cs_code put(void *self, const struct svidstore_svid *svid, const char *const *metadata,
                   size_t metadata_count, struct cs_err *e)
{
    struct store *s = self;
    struct selectors sel;
    struct scone_values v;
    CS_CLEANUP(texts_free) struct texts t = {0};
    CS_CLEANUP(plugin_settings_drop) const struct scone_settings *g = plugin_slot_get(&s->settings);
    if (g == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    if (read_selectors(metadata, metadata_count, &sel, e) != CS_OK)
        return cs_wrap(e, "cannot extract workload info from selectors");
    CS_TRY(write_texts(svid, &t, e));
    fill_values(&sel, &t, &v);
    return put_all(s, g, svid, &v, e);
}

/* A CAS has no way to delete a session. The predecessor files stay, for an entry that comes back. */
static cs_code remove_svid(void *self, const char *const *metadata, size_t metadata_count, struct cs_err *e)
{
    struct store *s = self;
    struct selectors sel;
    struct scone_values v;
    struct texts none = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf name = {0};
    CS_CLEANUP(plugin_settings_drop) const struct scone_settings *g = plugin_slot_get(&s->settings);
    (void)e;
    if (g == NULL || read_selectors(metadata, metadata_count, &sel, NULL) != CS_OK)
        return CS_OK;
    fill_values(&sel, &none, &v);
    if (name_of(g, SCONE_SVID, &v, &name, NULL) == CS_OK)
        scone_sessions_release(s->sessions, cs_buf_cstr(&name));
    return CS_OK;
}

/* Half of the posts there may be, so that some that hang do not keep all the others out. */
static const struct svidstore_ops ops = {.put = put, .remove = remove_svid, .calls_max = SCONE_POSTS_MAX / 2};

const struct plugin_builtin scone_store = {
    .name = "sconecas_sessionmanager",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
