/* SPDX-License-Identifier: Apache-2.0
 *
 * BundlePublisher over gRPC.
 */
#include "plugin/bundlepublisher.h"

#include "plugin/bridge/bridge.h"
#include "plugin/bridge/convert.h"

#include "sdk_server_bundlepublisher.pb-c.h"

#define SERVICE "spire.plugin.server.bundlepublisher.v1.BundlePublisher"

static cs_code publish(void *self, const struct spiffe_bundle *bundle, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Bundlepublisherv1__PublishBundleRequest request = BUNDLEPUBLISHERV1__PUBLISH_BUNDLE_REQUEST__INIT;
    CS_TRY(convert_plugin_bundle(a, bundle, &request.bundle, e));
    Bundlepublisherv1__PublishBundleResponse *answer;
    return bridge_call(self, "/" SERVICE "/PublishBundle", &request.base,
                       &bundlepublisherv1__publish_bundle_response__descriptor, a, &answer, 0, e);
}

static const struct bundlepublisher_ops ops = {.publish = publish};

static cs_code create(struct plugin_external *x, const struct plugin_env *env, void **self, struct cs_err *e)
{
    return bridge_new(x, env, PLUGIN_TYPE_BUNDLEPUBLISHER, sizeof(struct bridge), self, e);
}

const struct plugin_bridge plugin_bridge_bundlepublisher = {
    .service = SERVICE,
    .ops = &ops,
    .create = create,
    .destroy = bridge_free,
};
