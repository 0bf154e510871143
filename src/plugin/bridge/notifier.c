/* SPDX-License-Identifier: Apache-2.0
 *
 * Notifier over gRPC.
 */
#include "plugin/notifier.h"

#include "plugin/bridge/bridge.h"
#include "plugin/bridge/convert.h"

#include "sdk_server_notifier.pb-c.h"

#define SERVICE "spire.plugin.server.notifier.v1.Notifier"

static cs_code bundle_updated(void *self, const struct spiffe_bundle *bundle, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Notifierv1__BundleUpdated event = NOTIFIERV1__BUNDLE_UPDATED__INIT;
    CS_TRY(convert_plugin_bundle(a, bundle, &event.bundle, e));
    Notifierv1__NotifyRequest request = NOTIFIERV1__NOTIFY_REQUEST__INIT;
    request.event_case = NOTIFIERV1__NOTIFY_REQUEST__EVENT_BUNDLE_UPDATED;
    request.bundle_updated = &event;
    Notifierv1__NotifyResponse *answer;
    return bridge_call(self, "/" SERVICE "/Notify", &request.base, &notifierv1__notify_response__descriptor,
                       a, &answer, 0, e);
}

static cs_code bundle_loaded(void *self, const struct spiffe_bundle *bundle, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Notifierv1__BundleLoaded event = NOTIFIERV1__BUNDLE_LOADED__INIT;
    CS_TRY(convert_plugin_bundle(a, bundle, &event.bundle, e));
    Notifierv1__NotifyAndAdviseRequest request = NOTIFIERV1__NOTIFY_AND_ADVISE_REQUEST__INIT;
    request.event_case = NOTIFIERV1__NOTIFY_AND_ADVISE_REQUEST__EVENT_BUNDLE_LOADED;
    request.bundle_loaded = &event;
    Notifierv1__NotifyAndAdviseResponse *answer;
    return bridge_call(self, "/" SERVICE "/NotifyAndAdvise", &request.base,
                       &notifierv1__notify_and_advise_response__descriptor, a, &answer, 0, e);
}

static const struct notifier_ops ops = {
    .bundle_updated = bundle_updated,
    .bundle_loaded = bundle_loaded,
};

static cs_code create(struct plugin_external *x, const struct plugin_env *env, void **self, struct cs_err *e)
{
    return bridge_new(x, env, PLUGIN_TYPE_NOTIFIER, sizeof(struct bridge), self, e);
}

const struct plugin_bridge plugin_bridge_notifier = {
    .service = SERVICE,
    .ops = &ops,
    .create = create,
    .destroy = bridge_free,
};
