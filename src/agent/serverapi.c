/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serverapi.h"

#include "agent.pb-c.h"
#include "base/logfields.h"
#include "bundle.pb-c.h"
#include "spiffe/id.h"
#include "svid.pb-c.h"

#define PATH_BUNDLE "/spire.api.server.bundle.v1.Bundle/GetBundle"
#define PATH_FEDERATED "/spire.api.server.bundle.v1.Bundle/GetFederatedBundle"
#define PATH_NEW_X509 "/spire.api.server.svid.v1.SVID/BatchNewX509SVID"
#define PATH_NEW_JWT "/spire.api.server.svid.v1.SVID/NewJWTSVID"
#define PATH_RENEW "/spire.api.server.agent.v1.Agent/RenewAgent"
#define PATH_STATUS "/spire.api.server.agent.v1.Agent/PostStatus"
#define PATH_ATTEST "/spire.api.server.agent.v1.Agent/AttestAgent"

static ProtobufCBinaryData binary(struct cs_slice s)
{
    return (ProtobufCBinaryData){.len = s.len, .data = (uint8_t *)(uintptr_t)s.data};
}

static struct cs_slice slice(ProtobufCBinaryData b)
{
    return cs_slice_of(b.data, b.len);
}

/* Logs a failed call and puts SPIRE's words in front of its text. Returns rc. */
static cs_code complain(const struct cs_log *log, const char *logged, const char *prefix, cs_code rc,
                        struct cs_err *e)
{
    static const char mark[] = " desc = ";
    const char *message = strstr(e->text, mark);
    cs_log_error(log, logged, KV_ERR(e), KV(CS_F_STATUS_CODE, cs_code_name(rc)),
                 KV(CS_F_STATUS_MESSAGE, message != NULL ? message + sizeof mark - 1 : e->text));
    (void)cs_wrap(e, "%s", prefix);
    return rc;
}

/* --- Bundles --- */

cs_code agent_api_get_bundle(struct agent_link *l, const struct cs_log *log, const char *trust_domain,
                             struct cs_buf *out, struct agent_failure *failure, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    cs_code rc;
    if (trust_domain == NULL) {
        Bundlev1__GetBundleRequest req = BUNDLEV1__GET_BUNDLE_REQUEST__INIT;
        rc = agent_link_call_raw(l, PATH_BUNDLE, &req.base, out, AGENT_RPC_TIMEOUT_NS, failure, e);
        return rc == CS_OK ? CS_OK : complain(log, "Failed to fetch bundle", "failed to fetch bundle", rc, e);
    }
    Bundlev1__GetFederatedBundleRequest req = BUNDLEV1__GET_FEDERATED_BUNDLE_REQUEST__INIT;
    req.trust_domain = (char *)(uintptr_t)trust_domain;
    rc = agent_link_call_raw(l, PATH_FEDERATED, &req.base, out, AGENT_RPC_TIMEOUT_NS, failure, e);
    if (rc == CS_NOT_FOUND)
        cs_log_warn(log, "Federated bundle not found", KV_ERR(e), KV("federated_bundle", trust_domain));
    else if (rc != CS_OK)
        return complain(log, "Failed to fetch federated bundle", "failed to fetch federated bundle", rc, e);
    return rc;
}

static cs_code build_bundle(const Types__Bundle *from, struct spiffe_bundle_builder *b, struct cs_err *e)
{
    for (size_t i = 0; i < from->n_x509_authorities; i++)
        CS_TRY(spiffe_bundle_add_x509_der(b, slice(from->x509_authorities[i]->asn1),
                                          from->x509_authorities[i]->tainted, e));
    for (size_t i = 0; i < from->n_jwt_authorities; i++) {
        const Types__JWTKey *k = from->jwt_authorities[i];
        CS_TRY(spiffe_bundle_add_jwt(b, cs_slice_str(k->key_id), slice(k->public_key), k->expires_at,
                                     k->tainted, e));
    }
    for (size_t i = 0; i < from->n_wit_authorities; i++) {
        const Types__WITKey *k = from->wit_authorities[i];
        CS_TRY(spiffe_bundle_add_wit(b, cs_slice_str(k->key_id), slice(k->public_key), k->expires_at,
                                     k->tainted, e));
    }
    spiffe_bundle_set_refresh_hint(b, from->refresh_hint);
    spiffe_bundle_set_sequence(b, from->sequence_number);
    return CS_OK;
}

cs_code agent_bundle_parse(struct cs_slice packed, struct spiffe_bundle **out, struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    ProtobufCMessage *m = NULL;
    CS_TRY(proto_unpack(a, &types__bundle__descriptor, packed, &m, e));
    const Types__Bundle *from = (void *)m;
    struct cs_slice td;
    CS_TRY(spiffe_td_parse(cs_slice_str(from->trust_domain), &td, e));
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    CS_TRY(spiffe_bundle_builder_new(td, &b, e));
    CS_TRY(build_bundle(from, b, e));
    return spiffe_bundle_build(b, out, e);
}

/* --- X509-SVIDs --- */

static cs_code parse_chain(const Types__X509SVID *svid, struct x509_chain *out, struct cs_err *e)
{
    if (svid->n_cert_chain == 0)
        return cs_fail(e, CS_INTERNAL, "empty SVID cert chain");
    if (svid->n_cert_chain > X509_CHAIN_MAX)
        return cs_fail(e, CS_INTERNAL, "SVID cert chain is longer than %d", X509_CHAIN_MAX);
    struct cs_slice ders[X509_CHAIN_MAX];
    for (size_t i = 0; i < svid->n_cert_chain; i++)
        ders[i] = slice(svid->cert_chain[i]);
    return x509_chain_parse_list(ders, svid->n_cert_chain, out, e);
}

static cs_code pack_csrs(struct cs_arena *a, const struct agent_csr *csrs, size_t count,
                         Svidv1__BatchNewX509SVIDRequest *req, struct cs_err *e)
{
    req->params = cs_arena_alloc(a, (count + 1) * sizeof *req->params);
    Svidv1__NewX509SVIDParams *rows = cs_arena_alloc(a, (count + 1) * sizeof *rows);
    if (req->params == NULL || rows == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < count; i++) {
        svidv1__new_x509_svidparams__init(&rows[i]);
        rows[i].entry_id = (char *)(uintptr_t)csrs[i].entry_id;
        rows[i].csr = binary(csrs[i].csr);
        req->params[i] = &rows[i];
    }
    req->n_params = count;
    return CS_OK;
}

static cs_code take_result(const struct cs_log *log, const char *entry_id,
                           const Svidv1__BatchNewX509SVIDResponse__Result *r, struct x509_chain *out,
                           struct cs_err *e)
{
    if (r->status != NULL && r->status->code != CS_OK)
        cs_log_warn(log, "Failed to mint X509 SVID", KV("entry_id", entry_id),
                    KV_INT("status", r->status->code), KV("error", r->status->message));
    if (r->svid == NULL) {
        cs_log_debug(log, "Entry not found", KV("entry_id", entry_id));
        return CS_OK;
    }
    return parse_chain(r->svid, out, e);
}

cs_code agent_api_new_svids(struct agent_link *l, const struct cs_log *log, const struct agent_csr *csrs,
                            size_t count, struct x509_chain *chains, struct agent_failure *failure,
                            struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    for (size_t i = 0; i < count; i++)
        chains[i] = (struct x509_chain){0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Svidv1__BatchNewX509SVIDRequest req = SVIDV1__BATCH_NEW_X509_SVIDREQUEST__INIT;
    CS_TRY(pack_csrs(a, csrs, count, &req, e));
    ProtobufCMessage *m = NULL;
    cs_code rc =
        agent_link_call(l, PATH_NEW_X509, &req.base, a, &svidv1__batch_new_x509_svidresponse__descriptor, &m,
                        AGENT_RPC_TIMEOUT_NS, failure, e);
    if (rc != CS_OK)
        return complain(log, "Failed to batch new X509 SVID(s)", "failed to batch new X509 SVID(s)", rc, e);
    const Svidv1__BatchNewX509SVIDResponse *resp = (void *)m;
    if (resp->n_results > count)
        return cs_fail(e, CS_INTERNAL, "server sent %zu results for %zu requests", resp->n_results, count);
    for (size_t i = 0; rc == CS_OK && i < resp->n_results; i++)
        rc = take_result(log, csrs[i].entry_id, resp->results[i], &chains[i], e);
    for (size_t i = 0; rc != CS_OK && i < count; i++)
        x509_chain_free(&chains[i]);
    return rc;
}

cs_code agent_api_renew(struct agent_link *l, const struct cs_log *log, struct cs_slice csr,
                        struct x509_chain *out, struct agent_failure *failure, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Agentv1__AgentX509SVIDParams params = AGENTV1__AGENT_X509_SVIDPARAMS__INIT;
    Agentv1__RenewAgentRequest req = AGENTV1__RENEW_AGENT_REQUEST__INIT;
    params.csr = binary(csr);
    req.params = &params;
    ProtobufCMessage *m = NULL;
    cs_code rc = agent_link_call(l, PATH_RENEW, &req.base, a, &agentv1__renew_agent_response__descriptor, &m,
                                 AGENT_RPC_TIMEOUT_NS, failure, e);
    if (rc != CS_OK)
        return complain(log, "Failed to renew agent", "failed to renew agent", rc, e);
    const Agentv1__RenewAgentResponse *resp = (void *)m;
    if (resp->svid == NULL)
        return cs_fail(e, CS_INTERNAL, "renew response is missing SVID");
    return parse_chain(resp->svid, out, e);
}

/* --- JWT-SVIDs --- */

static cs_code take_jwt(const Types__JWTSVID *svid, struct cs_arena *a, struct agent_new_jwt *out,
                        struct cs_err *e)
{
    if (svid == NULL)
        return cs_fail(e, CS_INTERNAL, "JWTSVID response missing SVID");
    if (svid->issued_at == 0)
        return cs_fail(e, CS_INTERNAL, "JWTSVID missing issued at");
    if (svid->expires_at == 0)
        return cs_fail(e, CS_INTERNAL, "JWTSVID missing expires at");
    if (svid->issued_at > svid->expires_at)
        return cs_fail(e, CS_INTERNAL, "JWTSVID issued after it has expired");
    struct spiffe_id id = {0};
    struct cs_slice td = cs_slice_str(svid->id != NULL ? svid->id->trust_domain : "");
    struct cs_slice path = cs_slice_str(svid->id != NULL ? svid->id->path : "");
    if (spiffe_id_make(a, td, path, &id, e) != CS_OK)
        return cs_wrap(e, "could not parse JWT-SVID SPIFFE ID");
    *out = (struct agent_new_jwt){
        .token = svid->token,
        .spiffe_id = cs_arena_strndup(a, (const char *)id.text.data, id.text.len),
        .issued_at = svid->issued_at,
        .expires_at = svid->expires_at,
    };
    return out->spiffe_id != NULL ? CS_OK : cs_nomem(e);
}

cs_code agent_api_new_jwt(struct agent_link *l, const struct cs_log *log, const char *entry_id,
                          const char *const *audience, size_t audience_count, int64_t timeout_ns,
                          struct cs_arena *a, struct agent_new_jwt *out, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    *out = (struct agent_new_jwt){0};
    Svidv1__NewJWTSVIDRequest req = SVIDV1__NEW_JWTSVIDREQUEST__INIT;
    req.entry_id = (char *)(uintptr_t)entry_id;
    req.audience = (char **)(uintptr_t)audience;
    req.n_audience = audience_count;
    ProtobufCMessage *m = NULL;
    struct agent_failure failure;
    cs_code rc = agent_link_call(l, PATH_NEW_JWT, &req.base, a, &svidv1__new_jwtsvidresponse__descriptor, &m,
                                 timeout_ns, &failure, e);
    if (rc != CS_OK)
        return complain(log, "Failed to fetch JWT SVID", "failed to fetch JWT SVID", rc, e);
    return take_jwt(((const Svidv1__NewJWTSVIDResponse *)m)->svid, a, out, e);
}

/* --- The agent itself --- */

cs_code agent_api_post_status(struct agent_link *l, const struct cs_log *log, const char *version,
                              struct agent_failure *failure, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    Agentv1__PostStatusRequest req = AGENTV1__POST_STATUS_REQUEST__INIT;
    req.agent_version = (char *)(uintptr_t)version;
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    cs_code rc = agent_link_call_raw(l, PATH_STATUS, &req.base, &packed, AGENT_RPC_TIMEOUT_NS, failure, e);
    if (rc == CS_OK)
        return CS_OK;
    cs_log_warn(log, "Failed to post agent status", KV_ERR(e));
    (void)cs_wrap(e, "failed to post agent status");
    return rc;
}

/* One attestation under way. */
struct attestation {
    struct agent_link *link;
    struct agent_link_stream *stream;
    const struct agent_attestor *attestor;
    struct cs_slice csr;
    struct x509_chain *svid;
    bool *reattestable;
    struct agent_failure *failure;
    bool done;
    cs_code rc; /* of the exchange that failed: plugins may put it into other words */
};

static cs_code send_step(struct attestation *at, struct cs_slice payload, struct cs_err *e)
{
    Agentv1__AttestAgentRequest req = AGENTV1__ATTEST_AGENT_REQUEST__INIT;
    Agentv1__AttestAgentRequest__Params params = AGENTV1__ATTEST_AGENT_REQUEST__PARAMS__INIT;
    Types__AttestationData data = TYPES__ATTESTATION_DATA__INIT;
    Agentv1__AgentX509SVIDParams svid = AGENTV1__AGENT_X509_SVIDPARAMS__INIT;
    if (at->stream != NULL) {
        req.step_case = AGENTV1__ATTEST_AGENT_REQUEST__STEP_CHALLENGE_RESPONSE;
        req.challenge_response = binary(payload);
    } else {
        cs_code rc =
            agent_link_open(at->link, PATH_ATTEST, AGENT_RPC_TIMEOUT_NS, &at->stream, at->failure, e);
        if (rc != CS_OK) {
            (void)cs_wrap(e, "could not open attestation stream to SPIRE server");
            return rc;
        }
        data.type = (char *)(uintptr_t)at->attestor->type;
        data.payload = binary(payload);
        svid.csr = binary(at->csr);
        params.data = &data;
        params.params = &svid;
        req.step_case = AGENTV1__ATTEST_AGENT_REQUEST__STEP_PARAMS;
        req.params = &params;
    }
    cs_code rc = agent_link_send(at->stream, &req.base, at->failure, e);
    if (rc != CS_OK)
        (void)cs_wrap(e, "failed to send attestation request to SPIRE server");
    return rc;
}

static cs_code take_step(struct attestation *at, const Agentv1__AttestAgentResponse *resp,
                         struct cs_buf *challenge, bool *done, struct cs_err *e)
{
    if (resp->step_case == AGENTV1__ATTEST_AGENT_RESPONSE__STEP_CHALLENGE) {
        cs_buf_add(challenge, resp->challenge.data, resp->challenge.len);
        return cs_buf_ok(challenge) ? CS_OK : cs_nomem(e);
    }
    if (resp->step_case != AGENTV1__ATTEST_AGENT_RESPONSE__STEP_RESULT || resp->result->svid == NULL)
        return cs_fail(e, CS_INTERNAL,
                       "failed to parse attestation response: attest response is missing SVID");
    if (parse_chain(resp->result->svid, at->svid, e) != CS_OK)
        return cs_wrap(e, "failed to parse attestation response");
    *at->reattestable = resp->result->reattestable;
    *done = at->done = true;
    return agent_link_send_end(at->stream, at->failure, e);
}

static cs_code exchange(void *arg, struct cs_slice payload, struct cs_buf *challenge, bool *done,
                        struct cs_err *e)
{
    struct attestation *at = arg;
    *done = false;
    cs_buf_reset(challenge);
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    if ((at->rc = send_step(at, payload, e)) != CS_OK)
        return at->rc;
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    bool end = false;
    at->rc = agent_link_recv(at->stream, &packed, &end, at->failure, e);
    if (at->rc == CS_OK && end)
        at->rc = cs_fail(e, CS_INTERNAL, "EOF");
    if (at->rc != CS_OK) {
        (void)cs_wrap(e, "failed to receive attestation response");
        return at->rc;
    }
    ProtobufCMessage *m = NULL;
    at->rc = proto_unpack(a, &agentv1__attest_agent_response__descriptor, cs_buf_slice(&packed), &m, e);
    if (at->rc == CS_OK)
        at->rc = take_step(at, (void *)m, challenge, done, e);
    return at->rc;
}

cs_code agent_api_attest(struct agent_link *l, const struct agent_attestor *attestor, struct cs_slice csr,
                         const struct crypto_pub *key, struct x509_chain *svid, bool *reattestable,
                         struct agent_failure *failure, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    *failure = (struct agent_failure){0};
    struct attestation at = {
        .link = l,
        .attestor = attestor,
        .csr = csr,
        .svid = svid,
        .reattestable = reattestable,
        .failure = failure,
    };
    const struct nodeattestor_agent_stream stream = {
        .exchange = exchange,
        .arg = &at,
        .spki = crypto_pub_spki(key),
    };
    cs_code rc = attestor->ops->attest(attestor->self, &stream, e);
    agent_link_close(at.stream);
    if (rc == CS_OK && !at.done)
        rc = cs_fail(e, CS_INTERNAL, "node attestor ended without an SVID");
    if (rc != CS_OK) {
        x509_chain_free(svid);
        return at.rc != CS_OK ? at.rc : rc;
    }
    return CS_OK;
}
