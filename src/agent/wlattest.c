/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is at the other end of a Workload API call (pkg/agent/attestor/workload and pkg/agent/endpoints of
 * SPIRE).
 */
#include "agent/enclave.h"
#include "agent/workload.h"
#include "base/logfields.h"
#include "plugin/workloadattestor.h"

#include <unistd.h>

/* "No identity issued" lines per second. */
#define DENIALS_PER_SECOND 50
#define FAILURES_PER_SECOND 20 /* lines about attestations that failed: any local process can cause them */

struct cs_log workload_log(const struct workload_api *w, struct rpc_call *call)
{
    const struct loop_peer *peer = rpc_conn_peer(rpc_call_conn(call));
    const char *path = rpc_call_method(call)->path;
    const char *method = strrchr(path, '/');
    struct cs_log log = cs_log_with(w->log, KV("service", "WorkloadAPI"));
    log = cs_log_with(log, KV("method", method != NULL ? method + 1 : path));
    return cs_log_with(log, KV_INT("pid", peer != NULL ? peer->pid : 0));
}

/* --- Attestation --- */

static cs_code add_values(struct workload_caller *out, struct cs_arena *arena, const char *type,
                          const struct workloadattestor_values *v, struct cs_err *e)
{
    const char **grown = cs_arena_alloc(arena, (out->count + v->count + 1) * sizeof *grown);
    if (grown == NULL)
        return cs_nomem(e);
    if (out->count > 0)
        memcpy(grown, out->selectors, out->count * sizeof *grown);
    out->selectors = grown;
    for (size_t i = 0; i < v->count; i++) {
        grown[out->count] = cs_arena_printf(arena, "%s:%s", type, v->at[i]);
        if (grown[out->count] == NULL)
            return cs_nomem(e);
        out->count++;
    }
    return CS_OK;
}

static cs_code ask_plugin(const struct catalog_plugin *p, struct cs_arena *arena, struct workload_caller *out,
                          struct cs_err *e)
{
    const struct workloadattestor_ops *ops = p->ops;
    struct workloadattestor_values v = {.arena = arena};
    if (ops->attest(p->self, out->pid, &v, e) != CS_OK) {
        (void)cs_wrap(e, "workloadattestor(%s)", p->name);
        return cs_wrap(e, "workload attestor \"%s\" failed", p->name);
    }
    return add_values(out, arena, p->name, &v, e);
}

static void log_selectors(const struct cs_log *log, const struct workload_caller *c)
{
    if (!cs_log_on(log, CS_LOG_DEBUG) || c->pid == getpid())
        return;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    for (size_t i = 0; i < c->count; i++) {
        const char *colon = strchr(c->selectors[i], ':');
        cs_buf_printf(&text, "%stype:\"%.*s\" value:\"%s\"", i == 0 ? "[" : " ",
                      (int)(colon - c->selectors[i]), c->selectors[i], colon + 1);
    }
    cs_buf_add_str(&text, c->count > 0 ? "]" : "[]");
    cs_log_debug(log, "PID attested to have selectors", KV(CS_F_SELECTORS, cs_buf_cstr(&text)));
}

/* All plugins; what one cannot say the others may. */
static cs_code ask_plugins(struct workload_api *w, struct cs_arena *arena, struct workload_caller *out,
                           struct cs_err *e)
{
    struct agent *a = w->agent;
    struct cs_log log = cs_log_with(cs_log_sub(a->log, "workload_attestor"), KV_INT("pid", out->pid));
    const struct catalog_plugin *p;
    size_t good = 0;
    struct cs_err first = {0};
    for (size_t n = 0; (p = catalog_nth(a->catalog, PLUGIN_TYPE_WORKLOADATTESTOR, n)) != NULL; n++) {
        struct cs_err fault;
        if (ask_plugin(p, arena, out, &fault) == CS_OK) {
            good++;
            continue;
        }
        if (cs_log_limit_ok(&w->failures, FAILURES_PER_SECOND, NULL))
            cs_log_error(&log, "Workload attestor failed", KV_ERR(&fault), KV("plugin_name", p->name));
        if (first.code == CS_OK)
            first = fault;
    }
    if (good == 0 && first.code != CS_OK) {
        if (e != NULL)
            *e = first;
        return first.code;
    }
    if (first.code != CS_OK && cs_log_limit_ok(&w->failures, FAILURES_PER_SECOND, NULL))
        cs_log_error(&log, "Failed to collect all selectors", KV_ERR(&first));
    log_selectors(&log, out);
    return CS_OK;
}

static cs_code attest_peer(struct workload_api *w, const struct loop_peer *peer, struct cs_arena *arena,
                           struct workload_caller *out, struct cs_err *e)
{
    if (peer == NULL)
        return cs_fail(e, CS_INTERNAL, "peer tracker watcher missing from context");
    out->pid = peer->pid;
    CS_TRY(ask_plugins(w, arena, out, e));
    /* Only now: the process that was looked at is the one that called. */
    if (loop_peer_check(peer, e) != CS_OK)
        return cs_wrap(e, "could not verify existence of the original caller");
    return CS_OK;
}

/* In an enclave there is nobody but the workload, and no kernel to tell who is at the other end of TCP. */
static cs_code admit(const struct loop_peer *peer, struct cs_arena *arena, struct workload_caller *out,
                     struct cs_err *e)
{
    out->pid = peer != NULL ? peer->pid : 0;
    out->selectors = cs_arena_alloc(arena, sizeof *out->selectors);
    if (out->selectors == NULL)
        return cs_nomem(e);
    out->selectors[out->count++] = AGENT_ENCLAVE_SELECTOR;
    return CS_OK;
}

cs_code workload_attest(struct workload_api *w, struct rpc_call *call, struct cs_arena *arena,
                        enum workload_limit limit, struct workload_caller *out, struct cs_err *e)
{
    struct cs_err fault;
    *out = (struct workload_caller){0};
    const struct loop_peer *peer = rpc_conn_peer(rpc_call_conn(call));
    if (w->agent->cfg->enclave.on) {
        CS_TRY(admit(peer, arena, out, e));
    } else if (attest_peer(w, peer, arena, out, &fault) != CS_OK) {
        struct cs_log log = workload_log(w, call);
        if (cs_log_limit_ok(&w->failures, FAILURES_PER_SECOND, NULL))
            cs_log_error(&log, "Workload attestation failed", KV_ERR(&fault));
        return cs_fail(e, CS_UNAVAILABLE, "workload attestation failed");
    }
    struct agent_ratelimit *r = limit < LIMIT_COUNT ? w->limits[limit] : NULL;
    if (r != NULL && out->pid != getpid() && !agent_ratelimit_allow(r, out->selectors, out->count))
        return cs_fail(e, CS_UNAVAILABLE, "rate limit exceeded for %s", rpc_call_method(call)->path);
    return CS_OK;
}

/* --- Denial --- */

static bool may_be_logged(const struct agent_config *cfg, const char *selector)
{
    for (size_t i = 0; i < cfg->log_selectors.len; i++) {
        const char *prefix = cfg->log_selectors.at[i];
        size_t n = strlen(prefix);
        if (strncmp(selector, prefix, n) == 0 && (selector[n] == '\0' || selector[n] == ':'))
            return true;
    }
    return false;
}

/* Those that the configuration lets be logged, with commas between. */
static void join_loggable(const struct agent_config *cfg, const char *const *selectors, size_t count,
                          struct cs_buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (!may_be_logged(cfg, selectors[i]))
            continue;
        cs_buf_add_str(out, out->len > 0 ? "," : "");
        cs_buf_add_str(out, selectors[i]);
    }
}

cs_code workload_deny(struct workload_api *w, struct rpc_call *call, const struct workload_caller *caller,
                      struct cs_err *e)
{
    uint32_t held = 0;
    struct agent *a = w->agent;
    if (caller->pid != getpid() && cs_log_limit_ok(&w->denials, DENIALS_PER_SECOND, &held)) {
        struct cs_log log = workload_log(w, call);
        CS_CLEANUP(cs_buf_free) struct cs_buf shown = {0};
        CS_CLEANUP(cs_buf_free) struct cs_buf lacking = {0};
        struct agent_nearest near = {0};
        agent_cache_nearest(a->cache, caller->selectors, caller->count, &near);
        join_loggable(a->cfg, caller->selectors, caller->count, &shown);
        for (uint32_t i = 0; near.entry != NULL && i < near.entry->selector_count; i++)
            if (near.missing[i])
                join_loggable(a->cfg, &near.entry->selectors[i], 1, &lacking);
        bool near_one = near.entry != NULL;
        cs_log_error(&log, "No identity issued", KV_BOOL(CS_F_REGISTERED, false),
                     shown.len > 0 ? KV(CS_F_SELECTORS, cs_buf_cstr(&shown)) : (struct cs_kv){0},
                     near_one ? KV("nearest_entry_id", near.entry->id) : (struct cs_kv){0},
                     near_one ? KV_INT("missing_count", near.missing_count) : (struct cs_kv){0},
                     lacking.len > 0 ? KV("missing_selectors", cs_buf_cstr(&lacking)) : (struct cs_kv){0});
        agent_nearest_free(&near);
    }
    return cs_fail(e, CS_DENIED, "no identity issued");
}
