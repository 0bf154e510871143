/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the plugin kit (cspire/plugin.h is its outside): a program that serves one plugin of somebody
 * else's over go-plugin's protocol. One struct cspire_env for the process, one struct cspire_call for each
 * run of an operation.
 *   [const] set before anybody else sees it
 *   [lock]  under cspire_env.lock
 */
#ifndef CS_KIT_KIT_H
#define CS_KIT_KIT_H

#include "base/mem.h"
#include "cspire/plugin.h"
#include "kit/logline.h"
#include "proto/proto.h"
#include "rpc/client.h"
#include "rpc/server.h"
#include "sdk_types.pb-c.h"

#include "google/protobuf/struct.pb-c.h"

#include <pthread.h>
#include <stdatomic.h>

/* The broker id under which SPIRE serves its host services (private/consts.go of its plugin SDK). */
#define KIT_HOST_SERVICES_ID 1
#define KIT_BROKER_WAIT_NS (5 * CS_NS_PER_S)
#define KIT_HOST_CALL_NS (30 * CS_NS_PER_S)
/* Deinit waits so long for operations that still run. */
#define KIT_DEINIT_WAIT_NS (5 * CS_NS_PER_S)

/* A member of a table of operations that may be older than ours; NULL when it ends before it. */
#define KIT_OP(table, member)                                                                                \
    ((table)->size >= offsetof(__typeof__(*(table)), member) + sizeof(table)->member ? (table)->member : NULL)

/* --- Kinds --- */

struct kit_kind {
    enum cspire_kind kind;
    const char *type;    /* of the configuration; the magic cookie's name and value */
    const char *program; /* "server" or "agent" */
    const char *service; /* "spire.plugin.server.keymanager.v1.KeyManager" */
    const struct rpc_method *methods;
    size_t method_count;
};
extern const struct kit_kind kit_server_key_manager, kit_agent_key_manager, kit_server_node_attestor,
    kit_agent_node_attestor, kit_upstream_authority, kit_notifier, kit_bundle_publisher,
    kit_credential_composer, kit_workload_attestor, kit_svid_store;
/* NULL: no such kind. */
const struct kit_kind *kit_kind_find(enum cspire_kind kind);

/* --- The plugin --- */

enum kit_state {
    KIT_NEW,
    KIT_CREATING,
    KIT_READY,
    KIT_LEAVING, /* nobody is let in; who is in makes the end when leaving */
    KIT_DESTROYING,
    KIT_OVER,
};

struct kit_listener;

struct cspire_env {
    const struct cspire_plugin *plugin; /* [const] */
    const struct kit_kind *kind;        /* [const] */
    struct kit_log log;                 /* [const] locks for itself */
    int stop_fd;                        /* [const] eventfd: the host asked for the end; -1: none */
    _Atomic bool stopping;

    pthread_mutex_t serial; /* held while an operation of a CSPIRE_SERIAL plugin runs */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum kit_state state; /* [lock] */
    unsigned users;       /* [lock] operations and sessions under way: self stays */
    void *self;           /* [lock] changes only when there are no users */

    unsigned offered;                 /* [lock] bits of enum cspire_host_service */
    bool host_known;                  /* [lock] the broker has said where it is */
    struct rpc_client_config host_at; /* [lock] one address, owned */
    struct loop *loop;                /* [lock] for the client; made with it */
    struct rpc_client *host;          /* [lock] made once */

    struct kit_listener *listeners; /* [lock] of upstream.c */
};

void kit_env_init(struct cspire_env *env, const struct cspire_plugin *plugin, const struct kit_kind *kind);
/* Destroys the plugin if that was not done. No operation may run any more. */
void kit_env_free(struct cspire_env *env);
/* What a struct cspire_plugin must be; text for its author. CS_INVALID. */
CS_CHECKED cs_code kit_plugin_check(const struct cspire_plugin *plugin, struct cs_err *e);
/* create of the plugin, once; later calls do nothing. */
CS_CHECKED cs_code kit_env_create(struct cspire_env *env, struct cs_err *e);
/* Nothing is let in any more; destroy when nobody is inside, or as soon as that is so. Waits for it at
 * most wait_ns; false: not yet. */
bool kit_env_destroy(struct cspire_env *env, int64_t wait_ns);
/* Everything else may use env->self only between these two. CS_UNAVAILABLE before create and after
 * destroy. */
CS_CHECKED cs_code kit_enter(struct cspire_env *env, struct cs_err *e);
void kit_leave(struct cspire_env *env);
/* pthread_cond_timedwait on the monotonic clock; false: the time is over. */
bool kit_wait_until(struct cspire_env *env, int64_t mono_ns);

/* --- A call --- */

/* What an operation may answer with. */
enum kit_answer {
    KIT_NOTE = 1,
    KIT_KEY = 2,
    KIT_SIGNATURE = 4,
    KIT_AGENT = 8,
    KIT_CHALLENGE = 16,
    KIT_PAYLOAD = 32,
    KIT_SELECTOR = 64,
    KIT_CERTIFICATE = 128,
    KIT_AUTHORITY = 256,
    KIT_JWT_KEY = 512,
    KIT_CLAIMS = 1024,
};

/* A list in the call's arena. */
struct kit_list {
    void **at;
    size_t count, cap;
};

struct kit_key {
    const char *id, *fingerprint;
    int type;
    struct cs_slice pkix;
};

struct cspire_call {
    struct cspire_env *env;
    struct cs_arena *arena;
    bool own_arena;
    struct rpc_call *rpc;    /* NULL: the plugin's own */
    struct cs_err err;       /* what the plugin said last */
    struct kit_list secrets; /* of struct cs_slice: wiped at the end */

    unsigned answers;             /* enum kit_answer that fit this operation */
    unsigned given;               /* that were used */
    struct kit_list texts;        /* notes or selectors: char */
    struct kit_list keys;         /* struct kit_key */
    struct kit_list certificates; /* struct cs_slice */
    struct kit_list authorities;  /* struct cspire_authority, jwt_keys: struct cspire_jwt_key */
    struct kit_list jwt_keys;
    struct cs_slice bytes; /* challenge, payload or signature */
    const char *text;      /* agent ID, fingerprint or claims */
    bool can_reattest;
};

/* rpc NULL: no call of the host's. arena NULL: one of its own. CS_INTERNAL: no memory. */
CS_CHECKED cs_code kit_call_init(struct cspire_call *c, struct cspire_env *env, struct rpc_call *rpc,
                                 struct cs_arena *arena, unsigned answers, struct cs_err *e);
void kit_call_end(struct cspire_call *c); /* wipes secrets */
/* The plugin's verdict to ours: its text, or one that says there was none. */
CS_CHECKED cs_code kit_verdict(const struct cspire_call *c, enum cspire_code code, struct cs_err *e);
CS_CHECKED cs_code kit_missing(struct cs_err *e); /* the operation is not there: CS_UNIMPLEMENTED */
/* Ours to the plugin, the text becomes the call's. */
enum cspire_code kit_pass(struct cspire_call *c, cs_code code, const struct cs_err *e);
/* CSPIRE_FAILED_PRECONDITION when this answer does not fit the operation. */
enum cspire_code kit_answer_check(struct cspire_call *c, enum kit_answer a, const char *what);
enum cspire_code kit_nomem(struct cspire_call *c);
CS_CHECKED bool kit_list_add(struct cspire_call *c, struct kit_list *l, void *p);
CS_CHECKED bool kit_copy(struct cspire_call *c, struct cspire_bytes b, struct cs_slice *out);
/* len bytes at p are wiped when the call ends. */
CS_CHECKED bool kit_call_secret(struct cspire_call *c, const void *p, size_t len);
const char *kit_fingerprint(struct cspire_call *c, struct cs_slice pkix); /* NULL: no memory */

static inline struct cspire_bytes kit_bytes(const uint8_t *data, size_t len)
{
    return (struct cspire_bytes){.data = data, .len = len};
}
#define KIT_PB_BYTES(b) kit_bytes((b).data, (b).len)

/* --- Methods --- */

/* One unary operation: message in, message out. `run` is called between kit_enter and kit_leave. */
struct kit_handler {
    CS_CHECKED cs_code (*run)(struct cspire_call *c, const ProtobufCMessage *request, struct cs_buf *response,
                              struct cs_err *e);
    const ProtobufCMessageDescriptor *request;
    unsigned answers;
    bool secret_request; /* the request's bytes are wiped after it */
};
/* The `unary` of a row whose policy is a struct kit_handler and whose service is the env. */
cs_code kit_unary(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                  struct cs_err *e);
/* The same without a connection (rpc NULL), for tests and fuzzing. */
CS_CHECKED cs_code kit_run(struct cspire_env *env, const struct kit_handler *h, struct rpc_call *rpc,
                           struct cs_arena *arena, struct cs_slice request, struct cs_buf *response,
                           struct cs_err *e);
void kit_lock(struct cspire_env *env); /* CSPIRE_SERIAL plugins only, else nothing */
void kit_unlock(struct cspire_env *env);

#define KIT_ROW(p, handler)                                                                                  \
    {                                                                                                        \
        .path = (p), .run = RPC_WORKER, .unary = kit_unary, .policy = &(handler)                             \
    }

/* services.c: those around every plugin, with room for all of them. ctx of each row is the env. */
#define KIT_SERVICES_MAX 8
size_t kit_services(struct cspire_env *env, struct rpc_health *health,
                    struct rpc_service out[KIT_SERVICES_MAX]);
extern const struct rpc_method kit_config_methods[];
extern const size_t kit_config_method_count;

/* host.c: what the host says through its broker. An error, for bytes that are no message, ends its stream;
 * what a message says that we have no use for is passed over. */
CS_CHECKED cs_code kit_broker_message(struct cspire_env *env, struct cs_slice msg, struct cs_err *e);
/* upstream.c: ends the streams of those who listen. */
void kit_listeners_finish(struct cspire_env *env);

/* bundle.c: in the call's arena; of an empty one when NULL. NULL: no memory. */
const struct cspire_bundle *kit_bundle(struct cspire_call *c, const Sdktypes__Bundle *bundle);

/* claims.c: google.protobuf.Struct as JSON text and back. */
CS_CHECKED cs_code kit_claims_print(struct cspire_call *c, const Google__Protobuf__Struct *claims,
                                    const char **out, struct cs_err *e);
CS_CHECKED cs_code kit_claims_parse(struct cspire_call *c, const char *text,
                                    Google__Protobuf__Struct **claims, struct cs_err *e);

/* config.c */
struct cspire_config {
    const char *text, *trust_domain;
};

#endif
