/* SPDX-License-Identifier: Apache-2.0
 *
 * WorkloadAttestor.
 */
#include "kit/kit.h"

#include "sdk_agent_workloadattestor.pb-c.h"

static cs_code attest(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                      struct cs_err *e)
{
    const Workloadattestorv1__AttestRequest *req = (const Workloadattestorv1__AttestRequest *)msg;
    const struct cspire_workload_attestor_ops *ops = c->env->plugin->ops.workload_attestor;
    if (KIT_OP(ops, attest) == NULL)
        return kit_missing(e);
    CS_TRY(kit_verdict(c, ops->attest(c->env->self, c, req->pid), e));
    Workloadattestorv1__AttestResponse resp = WORKLOADATTESTORV1__ATTEST_RESPONSE__INIT;
    resp.selector_values = (char **)c->texts.at;
    resp.n_selector_values = c->texts.count;
    return proto_pack(&resp.base, response, e);
}

static cs_code attest_reference(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                                struct cs_err *e)
{
    const Workloadattestorv1__AttestReferenceRequest *req =
        (const Workloadattestorv1__AttestReferenceRequest *)msg;
    const struct cspire_workload_attestor_ops *ops = c->env->plugin->ops.workload_attestor;
    if (KIT_OP(ops, attest_reference) == NULL)
        return kit_missing(e);
    if (req->reference == NULL)
        return cs_fail(e, CS_INVALID, "reference is required");
    struct cspire_reference reference = {.size = sizeof reference,
                                         .type_url = req->reference->type_url,
                                         .value = KIT_PB_BYTES(req->reference->value)};
    CS_TRY(kit_verdict(c, ops->attest_reference(c->env->self, c, &reference), e));
    Workloadattestorv1__AttestReferenceResponse resp = WORKLOADATTESTORV1__ATTEST_REFERENCE_RESPONSE__INIT;
    resp.selector_values = (char **)c->texts.at;
    resp.n_selector_values = c->texts.count;
    return proto_pack(&resp.base, response, e);
}

static const struct kit_handler attest_handler = {
    .run = attest, .request = &workloadattestorv1__attest_request__descriptor, .answers = KIT_SELECTOR};
static const struct kit_handler reference_handler = {
    .run = attest_reference,
    .request = &workloadattestorv1__attest_reference_request__descriptor,
    .answers = KIT_SELECTOR};

#define SERVICE "spire.plugin.agent.workloadattestor.v1.WorkloadAttestor"
static const struct rpc_method methods[] = {
    KIT_ROW("/" SERVICE "/Attest", attest_handler),
    KIT_ROW("/" SERVICE "/AttestReference", reference_handler),
};
const struct kit_kind kit_workload_attestor = {
    .kind = CSPIRE_WORKLOAD_ATTESTOR,
    .type = "WorkloadAttestor",
    .program = "agent",
    .service = SERVICE,
    .methods = methods,
    .method_count = sizeof methods / sizeof methods[0],
};
