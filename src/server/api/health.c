/* SPDX-License-Identifier: Apache-2.0
 *
 * grpc.health.v1 on the admin socket: the whole server only, healthy when it has a trust bundle.
 * Source: SPIRE's pkg/server/api/health/v1.
 */
#include "health.pb-c.h"
#include "server/api/handlers.h"
#include "server/bundlestore.h"
#include "server/entrycache/wire.h"
#include "spiffe/bundle.h"

enum { SERVING = 1, NOT_SERVING = 2 };

cs_code health_check(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                     struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Healthv1__HealthCheckRequest *req;
    CS_TRY(api_unpack(c, &healthv1__health_check_request__descriptor, request, (void **)&req, e));
    if (req->service[0] != '\0')
        return api_fail(c, e, CS_INVALID, "per-service health is not supported");
    CS_AUTO(spiffe_bundle) bundle = bundlestore_own(a->cfg.bundles);
    if (bundle == NULL)
        API_LOG(c, CS_LOG_WARN, "Health check failed", KV("reason", "bundle is missing"));
    wire_int(response, 1, bundle != NULL ? SERVING : NOT_SERVING);
    return CS_OK;
}

cs_code health_list(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                    struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)request;
    (void)response;
    return cs_fail(e, CS_UNIMPLEMENTED, "method List not implemented");
}

cs_code health_watch(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                     struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)request;
    (void)response;
    return cs_fail(e, CS_UNIMPLEMENTED, "method Watch not implemented");
}
