/* SPDX-License-Identifier: Apache-2.0
 *
 * What the node attestors have in common.
 */
#include "plugins/modules/kubernetes/plugins.h"
#include "spiffe/id.h"

cs_code k8s_note_remarks(const struct config_remarks *r, struct plugin_notes *notes, struct cs_err *e)
{
    for (size_t i = 0; i < r->len; i++)
        if (plugin_notes_add(notes, r->at[i]) != CS_OK)
            return cs_nomem(e);
    return CS_OK;
}

/* --- Payloads --- */

void k8s_payload_free(struct k8s_payload *p)
{
    if (p->token.len > 0)
        cs_wipe((void *)(uintptr_t)p->token.data, p->token.len);
    json_decref(p->object);
    *p = (struct k8s_payload){0};
}

cs_code k8s_payload_read(struct cs_slice in, const char *what, struct k8s_payload *out, struct cs_err *e)
{
    json_error_t why;
    *out = (struct k8s_payload){0};
    if (in.len == 0)
        return cs_fail(e, CS_INVALID, "missing attestation payload");
    out->object = json_loadb((const char *)in.data, in.len, 0, &why);
    if (!json_is_object(out->object)) {
        k8s_payload_free(out);
        return cs_fail(e, CS_INVALID, "%s: it is not a JSON object", what);
    }
    const json_t *token = json_object_get(out->object, "token");
    out->cluster = kube_text(out->object, "cluster");
    out->token = cs_slice_of(kube_text(out->object, "token"), json_string_length(token));
    if (out->cluster[0] != '\0' && out->token.len > 0)
        return CS_OK;
    const char *missing = out->cluster[0] == '\0' ? "cluster" : "token";
    k8s_payload_free(out);
    return cs_fail(e, CS_INVALID, "missing %s in attestation data", missing);
}

/* --- Service accounts --- */

cs_code k8s_account_read(const char *username, struct cs_arena *a, struct k8s_account *out, struct cs_err *e)
{
    if (username[0] == '\0')
        return cs_fail(e, CS_INTERNAL, "empty username");
    const char *part[4];
    size_t count = 0;
    for (const char *at = username; at != NULL; at = strchr(at, ':')) {
        at += count > 0; /* the colon */
        if (count == 4)
            return cs_fail(e, CS_INTERNAL, "unexpected username format: %s", username);
        part[count++] = at;
    }
    if (count != 4)
        return cs_fail(e, CS_INTERNAL, "unexpected username format: %s", username);
    if (part[2] + 1 == part[3])
        return cs_fail(e, CS_INTERNAL, "missing namespace");
    if (part[3][0] == '\0')
        return cs_fail(e, CS_INTERNAL, "missing service account name");
    out->namespace = cs_arena_strndup(a, part[2], (size_t)(part[3] - 1 - part[2]));
    out->name = cs_arena_strdup(a, part[3]);
    out->full = cs_arena_strdup(a, part[2]);
    return out->namespace != NULL && out->name != NULL && out->full != NULL ? CS_OK : cs_nomem(e);
}

/* --- Sessions --- */

cs_code k8s_session_new(struct k8s_session **out, struct cs_err *e)
{
    CS_AUTO(k8s_session) s = cs_calloc(1, sizeof *s);
    if (s == NULL || (s->arena = cs_arena_new(0, 0)) == NULL)
        return cs_nomem(e);
    *out = CS_MOVE(s);
    return CS_OK;
}

void k8s_session_end(void *self, void *session)
{
    struct k8s_session *s = session;
    (void)self;
    cs_arena_free(s->arena);
    cs_vec_free(&s->selectors);
    cs_free(s);
}

cs_code k8s_select(struct k8s_session *s, const char *kind, const char *value, struct cs_err *e)
{
    char *text = cs_arena_printf(s->arena, "%s:%s", kind, value);
    return text != NULL && cs_vec_push(&s->selectors, text) == CS_OK ? CS_OK : cs_nomem(e);
}

cs_code k8s_admit(struct k8s_session *s, const char *trust_domain, const char *attestor, const char *cluster,
                  const char *last, struct nodeattestor_step *step, struct cs_err *e)
{
    struct spiffe_id id, copy;
    const char *path = cs_arena_printf(s->arena, "/spire/agent/%s/%s/%s", attestor, cluster, last);
    if (path == NULL)
        return cs_nomem(e);
    CS_TRY(spiffe_id_make(s->arena, cs_slice_str(trust_domain), cs_slice_str(path), &id, e));
    if (spiffe_id_dup(s->arena, id, &copy) != CS_OK)
        return cs_nomem(e);
    step->done = true;
    step->agent_id = (const char *)copy.text.data;
    step->selector_values = (const char *const *)s->selectors.at;
    step->selector_count = s->selectors.len;
    return CS_OK;
}

/* --- Ends --- */

static bool asked(void *arg)
{
    const struct k8s_stop *s = arg;
    for (size_t i = 0; i < 2; i++)
        if (s->any[i] != NULL && s->any[i]->asked(s->any[i]->arg))
            return true;
    return false;
}

void k8s_stop_init(struct k8s_stop *s, const struct crypto_stop *a, const struct crypto_stop *b)
{
    *s = (struct k8s_stop){.any = {a, b}, .stop = {.asked = asked, .arg = s}};
}
