/* SPDX-License-Identifier: Apache-2.0
 *
 * Every method of the server: who may call it, under which rate limit, how it runs and what handles it.
 * The permissions are SPIRE's default policy (pkg/server/authpolicy/policy_data.json), the limits those of
 * pkg/server/endpoints/middleware.go. tests/unit/server/auth_table_test.c holds them to it.
 */
#include "server/api/handlers.h"

#define ADMINS (ALLOW_LOCAL | ALLOW_ADMIN)

/* A unary method. */
#define UNARY(path_, service_, method_, allow_, run_, handler_)                                              \
    {                                                                                                        \
        .path = "/" path_ "/" method_, .run = run_, .unary = handler_,                                       \
        .policy = &(const struct api_policy){.service = service_, .method = method_, .allow = allow_},       \
    }
/* A unary method that counts against a rate limit, and may wait for it. */
#define LIMITED(path_, service_, method_, allow_, limit_, handler_)                                          \
    {                                                                                                        \
        .path = "/" path_ "/" method_, .run = RPC_WORKER, .stream = &api_limited_ops,                        \
        .policy = &(const struct api_policy){                                                                \
            .service = service_, .method = method_, .allow = allow_, .limit = limit_, .limited = handler_},  \
    }
#define STREAM(path_, service_, method_, allow_, limit_, ops_)                                               \
    {                                                                                                        \
        .path = "/" path_ "/" method_, .run = RPC_WORKER, .stream = &(ops_),                                 \
        .policy = &(const struct api_policy){                                                                \
            .service = service_, .method = method_, .allow = allow_, .limit = limit_},                       \
    }

#define AGENT "spire.api.server.agent.v1.Agent"
#define AGENT_ROW(...) UNARY(AGENT, "agent.v1.Agent", __VA_ARGS__)
#define AGENT_LIMITED(...) LIMITED(AGENT, "agent.v1.Agent", __VA_ARGS__)
#define AGENT_STREAM(...) STREAM(AGENT, "agent.v1.Agent", __VA_ARGS__)
static const struct rpc_method agent_rows[] = {
    AGENT_ROW("CountAgents", ADMINS, RPC_WORKER, agent_count),
    AGENT_ROW("ListAgents", ADMINS, RPC_WORKER, agent_list),
    AGENT_ROW("GetAgent", ADMINS, RPC_WORKER, agent_get),
    AGENT_ROW("DeleteAgent", ADMINS, RPC_WORKER, agent_delete),
    AGENT_ROW("BanAgent", ADMINS, RPC_WORKER, agent_ban),
    AGENT_STREAM("AttestAgent", ALLOW_ANY, LIMIT_ATTEST, agent_attest_ops),
    AGENT_LIMITED("RenewAgent", ALLOW_AGENT, LIMIT_SIGN_X509, agent_renew),
    AGENT_LIMITED("PostStatus", ALLOW_AGENT, LIMIT_POST_STATUS, agent_post_status),
    AGENT_ROW("CreateJoinToken", ADMINS, RPC_WORKER, agent_create_join_token),
};

#define BUNDLE "spire.api.server.bundle.v1.Bundle"
#define BUNDLE_ROW(...) UNARY(BUNDLE, "bundle.v1.Bundle", __VA_ARGS__)
#define BUNDLE_LIMITED(...) LIMITED(BUNDLE, "bundle.v1.Bundle", __VA_ARGS__)
static const struct rpc_method bundle_rows[] = {
    BUNDLE_ROW("CountBundles", ADMINS, RPC_WORKER, bundle_count),
    BUNDLE_ROW("GetBundle", ALLOW_ANY, RPC_INLINE, bundle_get),
    BUNDLE_ROW("AppendBundle", ADMINS, RPC_WORKER, bundle_append),
    BUNDLE_LIMITED("PublishJWTAuthority", ALLOW_DOWNSTREAM, LIMIT_PUSH_KEY, bundle_publish_jwt),
    BUNDLE_ROW("PublishWITAuthority", ALLOW_DOWNSTREAM, RPC_INLINE, bundle_publish_wit),
    BUNDLE_ROW("ListFederatedBundles", ADMINS, RPC_WORKER, bundle_list_federated),
    BUNDLE_ROW("GetFederatedBundle", ADMINS | ALLOW_AGENT, RPC_WORKER, bundle_get_federated),
    BUNDLE_ROW("BatchCreateFederatedBundle", ADMINS, RPC_WORKER, bundle_batch_create),
    BUNDLE_ROW("BatchUpdateFederatedBundle", ADMINS, RPC_WORKER, bundle_batch_update),
    BUNDLE_ROW("BatchSetFederatedBundle", ADMINS, RPC_WORKER, bundle_batch_set),
    BUNDLE_ROW("BatchDeleteFederatedBundle", ADMINS, RPC_WORKER, bundle_batch_delete),
};

#define ENTRY "spire.api.server.entry.v1.Entry"
#define ENTRY_ROW(...) UNARY(ENTRY, "entry.v1.Entry", __VA_ARGS__)
#define ENTRY_STREAM(...) STREAM(ENTRY, "entry.v1.Entry", __VA_ARGS__)
static const struct rpc_method entry_rows[] = {
    ENTRY_ROW("CountEntries", ADMINS, RPC_WORKER, entry_count),
    ENTRY_ROW("ListEntries", ADMINS, RPC_WORKER, entry_list),
    ENTRY_ROW("GetEntry", ADMINS, RPC_WORKER, entry_get),
    ENTRY_ROW("BatchCreateEntry", ADMINS, RPC_WORKER, entry_batch_create),
    ENTRY_ROW("BatchUpdateEntry", ADMINS, RPC_WORKER, entry_batch_update),
    ENTRY_ROW("BatchDeleteEntry", ADMINS, RPC_WORKER, entry_batch_delete),
    ENTRY_ROW("GetAuthorizedEntries", ALLOW_AGENT, RPC_WORKER, entry_get_authorized),
    ENTRY_STREAM("SyncAuthorizedEntries", ALLOW_AGENT, LIMIT_NONE, entry_sync_ops),
};

#define SVID "spire.api.server.svid.v1.SVID"
#define SVID_ROW(...) UNARY(SVID, "svid.v1.SVID", __VA_ARGS__)
#define SVID_LIMITED(...) LIMITED(SVID, "svid.v1.SVID", __VA_ARGS__)
static const struct rpc_method svid_rows[] = {
    SVID_ROW("MintX509SVID", ADMINS, RPC_WORKER, svid_mint_x509),
    SVID_ROW("MintJWTSVID", ADMINS, RPC_WORKER, svid_mint_jwt),
    SVID_ROW("MintWITSVID", ADMINS, RPC_INLINE, svid_mint_wit),
    SVID_LIMITED("BatchNewX509SVID", ALLOW_AGENT, LIMIT_SIGN_X509, svid_batch_new_x509),
    SVID_LIMITED("NewJWTSVID", ALLOW_AGENT, LIMIT_SIGN_JWT, svid_new_jwt),
    SVID_LIMITED("BatchNewWITSVID", ALLOW_AGENT, LIMIT_SIGN_WIT, svid_batch_new_wit),
    SVID_LIMITED("NewDownstreamX509CA", ALLOW_DOWNSTREAM, LIMIT_SIGN_X509, svid_new_downstream_ca),
};

#define HEALTH "grpc.health.v1.Health"
#define HEALTH_ROW(...) UNARY(HEALTH, "Health", __VA_ARGS__)
static const struct rpc_method health_rows[] = {
    HEALTH_ROW("Check", ALLOW_LOCAL, RPC_INLINE, health_check),
    HEALTH_ROW("List", ALLOW_LOCAL, RPC_INLINE, health_list),
    HEALTH_ROW("Watch", ALLOW_LOCAL, RPC_INLINE, health_watch),
};

#define ROWS(rows) (rows), sizeof(rows) / sizeof(rows)[0]
const struct api_service_row api_service_rows[] = {
    {AGENT, ROWS(agent_rows), true}, {BUNDLE, ROWS(bundle_rows), true},  {ENTRY, ROWS(entry_rows), true},
    {SVID, ROWS(svid_rows), true},   {HEALTH, ROWS(health_rows), false},
};
const size_t api_service_row_count = sizeof api_service_rows / sizeof api_service_rows[0];
