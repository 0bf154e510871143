/* SPDX-License-Identifier: Apache-2.0
 *
 * Notifier and BundlePublisher: the two that are handed the bundle.
 */
#include "kit/kit.h"

#include "sdk_server_bundlepublisher.pb-c.h"
#include "sdk_server_notifier.pb-c.h"

typedef enum cspire_code (*bundle_op)(void *self, struct cspire_call *c, const struct cspire_bundle *bundle);

static cs_code with_bundle(struct cspire_call *c, bundle_op op, const Sdktypes__Bundle *bundle,
                           struct cs_err *e)
{
    if (op == NULL)
        return kit_missing(e);
    if (bundle == NULL)
        return cs_fail(e, CS_INVALID, "bundle is required");
    const struct cspire_bundle *b = kit_bundle(c, bundle);
    if (b == NULL)
        return cs_nomem(e);
    return kit_verdict(c, op(c->env->self, c, b), e);
}

static cs_code notify(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                      struct cs_err *e)
{
    (void)response; /* NotifyResponse has no fields */
    const Notifierv1__NotifyRequest *req = (const Notifierv1__NotifyRequest *)msg;
    if (req->event_case != NOTIFIERV1__NOTIFY_REQUEST__EVENT_BUNDLE_UPDATED || req->bundle_updated == NULL)
        return kit_missing(e); /* an event we do not know */
    return with_bundle(c, KIT_OP(c->env->plugin->ops.notifier, bundle_updated), req->bundle_updated->bundle,
                       e);
}

static cs_code notify_and_advise(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                                 struct cs_err *e)
{
    (void)response; /* NotifyAndAdviseResponse has no fields */
    const Notifierv1__NotifyAndAdviseRequest *req = (const Notifierv1__NotifyAndAdviseRequest *)msg;
    if (req->event_case != NOTIFIERV1__NOTIFY_AND_ADVISE_REQUEST__EVENT_BUNDLE_LOADED ||
        req->bundle_loaded == NULL)
        return kit_missing(e);
    return with_bundle(c, KIT_OP(c->env->plugin->ops.notifier, bundle_loaded), req->bundle_loaded->bundle, e);
}

static cs_code publish(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                       struct cs_err *e)
{
    (void)response; /* PublishBundleResponse has no fields */
    const Bundlepublisherv1__PublishBundleRequest *req = (const Bundlepublisherv1__PublishBundleRequest *)msg;
    return with_bundle(c, KIT_OP(c->env->plugin->ops.bundle_publisher, publish), req->bundle, e);
}

static const struct kit_handler notify_handler = {.run = notify,
                                                  .request = &notifierv1__notify_request__descriptor};
static const struct kit_handler advise_handler = {
    .run = notify_and_advise, .request = &notifierv1__notify_and_advise_request__descriptor};
static const struct kit_handler publish_handler = {
    .run = publish, .request = &bundlepublisherv1__publish_bundle_request__descriptor};

#define NOTIFIER "spire.plugin.server.notifier.v1.Notifier"
#define PUBLISHER "spire.plugin.server.bundlepublisher.v1.BundlePublisher"
static const struct rpc_method notifier_methods[] = {
    KIT_ROW("/" NOTIFIER "/Notify", notify_handler),
    KIT_ROW("/" NOTIFIER "/NotifyAndAdvise", advise_handler),
};
static const struct rpc_method publisher_methods[] = {
    KIT_ROW("/" PUBLISHER "/PublishBundle", publish_handler),
};

const struct kit_kind kit_notifier = {
    .kind = CSPIRE_NOTIFIER,
    .type = "Notifier",
    .program = "server",
    .service = NOTIFIER,
    .methods = notifier_methods,
    .method_count = sizeof notifier_methods / sizeof notifier_methods[0],
};
const struct kit_kind kit_bundle_publisher = {
    .kind = CSPIRE_BUNDLE_PUBLISHER,
    .type = "BundlePublisher",
    .program = "server",
    .service = PUBLISHER,
    .methods = publisher_methods,
    .method_count = 1,
};
