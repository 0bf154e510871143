/* SPDX-License-Identifier: Apache-2.0
 *
 * SVIDStore "gcp_secretmanager": selectors, calls, label and texts are SPIRE's
 * (doc/plugin_agent_svidstore_gcp_secretmanager.md).
 */
#include "config/plugin_config.h"
#include "plugin/settings.h"
#include "plugin/svidstore.h"
#include "plugins/modules/gcp/gcp.h"
#include "plugins/modules/gcp/plugins.h"
#include "plugins/modules/gcp/secret.h"

#define POLICY_TRIES 3 /* when somebody else changes the policy in between */

struct store {
    struct plugin_env env;
    char label[GCP_LABEL_LEN + 1];
    struct plugin_slot settings; /* of struct settings */
};

struct settings {
    struct gcp *gcp;
};

/* --- Life --- */

static void destroy(void *self)
{
    struct store *s = self;
    plugin_slot_destroy(&s->settings);
    cs_free(s);
}

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct store *s = cs_calloc(1, sizeof *s);
    *self = NULL;
    if (s == NULL)
        return cs_nomem(e);
    s->env = *env;
    plugin_slot_init(&s->settings);
    cs_code rc = gcp_label(env->trust_domain, s->label, e);
    if (rc != CS_OK) {
        destroy(s);
        return rc;
    }
    *self = s;
    return CS_OK;
}

static void clear(void *settings)
{
    struct settings *s = settings;
    gcp_free(s->gcp);
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct store *s = self;
    struct config_gcp_secretmanager c;
    struct cs_err local;
    e = e != NULL ? e : &local;
    CS_CLEANUP(plugin_settings_drop) struct settings *made = plugin_settings_new(sizeof *made, clear);
    if (made == NULL)
        return cs_nomem(e);
    CS_TRY(config_read_gcp_secretmanager(data, plugin_settings_arena(made), &c, e));
    if (gcp_new(c.service_account_file, s->env.stop, s->env.clock, &made->gcp, e) != CS_OK) {
        (void)cs_wrap(e, "failed to create secretmanager client");
        return e->code = CS_INTERNAL; /* as SPIRE's, whatever it is */
    }
    plugin_slot_set(&s->settings, CS_MOVE(made));
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    struct config_gcp_secretmanager c;
    struct cs_err fault;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    return plugin_notes_fault(notes, config_read_gcp_secretmanager(data, a, &c, &fault), &fault, e);
}

/* --- Calls --- */

/* One operation on one secret. */
struct job {
    const struct store *store;
    const struct settings *settings;
    struct gcp_place place;
    char *resource; /* by the place: "projects/P/secrets/N" */
    json_t *answer; /* what `secret` views */
    struct gcp_secret secret;
};

static void job_free(struct job *j)
{
    gcp_json_drop(&j->answer);
    cs_free(j->resource);
    plugin_settings_unref(j->settings);
}

static cs_code job_begin(struct store *s, const char *const *metadata, size_t count, struct job *j,
                         struct cs_err *e)
{
    *j = (struct job){.store = s};
    CS_TRY(gcp_place_read(metadata, count, &j->place, e));
    j->settings = plugin_slot_get(&s->settings);
    if (j->settings == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    j->resource = gcp_place_resource(&j->place);
    return j->resource != NULL ? CS_OK : cs_nomem(e);
}

/* The error of a call under what failed: Internal like SPIRE's, so that it is tried again. */
static cs_code failed(cs_code rc, const char *what, struct cs_err *e)
{
    if (rc == CS_OK || rc == CS_CANCELLED)
        return rc;
    (void)cs_wrap(e, "%s", what);
    return e->code = CS_INTERNAL;
}

/* METHOD /v1/RESOURCE SUFFIX; the suffix is escaped. */
static cs_code call(const struct job *j, const char *method, const char *resource, const char *suffix,
                    const struct cs_buf *body, json_t **answer, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *path = cs_asprintf("%s%s", resource, suffix);
    *answer = NULL;
    if (path == NULL)
        return cs_nomem(e);
    return gcp_call(j->settings->gcp, method, path, body != NULL ? cs_buf_slice(body) : (struct cs_slice){0},
                    answer, e);
}

static cs_code take_secret(struct job *j, json_t *answer, struct cs_err *e)
{
    gcp_json_drop(&j->answer);
    j->answer = answer;
    return gcp_secret_read(answer, &j->place, j->store->label, &j->secret, e);
}

/* *found: it is there, and ours. */
static cs_code get_secret(struct job *j, bool *found, struct cs_err *e)
{
    json_t *answer;
    *found = false;
    cs_code rc = call(j, "GET", j->resource, "", NULL, &answer, e);
    if (rc == CS_NOT_FOUND)
        return CS_OK;
    if (rc == CS_OK)
        rc = take_secret(j, answer, e);
    if (rc != CS_OK)
        return failed(rc, "failed to get secret", e);
    if (!j->secret.ours)
        return cs_fail(e, CS_INVALID, "secret is not managed by this SPIRE deployment");
    *found = true;
    return CS_OK;
}

/* CS_EXISTS: somebody made it in between, or we did, and the first answer was lost. */
static cs_code create_secret(struct job *j, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
    json_t *answer;
    CS_CLEANUP(cs_freep)
    char *path = cs_asprintf("projects/%s/secrets?secretId=%s", j->place.project, j->place.name);
    if (path == NULL)
        return cs_nomem(e);
    CS_TRY(gcp_body_create(&j->place, j->store->label, &body, e));
    cs_code rc = gcp_call(j->settings->gcp, "POST", path, cs_buf_slice(&body), &answer, e);
    if (rc == CS_EXISTS)
        return rc;
    if (rc == CS_OK)
        rc = take_secret(j, answer, e);
    CS_TRY(failed(rc, "failed to create secret", e));
    cs_log_debug(&j->store->env.log, "Secret created", KV("secret_name", j->secret.resource));
    return CS_OK;
}

/* *found: it was there before. */
static cs_code get_or_create(struct job *j, bool *found, struct cs_err *e)
{
    CS_TRY(get_secret(j, found, e));
    if (*found)
        return CS_OK;
    cs_code rc = create_secret(j, e);
    if (rc != CS_EXISTS)
        return rc;
    struct cs_err exists = *e;
    CS_TRY(get_secret(j, found, e));
    if (*found)
        return CS_OK;
    *e = exists; /* and gone again */
    return failed(rc, "failed to create secret", e);
}

/* --- The policy --- */

/* CS_ABORTED: it was changed since it had the etag. */
static cs_code set_policy(const struct job *j, const char *etag, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
    CS_CLEANUP(gcp_json_drop) json_t *answer = NULL;
    CS_TRY(gcp_body_policy(&j->place, etag, &body, e));
    CS_TRY(call(j, "POST", j->resource, ":setIamPolicy", &body, &answer, e));
    cs_log_debug(&j->store->env.log, "Secret IAM Policy updated",
                 KV_INT("version", json_integer_value(json_object_get(answer, "version"))),
                 KV("etag", gcp_text(answer, "etag")), KV("secret_name", j->secret.resource));
    return CS_OK;
}

/* Of a secret that was there: set unless it is what it should be. SPIRE leaves the etag out, and what is
 * changed by somebody else between reading and writing is lost. */
static cs_code update_policy(const struct job *j, struct cs_err *e)
{
    for (int n = 1;; n++) {
        CS_CLEANUP(gcp_json_drop) json_t *policy = NULL;
        CS_TRY(failed(call(j, "GET", j->secret.resource, ":getIamPolicy", NULL, &policy, e),
                      "failed to get IAM policy", e));
        if (gcp_policy_is(policy, &j->place))
            return CS_OK;
        const cs_code rc = set_policy(j, gcp_text(policy, "etag"), e);
        if (rc != CS_ABORTED || n == POLICY_TRIES)
            return failed(rc, "failed to set IAM policy to secret", e);
    }
}

static cs_code apply_policy(const struct job *j, bool found, struct cs_err *e)
{
    if (*j->place.role == '\0')
        return CS_OK;
    if (found)
        return update_policy(j, e);
    return failed(set_policy(j, "", e), "failed to set IAM policy to secret", e);
}

/* --- Operations --- */

static cs_code add_version(const struct job *j, const struct svidstore_svid *svid, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf value = {0}, body = {0};
    CS_CLEANUP(gcp_json_drop) json_t *answer = NULL;
    CS_TRY(plugin_svid_secret_json(svid, &value, e));
    CS_TRY(gcp_body_version(cs_buf_slice(&value), &body, e));
    const cs_code rc = call(j, "POST", j->secret.resource, ":addVersion", &body, &answer, e);
    CS_TRY(failed(rc, "failed to add secret version", e));
    cs_log_debug(&j->store->env.log, "Secret payload updated", KV("state", gcp_text(answer, "state")),
                 KV("name", gcp_text(answer, "name")));
    return CS_OK;
}

static cs_code put(void *self, const struct svidstore_svid *svid, const char *const *metadata, size_t count,
                   struct cs_err *e)
{
    CS_CLEANUP(job_free) struct job j = {0};
    struct cs_err local;
    bool found;
    e = e != NULL ? e : &local;
    CS_TRY(job_begin(self, metadata, count, &j, e));
    CS_TRY(get_or_create(&j, &found, e));
    CS_TRY(apply_policy(&j, found, e));
    return add_version(&j, svid, e);
}

static cs_code delete_secret(const struct job *j, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf query = {0};
    CS_CLEANUP(gcp_json_drop) json_t *answer = NULL;
    if (*j->secret.etag != '\0') {
        gcp_form_add(&query, "etag", cs_slice_str(j->secret.etag));
        if (!cs_buf_ok(&query))
            return cs_nomem(e);
    }
    CS_CLEANUP(cs_freep) char *suffix = cs_asprintf("%s%s", query.len > 0 ? "?" : "", cs_buf_cstr(&query));
    if (suffix == NULL)
        return cs_nomem(e);
    const cs_code rc = call(j, "DELETE", j->secret.resource, suffix, NULL, &answer, e);
    if (rc == CS_NOT_FOUND) /* by somebody else, or by us, and the first answer was lost */
        return CS_OK;
    return failed(rc, "failed to delete secret", e);
}

static cs_code remove_svid(void *self, const char *const *metadata, size_t count, struct cs_err *e)
{
    CS_CLEANUP(job_free) struct job j = {0};
    struct cs_err local;
    bool found;
    e = e != NULL ? e : &local;
    CS_TRY(job_begin(self, metadata, count, &j, e));
    CS_TRY(get_secret(&j, &found, e));
    if (!found) {
        cs_log_debug(&j.store->env.log, "Secret to delete not found", KV("secret_name", j.resource));
        return CS_OK;
    }
    CS_TRY(delete_secret(&j, e));
    cs_log_debug(&j.store->env.log, "Secret deleted", KV("secret_name", j.resource));
    return CS_OK;
}

#define CALLS_MAX 4 /* at a time */
static const struct svidstore_ops ops = {.put = put, .remove = remove_svid, .calls_max = CALLS_MAX};

const struct plugin_builtin plugin_svidstore_gcp_secretmanager = {
    .name = "gcp_secretmanager",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
