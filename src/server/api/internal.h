/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the API: one call as its handler sees it, and what all handlers share.
 */
#ifndef CS_SERVER_API_INTERNAL_H
#define CS_SERVER_API_INTERNAL_H

#include "datastore/datastore.h"
#include "proto/proto.h"
#include "server/agentcache.h"
#include "server/api/services.h"
#include "server/entrycache/entrycache.h"
#include "server/ratelimit.h"
#include "spiffe/id.h"

#include <pthread.h>

/* --- Who may call a method, and how often (auth_table.c) --- */
enum { ALLOW_ANY = 1, ALLOW_LOCAL = 2, ALLOW_ADMIN = 4, ALLOW_AGENT = 8, ALLOW_DOWNSTREAM = 16 };
enum api_limit {
    LIMIT_NONE,
    LIMIT_ATTEST,
    LIMIT_SIGN_X509,
    LIMIT_SIGN_JWT,
    LIMIT_SIGN_WIT,
    LIMIT_PUSH_KEY,
    LIMIT_POST_STATUS,
    LIMIT_COUNT
};

/* A unary handler; same contract as rpc_method.unary. `service` is the struct api. */
typedef cs_code api_unary_fn(struct rpc_call *call, void *service, struct cs_slice request,
                             struct cs_buf *response, struct cs_err *e);

struct api_policy {
    const char *service, *method; /* as logged: "entry.v1.Entry", "ListEntries" */
    unsigned allow;
    enum api_limit limit;
    api_unary_fn *limited; /* the handler of a unary method that may have to wait */
};

struct api_service_row { /* one service and where it is served */
    const char *name;
    const struct rpc_method *methods;
    size_t count;
    bool tcp;
};
extern const struct api_service_row api_service_rows[];
extern const size_t api_service_row_count;

/* --- The API --- */
struct api_waiters;
#define API_SERVICES_MAX 8

/* How far one events table was followed. */
#define API_OWN_RANGES 64
struct api_range {
    uint64_t first, last;
};
struct api_follow {
    uint64_t seen;                        /* the caches know all events up to this one */
    struct api_range own[API_OWN_RANGES]; /* and of those after it ours; ascending */
    size_t n;
};

struct api {
    struct api_config cfg;
    struct cs_slice td; /* cfg.trust_domain */
    struct cs_log log;
    struct entrycache *entries;
    struct agentcache *agents;
    struct ratelimit *limits[LIMIT_COUNT]; /* NULL: no limit, or switched off */
    struct ratelimit *lookups;             /* of agents about to be refused; by ID and serial number */
    struct api_waiters *waiters;
    struct api_attestors *attestors;
    struct rpc_service services[2][API_SERVICES_MAX];
    size_t service_count[2];
    struct cs_log_limit failures; /* lines that remote callers can cause */
    pthread_mutex_t store_lock;   /* caches follow the datastore in the order of its commits */
    bool reload;                  /* a cache missed a change for want of memory */
    struct api_follow follow[2];  /* by ds_event_kind */
    uint64_t node_changes;        /* brought by the observer */
    int64_t seen_version;         /* of what others wrote; api_refresh only */
};

struct api_peer {
    size_t trust_domain_len;
    const char *spiffe_id, *serial;
    int64_t not_after;
    char text[];
};
static inline struct cs_slice api_peer_path(const struct api_peer *p)
{
    const char *path = p->spiffe_id + strlen("spiffe://") + p->trust_domain_len;
    return cs_slice_str(path);
}

/* --- One call --- */
#define API_LOG_FIELDS 8

struct api_fields { /* grows in the arena */
    struct cs_kv *at;
    size_t len, cap;
};

struct api_call {
    struct api *api;
    struct rpc_call *rpc;
    struct cs_arena *arena;
    const struct api_policy *policy;
    const struct api_peer *peer; /* NULL: no client certificate */
    bool local, admin, downstream;
    struct agent *agent;  /* set for callers let in as agents; referenced */
    const char *as, *via; /* log fields authorized_as, authorized_via */
    char request_id[37];
    struct cs_kv field[API_LOG_FIELDS]; /* added by the handler to all later lines */
    size_t field_count;
    size_t audited_fields; /* the first so many of them are on audit lines too */
    bool audit;            /* this call is audited */
    struct api_fields audit_fields;
    bool limit_passed;       /* tokens are reserved */
    int64_t wait_ns;         /* API_LATER: for how long */
    bool request_seen;       /* limited methods: the request came */
    struct cs_slice waiting; /* the request, while it waits for its turn */
};
static inline struct api_call *api_call_of(struct rpc_call *call)
{
    return rpc_call_data(call);
}

/* The request as a message in the call's arena. */
static inline cs_code api_unpack(struct api_call *c, const ProtobufCMessageDescriptor *d,
                                 struct cs_slice request, void **out, struct cs_err *e)
{
    return proto_unpack(c->arena, d, request, (ProtobufCMessage **)out, e);
}

/* api_limit has reserved tokens for later: the handler returns this at once and is run again. Never
 * leaves this folder. */
#define API_LATER ((cs_code)1000)

/* Reserve `count` tokens for a call of a limited method. On any code but CS_OK the handler returns
 * api_limit_failed's result. */
CS_CHECKED cs_code api_limit(struct api_call *c, size_t count, struct cs_err *e);
cs_code api_limit_failed(struct api_call *c, cs_code code, const char *msg, struct cs_err *e);
extern const struct rpc_stream_ops api_limited_ops;
/* Copy the request to c->waiting for when the handler is run again. */
CS_CHECKED cs_code api_keep_request(struct api_call *c, struct cs_slice msg, struct cs_err *e);
/* Run fn on the call's executor after c->wait_ns. CS_EXHAUSTED when too many calls wait already. */
CS_CHECKED cs_code api_wait(struct api_call *c, void (*fn)(struct rpc_call *call, void *service, void *state),
                            struct cs_err *e);
/* Call it before the loop runs, or on its thread; free it when the loop has stopped, or on its thread. */
CS_CHECKED cs_code api_waiters_new(struct loop *loop, const struct cs_clock *clock, struct api_waiters **out,
                                   struct cs_err *e);
void api_waiters_free(struct api_waiters *w);

/* --- Log lines and errors (SPIRE: pkg/common/api/status.go) --- */
void api_log(const struct api_call *c, enum cs_level level, const char *msg, const struct cs_kv *kv,
             size_t n);
#define API_LOG(c, level, msg, ...)                                                                          \
    do {                                                                                                     \
        const struct cs_kv log_kv_[] = {(struct cs_kv){.key = NULL}, ##__VA_ARGS__};                         \
        api_log((c), (level), (msg), log_kv_ + 1, sizeof log_kv_ / sizeof log_kv_[0] - 1);                   \
    } while (0)
/* Add a field to all later lines of the call; the value must live as long as the call. Replaces one
 * of the same key. */
void api_field(struct api_call *c, struct cs_kv kv);

/* Put Go's text of a status error in front: "rpc error: code = NotFound desc = ...". For log fields. */
void api_status_error(struct cs_err *e);
/* False when callers from the network have caused too many lines this second. */
bool api_may_log(struct api_call *c);

/* Log and return an error: the text is `msg` alone. */
cs_code api_fail(struct api_call *c, struct cs_err *e, cs_code code, const char *msg);
/* The same with the cause that is in *e: `msg: cause` (NotFound keeps the cause to itself). */
cs_code api_fail_cause(struct api_call *c, struct cs_err *e, cs_code code, const char *msg);

/* The status of one item of a batch is a cs_err made by the two above, or this: */
static inline struct cs_err api_ok(void)
{
    return (struct cs_err){.code = CS_OK, .text = "OK"};
}
/* spire.api.types.Status as field `field`. */
void api_status_write(struct cs_buf *b, uint32_t field, const struct cs_err *st);

/* --- Audit (SPIRE: pkg/server/api/audit) --- */
void api_audit_add(struct api_call *c, struct cs_kv kv); /* does nothing when not audited */
void api_audit(struct api_call *c);                      /* the line of a call that succeeded */
void api_audit_with(struct api_call *c, const struct cs_kv *kv, size_t n);
void api_audit_error(struct api_call *c, cs_code code, const char *text);
/* The line of one item of a batch. */
void api_audit_status(struct api_call *c, const struct cs_err *st, const struct cs_kv *kv, size_t n);
CS_CHECKED cs_code api_audit_begin(struct api_call *c, struct cs_err *e);
/* Lower-case hex SHA-256 in the arena; "" for nothing, or without memory. */
const char *api_hash(struct api_call *c, struct cs_slice bytes);
const char *api_joined(struct api_call *c, char *const *strings, size_t n); /* "a,b" in the arena */

/* --- Authorisation --- */
CS_CHECKED cs_code api_authorize(struct api_call *c, struct cs_err *e);

/* --- Following the datastore (store.c) --- */
CS_CHECKED cs_code api_store_load(struct api *a, struct cs_err *e);
/* Read what the database says about one agent into the cache. */
CS_CHECKED cs_code api_store_ask(struct api *a, const char *spiffe_id, struct cs_err *e);
void api_store_observe(void *arg, const struct ds_change *changes, size_t n);

#endif
