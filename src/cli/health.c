/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/health.h"

#include "health.pb-c.h"

cs_code cli_health_check(struct cli_env *env, enum cli_target target, const char *who, const char *healthy,
                         const struct cli_health_opts *o, struct cs_err *e)
{
    CS_AUTO(cli_session) s = NULL;
    if (o->verbose)
        fprintf(env->out, "Checking %s health...\n", who);
    CS_TRY(cli_session_open(target, &o->common, &s, e));
    Healthv1__HealthCheckRequest req = HEALTHV1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *reply;
    if (cli_call(s, "/grpc.health.v1.Health/Check", &req.base, &healthv1__health_check_response__descriptor,
                 &reply, e) != CS_OK) {
        if (o->verbose)
            fprintf(env->err, "Failed to check health: %s\n", e->text);
        return cs_fail(e, CS_UNAVAILABLE, "unable to determine health");
    }
    int status = ((const Healthv1__HealthCheckResponse *)reply)->status;
    if (status != HEALTHV1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING) {
        const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(
            &healthv1__health_check_response__serving_status__descriptor, status);
        return cs_fail(e, CS_UNAVAILABLE, "%s returned status \"%s\"", who, v != NULL ? v->name : "?");
    }
    fprintf(env->out, "%s\n", healthy);
    return CS_OK;
}
