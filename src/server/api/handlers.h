/* SPDX-License-Identifier: Apache-2.0
 *
 * The handlers of all methods; auth_table.c binds them to their paths.
 */
#ifndef CS_SERVER_API_HANDLERS_H
#define CS_SERVER_API_HANDLERS_H

#include "server/api/internal.h"

api_unary_fn agent_count, agent_list, agent_get, agent_delete, agent_ban, agent_renew, agent_post_status,
    agent_create_join_token;
extern const struct rpc_stream_ops agent_attest_ops;

api_unary_fn entry_count, entry_list, entry_get, entry_batch_create, entry_batch_update, entry_batch_delete,
    entry_get_authorized;
extern const struct rpc_stream_ops entry_sync_ops;

api_unary_fn bundle_count, bundle_get, bundle_append, bundle_publish_jwt, bundle_publish_wit,
    bundle_list_federated, bundle_get_federated, bundle_batch_create, bundle_batch_update, bundle_batch_set,
    bundle_batch_delete;

api_unary_fn svid_mint_x509, svid_mint_jwt, svid_mint_wit, svid_batch_new_x509, svid_new_jwt,
    svid_batch_new_wit, svid_new_downstream_ca;

api_unary_fn health_check, health_list, health_watch;

#endif
