/* SPDX-License-Identifier: Apache-2.0
 *
 * What stores hold, kept over restarts: where each SVID was put, or was to be, and what is still to be
 * deleted. An entry that went while the agent was down is deleted by the next one that starts. Read once,
 * written by the manager's thread alone: before anything is put in a new place, and some time after it is
 * gone from an old one (deleting twice does no harm).
 */
#include "agent/store_impl.h"
#include "base/file.h"
#include "base/logfields.h"
#include "base/mem.h"
#include "crypto/jose.h"
#include "spiffe/id.h"

#include <jansson.h>
#include <stdio.h>

#define FILE_MAX ((size_t)64 << 20)

/* --- Writing --- */

static void print_entry(struct cs_buf *out, const struct agent_entry *en)
{
    cs_buf_add_str(out, out->data[out->len - 1] == '[' ? "\n{\"entry\":" : ",\n{\"entry\":");
    jose_json_string(out, cs_slice_str(en->id));
    cs_buf_add_str(out, ",\"spiffe_id\":");
    jose_json_string(out, cs_slice_str(en->spiffe_id));
    for (uint32_t i = 0; i < en->selector_count; i++) {
        cs_buf_add_str(out, i == 0 ? ",\"selectors\":[" : ",");
        jose_json_string(out, cs_slice_str(en->selectors[i]));
    }
    cs_buf_add_str(out, "]}");
}

/* Lock held. */
static void print_all(struct agent_store *s, struct cs_buf *out)
{
    void *p;
    cs_buf_add_str(out, "{\"stored\":[");
    for (size_t it = 0; cs_buf_ok(out) && (p = agent_index_next(&s->records, &it)) != NULL;)
        print_entry(out, ((const struct store_record *)p)->entry);
    for (size_t i = 0; i < s->place_count; i++)
        for (const struct store_gone *g = s->places[i].gone.first; cs_buf_ok(out) && g != NULL; g = g->next)
            print_entry(out, g->entry);
    for (size_t i = 0; cs_buf_ok(out) && i < s->remembered.len; i++)
        print_entry(out, s->remembered.at[i]);
    cs_buf_add_str(out, "\n]}\n");
}

void store_state_save(struct agent_store *s)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {.max = FILE_MAX};
    struct cs_err e;
    pthread_mutex_lock(&s->lock);
    bool wanted = s->changed_places && s->state_path != NULL;
    if (wanted)
        print_all(s, &text);
    s->changed_places = false;
    pthread_mutex_unlock(&s->lock);
    if (!wanted)
        return;
    cs_code rc =
        cs_buf_ok(&text) ? cs_file_write_atomic(s->state_path, cs_buf_slice(&text), 0600, &e) : cs_nomem(&e);
    if (rc == CS_OK)
        return;
    pthread_mutex_lock(&s->lock);
    s->changed_places = true; /* tried again with the next round */
    pthread_mutex_unlock(&s->lock);
    if (cs_log_limit_ok(&s->failures, STORE_LINES_PER_SECOND, NULL))
        cs_log_error(&s->cfg.log, "Could not write down what stores hold", KV_ERR(&e));
}

/* --- Reading --- */

struct selectors {
    Types__Selector *at;
    Types__Selector **list;
    char **types;
    size_t count;
};
static void selectors_free(struct selectors *s)
{
    for (size_t i = 0; i < s->count; i++)
        cs_free(s->types[i]);
    cs_free(s->types);
    cs_free(s->list);
    cs_free(s->at);
}

static cs_code read_selectors(const json_t *from, struct selectors *out)
{
    size_t n = json_array_size(from), i;
    json_t *item;
    if (n > AGENT_ENTRY_SELECTORS_MAX)
        return CS_INVALID;
    out->at = cs_calloc(n + 1, sizeof *out->at);
    out->list = cs_calloc(n + 1, sizeof *out->list);
    out->types = cs_calloc(n + 1, sizeof *out->types);
    if (out->at == NULL || out->list == NULL || out->types == NULL)
        return CS_INTERNAL;
    json_array_foreach(from, i, item)
    {
        const char *text = json_string_value(item);
        const char *colon = text != NULL ? strchr(text, ':') : NULL;
        if (colon == NULL)
            return CS_INVALID;
        out->types[i] = cs_strndup(text, (size_t)(colon - text));
        out->count = i + 1;
        if (out->types[i] == NULL)
            return CS_INTERNAL;
        types__selector__init(&out->at[i]);
        out->at[i].type = out->types[i];
        out->at[i].value = (char *)(uintptr_t)(colon + 1);
        out->list[i] = &out->at[i];
    }
    return CS_OK;
}

static cs_code read_entry(const json_t *from, struct agent_entry **out)
{
    CS_CLEANUP(selectors_free) struct selectors sel = {0};
    Types__Entry e = TYPES__ENTRY__INIT;
    Types__SPIFFEID id = TYPES__SPIFFEID__INIT;
    const char *name = json_string_value(json_object_get(from, "entry"));
    const char *uri = json_string_value(json_object_get(from, "spiffe_id"));
    static const char scheme[] = "spiffe://";
    if (name == NULL || uri == NULL || strncmp(uri, scheme, sizeof scheme - 1) != 0)
        return CS_INVALID;
    const char *path = uri + sizeof scheme - 1 + strcspn(uri + sizeof scheme - 1, "/");
    CS_CLEANUP(cs_freep) char *td = cs_strndup(uri, (size_t)(path - uri));
    if (td == NULL)
        return CS_INTERNAL;
    CS_TRY(read_selectors(json_object_get(from, "selectors"), &sel));
    id.trust_domain = td + sizeof scheme - 1;
    id.path = (char *)(uintptr_t)path;
    e.id = (char *)(uintptr_t)name;
    e.spiffe_id = &id;
    e.selectors = sel.list;
    e.n_selectors = sel.count;
    e.store_svid = true;
    return agent_entry_new(&e, out, NULL);
}

cs_code store_state_parse(struct cs_slice json, struct cs_vec *out, struct cs_err *e)
{
    json_error_t fault;
    json_t *root = json_loadb((const char *)json.data, json.len, JSON_REJECT_DUPLICATES, &fault);
    const json_t *list = json_object_get(root, "stored");
    cs_code rc = json_is_array(list) ? CS_OK : cs_fail(e, CS_INVALID, "it is not what was written");
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n && rc == CS_OK; i++) {
        struct agent_entry *en = NULL;
        rc = read_entry(json_array_get(list, i), &en);
        if (rc == CS_OK && cs_vec_push(out, en) != CS_OK) {
            agent_entry_unref(en);
            rc = CS_INTERNAL;
        }
        if (rc != CS_OK)
            (void)cs_fail(e, rc, rc == CS_INVALID ? "it is not what was written" : "out of memory");
    }
    json_decref(root);
    return rc;
}

cs_code store_state_load(struct agent_store *s, const char *path, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    struct cs_err fault;
    if (path == NULL)
        return CS_OK;
    s->state_path = cs_strdup(path);
    if (s->state_path == NULL)
        return cs_nomem(e);
    cs_code rc = cs_file_read(path, FILE_MAX, &text, &fault);
    if (rc == CS_NOT_FOUND)
        return CS_OK;
    if (rc == CS_OK)
        rc = store_state_parse(cs_buf_slice(&text), &s->remembered, &fault);
    if (rc == CS_INTERNAL)
        return cs_fail(e, rc, "%s: %.400s", path, fault.text);
    if (rc != CS_OK) /* no reason to be without SVIDs; what went meanwhile is known to nobody now */
        cs_log_error(&s->cfg.log, "Could not read what stores hold; what is no longer wanted there stays",
                     KV("path", path), KV_ERR(&fault));
    return CS_OK;
}

/* --- After the first sync: lock held --- */

static bool wanted_by_another(const struct agent_store *s, uint64_t where)
{
    const void *p;
    for (size_t it = 0; (p = agent_index_next(&s->records, &it)) != NULL;)
        if (((const struct store_record *)p)->where == where)
            return true;
    return false;
}

static cs_code settle_one(struct agent_store *s, struct agent_entry *en)
{
    uint64_t where = store_where(en);
    struct store_record *r = agent_index_get(&s->records, en->id);
    if (r != NULL && r->where == where) {
        r->tried = true;
        return CS_OK;
    }
    if (wanted_by_another(s, where))
        return CS_OK;
    return store_bury_entry(s, en, where, r == NULL);
}

cs_code store_state_settle(struct agent_store *s)
{
    size_t kept = 0;
    cs_code rc = CS_OK;
    if (s->remembered_settled)
        return CS_OK;
    for (size_t i = 0; i < s->remembered.len; i++) {
        struct agent_entry *en = s->remembered.at[i];
        rc = rc == CS_OK ? settle_one(s, en) : rc;
        if (rc == CS_OK)
            agent_entry_unref(en);
        else
            s->remembered.at[kept++] = en;
        if (rc == CS_NOT_FOUND) { /* the plugin may be back with the next configuration */
            cs_log_warn(&s->cfg.log, "What an SVIDStore holds stays: the plugin is not configured any more",
                        KV(CS_F_ENTRY, en->id), KV(CS_F_SPIFFE_ID, en->spiffe_id));
            rc = CS_OK;
        }
    }
    s->remembered.len = kept;
    s->remembered_settled = rc == CS_OK;
    return rc;
}

void store_state_free(struct agent_store *s)
{
    for (size_t i = 0; i < s->remembered.len; i++)
        agent_entry_unref(s->remembered.at[i]);
    cs_vec_free(&s->remembered);
    cs_free(s->state_path);
}
