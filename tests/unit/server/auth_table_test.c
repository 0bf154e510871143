/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of methods against SPIRE's default policy and rate limits, row by row.
 */
#include "server/api/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the three above */
#include <cmocka.h>

/* pkg/server/authpolicy/policy_data.json and pkg/server/endpoints/middleware.go of SPIRE 1.15.3. */
static const struct golden {
    const char *path;
    unsigned allow;
    enum api_limit limit;
} golden[] = {
    {"/spire.api.server.svid.v1.SVID/MintX509SVID", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.svid.v1.SVID/MintJWTSVID", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.svid.v1.SVID/MintWITSVID", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.svid.v1.SVID/BatchNewX509SVID", ALLOW_AGENT, LIMIT_SIGN_X509},
    {"/spire.api.server.svid.v1.SVID/NewJWTSVID", ALLOW_AGENT, LIMIT_SIGN_JWT},
    {"/spire.api.server.svid.v1.SVID/BatchNewWITSVID", ALLOW_AGENT, LIMIT_SIGN_WIT},
    {"/spire.api.server.svid.v1.SVID/NewDownstreamX509CA", ALLOW_DOWNSTREAM, LIMIT_SIGN_X509},
    {"/spire.api.server.bundle.v1.Bundle/GetBundle", ALLOW_ANY, LIMIT_NONE},
    {"/spire.api.server.bundle.v1.Bundle/AppendBundle", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority", ALLOW_DOWNSTREAM, LIMIT_PUSH_KEY},
    {"/spire.api.server.bundle.v1.Bundle/PublishWITAuthority", ALLOW_DOWNSTREAM,
     LIMIT_NONE} /* always refused */,
    {"/spire.api.server.bundle.v1.Bundle/CountBundles", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.bundle.v1.Bundle/ListFederatedBundles", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.bundle.v1.Bundle/GetFederatedBundle", ALLOW_LOCAL | ALLOW_ADMIN | ALLOW_AGENT,
     LIMIT_NONE},
    {"/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.entry.v1.Entry/CountEntries", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.entry.v1.Entry/ListEntries", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.entry.v1.Entry/GetEntry", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.entry.v1.Entry/BatchCreateEntry", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.entry.v1.Entry/BatchUpdateEntry", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.entry.v1.Entry/BatchDeleteEntry", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.entry.v1.Entry/GetAuthorizedEntries", ALLOW_AGENT, LIMIT_NONE},
    {"/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries", ALLOW_AGENT, LIMIT_NONE},
    {"/spire.api.server.agent.v1.Agent/CountAgents", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.agent.v1.Agent/ListAgents", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.agent.v1.Agent/GetAgent", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.agent.v1.Agent/DeleteAgent", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.agent.v1.Agent/BanAgent", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/spire.api.server.agent.v1.Agent/AttestAgent", ALLOW_ANY, LIMIT_ATTEST},
    {"/spire.api.server.agent.v1.Agent/RenewAgent", ALLOW_AGENT, LIMIT_SIGN_X509},
    {"/spire.api.server.agent.v1.Agent/PostStatus", ALLOW_AGENT, LIMIT_POST_STATUS},
    {"/spire.api.server.agent.v1.Agent/CreateJoinToken", ALLOW_LOCAL | ALLOW_ADMIN, LIMIT_NONE},
    {"/grpc.health.v1.Health/Check", ALLOW_LOCAL, LIMIT_NONE},
    {"/grpc.health.v1.Health/List", ALLOW_LOCAL, LIMIT_NONE},
    {"/grpc.health.v1.Health/Watch", ALLOW_LOCAL, LIMIT_NONE},
};

static const struct golden *golden_find(const char *path)
{
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++)
        if (strcmp(golden[i].path, path) == 0)
            return &golden[i];
    return NULL;
}

static void every_method_is_as_in_the_policy(void **state)
{
    (void)state;
    size_t seen = 0;
    for (size_t i = 0; i < api_service_row_count; i++)
        for (size_t k = 0; k < api_service_rows[i].count; k++, seen++) {
            const struct rpc_method *m = &api_service_rows[i].methods[k];
            const struct api_policy *p = m->policy;
            const struct golden *g = golden_find(m->path);
            if (g == NULL || p == NULL)
                fail_msg("%s is not in the policy", m->path);
            if (p->allow != g->allow || p->limit != g->limit)
                fail_msg("%s: allow %x limit %d, want %x %d", m->path, p->allow, p->limit, g->allow,
                         g->limit);
        }
    assert_int_equal(seen, sizeof golden / sizeof golden[0]);
}

static void rows_are_well_formed(void **state)
{
    (void)state;
    for (size_t i = 0; i < api_service_row_count; i++) {
        const struct api_service_row *row = &api_service_rows[i];
        size_t n = strlen(row->name);
        for (size_t k = 0; k < row->count; k++) {
            const struct rpc_method *m = &row->methods[k];
            const struct api_policy *p = m->policy;
            assert_true(m->path[0] == '/' && strncmp(m->path + 1, row->name, n) == 0 &&
                        m->path[n + 1] == '/');
            assert_string_equal(m->path + n + 2, p->method);
            assert_true((m->unary != NULL) != (m->stream != NULL));
            /* A handler that may have to wait comes with the machinery for it, and only then. */
            assert_true((p->limited != NULL) == (m->stream == &api_limited_ops));
            /* Letting an agent in may write to the datastore. */
            assert_true((p->allow & ALLOW_AGENT) == 0 || m->run == RPC_WORKER);
        }
    }
}

static void health_is_for_the_admin_socket_only(void **state)
{
    (void)state;
    for (size_t i = 0; i < api_service_row_count; i++)
        assert_int_equal(api_service_rows[i].tcp,
                         strcmp(api_service_rows[i].name, "grpc.health.v1.Health") != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_is_as_in_the_policy),
        cmocka_unit_test(rows_are_well_formed),
        cmocka_unit_test(health_is_for_the_admin_socket_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
