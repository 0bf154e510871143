/* SPDX-License-Identifier: Apache-2.0
 *
 * When to do what: syncing, fetching SVIDs, renewing the agent's own, and what to do about failures
 * (pkg/agent/manager/manager.go, pkg/agent/svid/rotator.go and pkg/agent/agent.go of SPIRE). One thread.
 */
#include "agent/agent.h"
#include "agent/backoff.h"
#include "agent/enclave.h"
#include "base/logfields.h"
#include "base/text.h"
#include "base/version.h"

#define S CS_NS_PER_S

#define DEFAULT_SYNC_NS (5 * S)
#define SYNC_MAX_MULTIPLE 48
#define SYNC_MAX_NS (480 * S)
#define SVID_RETRY_NS (500 * CS_NS_PER_MS)
#define SVID_RETRY_MAX_NS (240 * S)
#define ROTATE_RETRY_NS (5 * S)
#define INIT_RETRY_NS (5 * S)
#define INIT_ELAPSED_NS (60 * S)
#define INIT_ELAPSED_REBOOTSTRAP_NS (86400 * S)
#define BATCH_MAX 500
#define TRIM_AFTER 100
/* The wall clock is looked at this often at least: it may jump. */
#define LOOK_NS (60 * S)

struct schedule {
    struct agent_backoff sync, svids, rotate;
    struct agent_batch_limit batch;
    int64_t next_sync, next_svids, next_rotate; /* monotonic ns */
    bool svids_failing, rotate_failing;
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t sync_interval(const struct agent *a)
{
    return a->cfg->sync_interval_ns > 0 ? a->cfg->sync_interval_ns : DEFAULT_SYNC_NS;
}

static void schedule_init(struct agent *a, struct schedule *s)
{
    int64_t every = sync_interval(a);
    *s = (struct schedule){.batch = {.current = BATCH_MAX, .max = BATCH_MAX}};
    agent_backoff_init(&s->sync, a->clock, every, min64(SYNC_MAX_NS, every * SYNC_MAX_MULTIPLE), 0);
    agent_backoff_init(&s->svids, a->clock, SVID_RETRY_NS, SVID_RETRY_MAX_NS, 0);
    agent_backoff_init(&s->rotate, a->clock, ROTATE_RETRY_NS, 0, 0);
}

/* Monotonic time of a wall-clock time, no later than the clock is to be looked at again. */
static int64_t when(struct agent *a, int64_t wall_ns)
{
    int64_t wait = wall_ns - cs_now_ns(a->clock);
    int64_t now = cs_mono_ns(a->clock);
    return now + (wait < 0 ? 0 : min64(wait, LOOK_NS));
}

static void delete_svid(struct agent *a)
{
    struct cs_err fault;
    if (agent_storage_set_svid(a->storage, NULL, false, &fault) != CS_OK)
        cs_log_error(&a->mlog, "Failed to remove SVID", KV_ERR(&fault));
}

/* --- Trust lost --- */

/* The server is not under our bundle. CS_OK: try again later. */
static cs_code distrust(struct agent *a, struct cs_err *e)
{
    struct cs_err fault = *e;
    if (a->rebootstrap_mode == AGENT_REBOOTSTRAP_NEVER) {
        cs_log_info(&a->mlog, "Synchronize failed, non-recoverable error", KV_ERR(&fault));
        (void)cs_wrap(e, "failed to sync with SPIRE Server");
        return e->code;
    }
    int64_t left = 0;
    CS_TRY(agent_bootstrap_delay(&a->bootstrap, &left, e));
    if (left > 0) {
        CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
        cs_duration_format(&text, left);
        cs_log_info(&a->mlog, "Trust Bundle and Server don't agree, ignoring for now",
                    KV("time_left", cs_buf_cstr(&text)));
        return CS_OK;
    }
    cs_log_warn(&a->mlog, "Trust Bundle and Server don't agree, rebootstrapping");
    CS_TRY(agent_bootstrap_force(&a->bootstrap, e));
    return cs_fail(e, CS_UNAVAILABLE, "shutting down for rebootstrapping");
}

/* An enclave can always prove anew what it is; whether the server takes it is the server's to say. */
static bool may_reattest(const struct agent *a)
{
    return a->self.reattestable || a->cfg->enclave.on;
}

/* The server says that we are not, or no more, one of its agents. CS_OK: go on with a new SVID. */
static cs_code disowned(struct agent *a, const struct agent_failure *failure, struct cs_err *e)
{
    struct cs_err fault = *e;
    if (failure->shutdown) {
        cs_log_warn(&a->mlog, "Agent is banned: removing SVID and shutting down", KV_ERR(&fault));
        delete_svid(a);
        return e->code;
    }
    cs_log_warn(&a->mlog, "Agent needs to re-attest; will attempt to re-attest", KV_ERR(&fault));
    struct cs_err reason;
    struct agent_failure again;
    cs_code rc = may_reattest(a)
                     ? agent_reattest(a, &again, &reason)
                     : cs_fail(&reason, CS_PRECONDITION, "attestation method is not re-attestable");
    if (rc == CS_OK)
        return CS_OK;
    if (a->cfg->enclave.on && cs_code_retryable(rc)) { /* the workload's end would be the enclave's */
        cs_log_error(&a->mlog, "Agent failed re-attestation; will try again", KV_ERR(&reason));
        return CS_OK;
    }
    cs_log_error(&a->mlog, "Agent failed re-attestation; removing SVID and shutting down", KV_ERR(&reason));
    delete_svid(a);
    return e->code;
}

/* --- Own SVID --- */

static bool self_expired(const struct agent *a)
{
    return cs_now_s(a->clock) > a->self.svid.at[0]->not_after;
}

static cs_code rotate(struct agent *a, struct schedule *s, struct cs_err *e)
{
    if (!s->rotate_failing && !a->self.tainted && cs_now_ns(a->clock) < a->self.rotate_at) {
        s->next_rotate = when(a, a->self.rotate_at);
        return CS_OK;
    }
    bool over = self_expired(a); /* as after an enclave was paused: nothing to renew with */
    bool reattest = a->self.reattestable || (over && may_reattest(a));
    const char *what = reattest ? "reattest agent" : "rotate agent SVID";
    struct agent_failure failure;
    cs_code rc = reattest ? agent_reattest(a, &failure, e) : agent_renew(a, &failure, e);
    s->rotate_failing = rc != CS_OK;
    if (rc == CS_OK) {
        agent_backoff_reset(&s->rotate);
        s->next_rotate = when(a, a->self.rotate_at);
        return CS_OK;
    }
    if (agent_stopping(a))
        return CS_OK;
    CS_CLEANUP(cs_freep) char *msg = cs_asprintf("Could not %s", what);
    cs_log_error(&a->mlog, msg != NULL ? msg : what, KV_ERR(e));
    if (failure.reattest || failure.shutdown) {
        CS_TRY(disowned(a, &failure, e));
        s->rotate_failing = false;
    } else if (over && (!a->cfg->enclave.on || rc == CS_DENIED)) {
        (void)cs_wrap(e, "current SVID has already expired and %s failed", what);
        return e->code;
    }
    s->next_rotate = cs_mono_ns(a->clock) + agent_backoff_next(&s->rotate);
    return CS_OK;
}

/* --- SVIDs of workloads --- */

static cs_code fetch_svids(struct agent *a, struct schedule *s, struct agent_failure *failure,
                           struct cs_err *e)
{
    size_t before = agent_stale_svids(a);
    cs_code rc = agent_fetch_svids(a, s->batch.current, failure, e);
    agent_store_settle(a->store);
    int64_t now = cs_mono_ns(a->clock);
    s->svids_failing = rc != CS_OK;
    if (rc != CS_OK) {
        agent_batch_failure(&s->batch);
        s->next_svids = now + agent_backoff_next(&s->svids);
        return rc;
    }
    if (before > 0)
        agent_batch_success(&s->batch);
    agent_backoff_reset(&s->svids);
    size_t left = agent_stale_svids(a);
    if (before >= TRIM_AFTER && left == 0)
        cs_mem_trim(); /* keys, requests and messages of the batches are gone */
    /* What the server refused is asked for again with the next sync. */
    if (left > 0)
        s->next_svids = left < before || before == 0 ? now + SVID_RETRY_NS : INT64_MAX;
    else
        s->next_svids =
            when(a, min64(agent_cache_next_rotation(a->cache), agent_store_next_rotation(a->store)));
    return CS_OK;
}

/* --- Syncing --- */

static cs_code synchronize(struct agent *a, struct schedule *s, struct agent_failure *failure,
                           struct cs_err *e)
{
    CS_TRY(agent_refresh(a, failure, e));
    CS_TRY(fetch_svids(a, s, failure, e));
    return agent_bootstrap_success_if_running(&a->bootstrap, e);
}

/* What to do after a failure. CS_OK: go on. */
static cs_code consider(struct agent *a, const struct agent_failure *failure, const char *logged,
                        struct cs_err *e)
{
    struct cs_err fault = *e;
    if (agent_stopping(a))
        return CS_OK;
    if (failure->unknown_authority)
        return distrust(a, e);
    cs_log_error(&a->mlog, logged, KV_ERR(&fault));
    return failure->reattest || failure->shutdown ? disowned(a, failure, e) : CS_OK;
}

static cs_code run_sync(struct agent *a, struct schedule *s, struct cs_err *e)
{
    struct agent_failure failure = {0};
    cs_code rc = synchronize(a, s, &failure, e);
    if (rc != CS_OK)
        CS_TRY(consider(a, &failure, "Synchronize failed", e));
    bool good = rc == CS_OK || failure.unknown_authority || failure.reattest;
    if (good)
        agent_backoff_reset(&s->sync);
    int64_t wait = agent_backoff_next(&s->sync);
    if (good && (rc != CS_OK || agent_cache_svid_count(a->cache) == 0))
        wait = min64(wait, DEFAULT_SYNC_NS);
    s->next_sync = cs_mono_ns(a->clock) + wait;
    return CS_OK;
}

static cs_code run_svids(struct agent *a, struct schedule *s, struct cs_err *e)
{
    struct agent_failure failure = {0};
    if (fetch_svids(a, s, &failure, e) == CS_OK)
        return CS_OK;
    return consider(a, &failure, "SVID sync failed", e);
}

static cs_code run_due(struct agent *a, struct schedule *s, bool wanted, struct cs_err *e)
{
    int64_t now = cs_mono_ns(a->clock);
    if (now >= s->next_rotate || a->self.tainted || (!s->rotate_failing && self_expired(a)))
        CS_TRY(rotate(a, s, e));
    if (now >= s->next_sync)
        return run_sync(a, s, e);
    if (now >= s->next_svids || (wanted && !s->svids_failing))
        return run_svids(a, s, e);
    return CS_OK;
}

static int64_t next_due(const struct agent *a, const struct schedule *s)
{
    return min64(min64(s->next_sync, agent_enclave_due(a->enclave)), min64(s->next_svids, s->next_rotate));
}

cs_code agent_manager_run(struct agent *a, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    struct schedule s;
    schedule_init(a, &s);
    int64_t now = cs_mono_ns(a->clock);
    s.next_sync = now + min64(agent_backoff_next(&s.sync), DEFAULT_SYNC_NS);
    s.next_svids = now + SVID_RETRY_NS;
    s.next_rotate = now;
    bool wanted = false;
    while (agent_wait(a, next_due(a, &s), &wanted)) {
        cs_code rc = run_due(a, &s, wanted, e);
        if (rc == CS_OK)
            rc = agent_enclave_tick(a->enclave, e);
        if (rc != CS_OK) {
            cs_log_error(&a->mlog, "Cache manager crashed", KV_ERR(e));
            return rc;
        }
    }
    cs_log_info(&a->mlog, "Cache manager stopped");
    return CS_OK;
}

/* --- The first sync --- */

static void store_self(struct agent *a)
{
    struct cs_err fault;
    CS_CLEANUP(x509_chain_free) struct x509_chain roots = {0};
    cs_code rc = CS_OK;
    if (agent_storage_set_svid(a->storage, &a->self.svid, a->self.reattestable, &fault) != CS_OK)
        cs_log_warn(&a->mlog, "Could not store SVID", KV_ERR(&fault));
    for (size_t i = 0; rc == CS_OK && i < a->bundle->x509_count; i++)
        rc = x509_chain_add(&roots, a->bundle->x509[i].cert, &fault);
    if (rc == CS_OK)
        rc = agent_storage_set_bundle(a->storage, &roots, &fault);
    if (rc != CS_OK)
        cs_log_error(&a->mlog, "Could not store bundle", KV_ERR(&fault));
}

static cs_code initialize(struct agent *a, struct agent_failure *failure, struct cs_err *e)
{
    struct schedule s;
    struct cs_err fault;
    store_self(a);
    if (agent_api_post_status(a->link, &a->mlog, CS_SPIRE_VERSION, failure, &fault) != CS_OK)
        cs_log_error(&a->mlog, "Failed to post agent status", KV(CS_F_AGENT_VERSION, CS_SPIRE_VERSION),
                     KV_ERR(&fault));
    schedule_init(a, &s);
    return synchronize(a, &s, failure, e);
}

/* After a failed first sync. CS_OK: try again. */
static cs_code consider_init(struct agent *a, const struct agent_failure *failure, struct cs_err *e)
{
    if (failure->unknown_authority && a->rebootstrap_mode != AGENT_REBOOTSTRAP_NEVER)
        return distrust(a, e);
    if (!failure->reattest && !failure->shutdown)
        return CS_OK;
    struct cs_err fault = *e;
    struct agent_failure again;
    if (!failure->shutdown && a->cfg->enclave.on) { /* the SVID came from storage and is of no use any more */
        cs_log_warn(&a->mlog, "Agent needs to re-attest; will attempt to re-attest", KV_ERR(&fault));
        cs_code rc = agent_reattest(a, &again, e);
        if (rc == CS_OK || cs_code_retryable(rc))
            return CS_OK;
    }
    cs_log_error(&a->mlog,
                 failure->shutdown ? "Agent is banned: removing SVID and shutting down"
                                   : "Agent needs to re-attest: removing SVID and shutting down",
                 KV_ERR(&fault));
    delete_svid(a);
    return e->code;
}

cs_code agent_manager_init(struct agent *a, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    struct agent_backoff retry;
    agent_backoff_init(&retry, a->clock, INIT_RETRY_NS, 0,
                       a->rebootstrap_mode == AGENT_REBOOTSTRAP_NEVER ? INIT_ELAPSED_NS
                                                                      : INIT_ELAPSED_REBOOTSTRAP_NS);
    for (;;) {
        struct agent_failure failure = {0};
        if (initialize(a, &failure, e) == CS_OK)
            return CS_OK;
        if (agent_stopping(a))
            return cs_fail(e, CS_CANCELLED, "context canceled");
        CS_TRY(consider_init(a, &failure, e));
        int64_t wait = agent_backoff_next(&retry);
        if (wait == AGENT_BACKOFF_STOP)
            return e->code;
        CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
        cs_duration_format(&text, wait);
        cs_log_warn(&a->mlog, "Failed to initialize manager", KV_ERR(e),
                    KV("retry_interval", cs_buf_cstr(&text)));
        if (!agent_wait(a, cs_mono_ns(a->clock) + wait, NULL))
            return cs_fail(e, CS_CANCELLED, "context canceled");
    }
}
