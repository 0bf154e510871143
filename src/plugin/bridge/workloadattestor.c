/* SPDX-License-Identifier: Apache-2.0
 *
 * WorkloadAttestor over gRPC. A plugin answers Attest, which takes a process ID, or AttestReference, which
 * takes a reference to any kind of workload; newer ones may know the second alone.
 */
#include "plugin/workloadattestor.h"

#include "plugin/bridge/bridge.h"

#include "sdk_agent_workloadattestor.pb-c.h"

#define SERVICE "spire.plugin.agent.workloadattestor.v1.WorkloadAttestor"
#define PID_REFERENCE "type.googleapis.com/spiffe.broker.WorkloadPIDReference"

/* Strings without NUL and in UTF-8 is what unpacking lets through. */
static cs_code take(const struct bridge *b, struct workloadattestor_values *out, char *const *values,
                    size_t count, struct cs_err *e)
{
    size_t left = WORKLOADATTESTOR_VALUES_MAX - out->count;
    if (count > left)
        return bridge_fail(b, e, CS_EXHAUSTED, "plugin response has %zu selectors; at most %d are taken",
                           count, WORKLOADATTESTOR_VALUES_MAX);
    for (size_t i = 0; i < count; i++)
        CS_TRY(workloadattestor_add_value(out, values[i], e));
    return CS_OK;
}

static cs_code attest_pid(const struct bridge *b, pid_t pid, struct cs_arena *a,
                          struct workloadattestor_values *out, struct cs_err *e)
{
    Workloadattestorv1__AttestRequest request = WORKLOADATTESTORV1__ATTEST_REQUEST__INIT;
    request.pid = pid;
    Workloadattestorv1__AttestResponse *answer;
    CS_TRY(bridge_call(b, "/" SERVICE "/Attest", &request.base,
                       &workloadattestorv1__attest_response__descriptor, a, &answer, 0, e));
    return take(b, out, answer->selector_values, answer->n_selector_values, e);
}

/* WorkloadPIDReference of the SPIFFE broker API is one field: 1, the process ID. */
static size_t write_pid_reference(uint8_t out[12], pid_t pid)
{
    size_t n = 0;
    out[n++] = 1 << 3;
    uint64_t v = (uint64_t)(int64_t)pid;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

static cs_code attest_reference(const struct bridge *b, pid_t pid, struct cs_arena *a,
                                struct workloadattestor_values *out, struct cs_err *e)
{
    uint8_t value[12];
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    any.type_url = (char *)PID_REFERENCE;
    any.value = bridge_data(cs_slice_of(value, write_pid_reference(value, pid)));
    Workloadattestorv1__AttestReferenceRequest request = WORKLOADATTESTORV1__ATTEST_REFERENCE_REQUEST__INIT;
    request.reference = &any;
    Workloadattestorv1__AttestReferenceResponse *answer;
    CS_TRY(bridge_call(b, "/" SERVICE "/AttestReference", &request.base,
                       &workloadattestorv1__attest_reference_response__descriptor, a, &answer, 0, e));
    return take(b, out, answer->selector_values, answer->n_selector_values, e);
}

static cs_code attest(void *self, pid_t pid, struct workloadattestor_values *out, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    cs_code rc = attest_pid(self, pid, a, out, e);
    return rc == CS_UNIMPLEMENTED ? attest_reference(self, pid, a, out, e) : rc;
}

static const struct workloadattestor_ops ops = {.attest = attest};

static cs_code create(struct plugin_external *x, const struct plugin_env *env, void **self, struct cs_err *e)
{
    return bridge_new(x, env, PLUGIN_TYPE_WORKLOADATTESTOR, sizeof(struct bridge), self, e);
}

const struct plugin_bridge plugin_bridge_workloadattestor = {
    .service = SERVICE,
    .ops = &ops,
    .create = create,
    .destroy = bridge_free,
};
