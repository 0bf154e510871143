/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is at the other end of a Workload API call (pkg/agent/attestor/workload and pkg/agent/endpoints of
 * SPIRE).
 */
#include "agent/enclave.h"
#include "agent/workload.h"
#include "base/logfields.h"

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

static cs_code attest_peer(struct workload_api *w, const struct loop_peer *peer, struct cs_arena *arena,
                           struct workload_caller *out, struct cs_err *e)
{
    if (peer == NULL)
        return cs_fail(e, CS_INTERNAL, "peer tracker watcher missing from context");
    out->pid = peer->pid;
    CS_TRY(agent_attestors_ask(w->attestors, out->pid, arena, &out->selectors, &out->count, e));
    const struct cs_log log =
        cs_log_with(cs_log_sub(w->agent->log, "workload_attestor"), KV_INT("pid", out->pid));
    log_selectors(&log, out);
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
