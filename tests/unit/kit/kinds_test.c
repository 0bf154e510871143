/* SPDX-License-Identifier: Apache-2.0
 *
 * Unary operations of every kind: what the plugin sees of a request, and what the host sees of its answer.
 */
#include "fixture.h"

#include "sdk_agent_svidstore.pb-c.h"
#include "sdk_agent_workloadattestor.pb-c.h"
#include "sdk_server_bundlepublisher.pb-c.h"
#include "sdk_server_credentialcomposer.pb-c.h"
#include "sdk_server_keymanager.pb-c.h"
#include "sdk_server_notifier.pb-c.h"

#define SERVER_KM "/spire.plugin.server.keymanager.v1.KeyManager/"
#define AGENT_KM "/spire.plugin.agent.keymanager.v1.KeyManager/"

static struct kit_fixture fx;

/* --- KeyManager --- */

/* SHA-256 of "pkix" */
static const char fingerprint[] = "a3d62ae9fa5750af994be9052c9ea14157b39f708d2e04a8fc2835bbabaf5c84";

static void generate_and_get(const char *prefix)
{
    struct cs_err e;
    char path[128];
    Skeymanagerv1__GenerateKeyRequest gen = SKEYMANAGERV1__GENERATE_KEY_REQUEST__INIT;
    gen.key_id = (char *)"k1";
    gen.key_type = SKEYMANAGERV1__KEY_TYPE__RSA_2048;
    Skeymanagerv1__GenerateKeyResponse *made;
    snprintf(path, sizeof path, "%sGenerateKey", prefix);
    KF_OK(kf_call(&fx, path, &gen.base, &skeymanagerv1__generate_key_response__descriptor, &made, &e), e);
    assert_string_equal(kf_seen(&fx), "generate_key id=k1 type=3\n");
    assert_string_equal(made->public_key->id, "k1");
    assert_int_equal(made->public_key->type, SKEYMANAGERV1__KEY_TYPE__RSA_2048);
    assert_int_equal(made->public_key->pkix_data.len, 4);
    assert_string_equal(made->public_key->fingerprint, fingerprint);

    Skeymanagerv1__GetPublicKeysRequest all = SKEYMANAGERV1__GET_PUBLIC_KEYS_REQUEST__INIT;
    Skeymanagerv1__GetPublicKeysResponse *keys;
    snprintf(path, sizeof path, "%sGetPublicKeys", prefix);
    KF_OK(kf_call(&fx, path, &all.base, &skeymanagerv1__get_public_keys_response__descriptor, &keys, &e), e);
    assert_int_equal(keys->n_public_keys, 2);
    assert_string_equal(keys->public_keys[1]->id, "b");
    assert_string_equal(keys->public_keys[0]->fingerprint, made->public_key->fingerprint);
    assert_string_not_equal(keys->public_keys[1]->fingerprint, made->public_key->fingerprint);

    Skeymanagerv1__SignDataRequest sign = SKEYMANAGERV1__SIGN_DATA_REQUEST__INIT;
    sign.key_id = (char *)"k1";
    sign.data = kf_bytes("ab");
    sign.signer_opts_case = SKEYMANAGERV1__SIGN_DATA_REQUEST__SIGNER_OPTS_HASH_ALGORITHM;
    sign.hash_algorithm = SKEYMANAGERV1__HASH_ALGORITHM__SHA384;
    Skeymanagerv1__SignDataResponse *signature;
    snprintf(path, sizeof path, "%sSignData", prefix);
    (void)kf_seen(&fx);
    KF_OK(kf_call(&fx, path, &sign.base, &skeymanagerv1__sign_data_response__descriptor, &signature, &e), e);
    assert_string_equal(kf_seen(&fx), "sign id=k1 hash=6 pss=0 salt=0 digest=6162\n");
    assert_memory_equal(signature->signature.data, "signature", 9);
    assert_string_equal(signature->key_fingerprint, made->public_key->fingerprint);
}

static void test_key_manager(void **state)
{
    (void)state;
    kf_ready(&fx, CSPIRE_SERVER_KEY_MANAGER);
    generate_and_get(SERVER_KM);
    kf_down(&fx);
    kf_ready(&fx, CSPIRE_AGENT_KEY_MANAGER);
    generate_and_get(AGENT_KM);
    kf_down(&fx);
}

static void test_key_manager_pss_and_refusals(void **state)
{
    (void)state;
    struct cs_err e;
    kf_ready(&fx, CSPIRE_SERVER_KEY_MANAGER);
    Skeymanagerv1__SignDataRequest__PSSOptions pss = SKEYMANAGERV1__SIGN_DATA_REQUEST__PSSOPTIONS__INIT;
    Skeymanagerv1__SignDataRequest sign = SKEYMANAGERV1__SIGN_DATA_REQUEST__INIT;
    const ProtobufCMessageDescriptor *signed_type = &skeymanagerv1__sign_data_response__descriptor;
    sign.key_id = (char *)"k";
    assert_int_equal(kf_call(&fx, SERVER_KM "SignData", &sign.base, signed_type, NULL, &e), CS_INVALID);
    assert_string_equal(e.text, "signer opts is required");
    sign.signer_opts_case = SKEYMANAGERV1__SIGN_DATA_REQUEST__SIGNER_OPTS_PSS_OPTIONS;
    sign.pss_options = &pss;
    assert_int_equal(kf_call(&fx, SERVER_KM "SignData", &sign.base, signed_type, NULL, &e), CS_INVALID);
    assert_string_equal(e.text, "hash algorithm is required");
    pss.hash_algorithm = SKEYMANAGERV1__HASH_ALGORITHM__SHA512;
    pss.salt_length = -1;
    KF_OK(kf_call(&fx, SERVER_KM "SignData", &sign.base, signed_type, NULL, &e), e);
    assert_string_equal(kf_seen(&fx), "sign id=k hash=7 pss=1 salt=-1 digest=\n");

    Skeymanagerv1__GenerateKeyRequest gen = SKEYMANAGERV1__GENERATE_KEY_REQUEST__INIT;
    const ProtobufCMessageDescriptor *made = &skeymanagerv1__generate_key_response__descriptor;
    assert_int_equal(kf_call(&fx, SERVER_KM "GenerateKey", &gen.base, made, NULL, &e), CS_INVALID);
    assert_string_equal(e.text, "key id is required");
    gen.key_id = (char *)"k";
    assert_int_equal(kf_call(&fx, SERVER_KM "GenerateKey", &gen.base, made, NULL, &e), CS_INVALID);
    assert_string_equal(e.text, "key type is required");
    gen.key_type = (Skeymanagerv1__KeyType)77;
    assert_int_equal(kf_call(&fx, SERVER_KM "GenerateKey", &gen.base, made, NULL, &e), CS_INVALID);
    assert_string_equal(kf_seen(&fx), "");
    kf_down(&fx);
}

/* No key is an answer; no answer at all is none. */
static void test_key_manager_without_answers(void **state)
{
    (void)state;
    struct cs_err e;
    kf_ready(&fx, CSPIRE_SERVER_KEY_MANAGER);
    d_self.silent = true;
    Skeymanagerv1__GetPublicKeyRequest get = SKEYMANAGERV1__GET_PUBLIC_KEY_REQUEST__INIT;
    get.key_id = (char *)"k";
    Skeymanagerv1__GetPublicKeyResponse *got;
    KF_OK(kf_call(&fx, SERVER_KM "GetPublicKey", &get.base,
                  &skeymanagerv1__get_public_key_response__descriptor, &got, &e),
          e);
    assert_null(got->public_key);
    Skeymanagerv1__GenerateKeyRequest gen = SKEYMANAGERV1__GENERATE_KEY_REQUEST__INIT;
    gen.key_id = (char *)"k";
    gen.key_type = SKEYMANAGERV1__KEY_TYPE__EC_P256;
    assert_int_equal(kf_call(&fx, SERVER_KM "GenerateKey", &gen.base,
                             &skeymanagerv1__generate_key_response__descriptor, NULL, &e),
                     CS_INTERNAL);
    assert_string_equal(e.text, "the plugin made no key");
    d_self.silent = false;
    KF_OK(kf_call(&fx, SERVER_KM "GetPublicKey", &get.base,
                  &skeymanagerv1__get_public_key_response__descriptor, &got, &e),
          e);
    assert_string_equal(got->public_key->id, "k");
    kf_down(&fx);
}

/* --- WorkloadAttestor --- */

#define WA "/spire.plugin.agent.workloadattestor.v1.WorkloadAttestor/"

static void test_workload_attestor(void **state)
{
    (void)state;
    struct cs_err e;
    kf_ready(&fx, CSPIRE_WORKLOAD_ATTESTOR);
    Workloadattestorv1__AttestRequest req = WORKLOADATTESTORV1__ATTEST_REQUEST__INIT;
    req.pid = 42;
    Workloadattestorv1__AttestResponse *resp;
    KF_OK(kf_call(&fx, WA "Attest", &req.base, &workloadattestorv1__attest_response__descriptor, &resp, &e),
          e);
    assert_int_equal(resp->n_selector_values, 1);
    assert_string_equal(resp->selector_values[0], "pid:42");

    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    any.type_url = (char *)"type.googleapis.com/x.Y";
    any.value = kf_bytes("v");
    Workloadattestorv1__AttestReferenceRequest ref = WORKLOADATTESTORV1__ATTEST_REFERENCE_REQUEST__INIT;
    const ProtobufCMessageDescriptor *type = &workloadattestorv1__attest_reference_response__descriptor;
    assert_int_equal(kf_call(&fx, WA "AttestReference", &ref.base, type, NULL, &e), CS_INVALID);
    ref.reference = &any;
    Workloadattestorv1__AttestReferenceResponse *got;
    (void)kf_seen(&fx);
    KF_OK(kf_call(&fx, WA "AttestReference", &ref.base, type, &got, &e), e);
    assert_string_equal(kf_seen(&fx), "reference url=type.googleapis.com/x.Y value=76\n");
    assert_string_equal(got->selector_values[0], "url:type.googleapis.com/x.Y");
    kf_down(&fx);
}

/* --- Errors --- */

static void test_errors(void **state)
{
    (void)state;
    struct cs_err e;
    Workloadattestorv1__AttestRequest req = WORKLOADATTESTORV1__ATTEST_REQUEST__INIT;
    const ProtobufCMessageDescriptor *type = &workloadattestorv1__attest_response__descriptor;
    kf_ready(&fx, CSPIRE_WORKLOAD_ATTESTOR);
    for (int code = CSPIRE_CANCELLED; code <= CSPIRE_UNAUTHENTICATED; code++) {
        d_self.fail = (enum cspire_code)code;
        assert_int_equal(kf_call(&fx, WA "Attest", &req.base, type, NULL, &e), code);
        assert_string_equal(e.text, "as asked");
    }
    d_self.fail = (enum cspire_code)4711;
    assert_int_equal(kf_call(&fx, WA "Attest", &req.base, type, NULL, &e), CS_UNKNOWN);
    d_self.fail = (enum cspire_code) - 1;
    assert_int_equal(kf_call(&fx, WA "Attest", &req.base, type, NULL, &e), CS_UNKNOWN);
    assert_int_equal(kf_call(&fx, WA "Nothing", &req.base, type, NULL, &e), CS_UNIMPLEMENTED);
    kf_down(&fx);
}

static enum cspire_code wordless(void *self, struct cspire_call *c, int32_t pid)
{
    (void)self;
    (void)c;
    (void)pid;
    return CSPIRE_ABORTED;
}
static enum cspire_code wrong_answer(void *self, struct cspire_call *c, int32_t pid)
{
    (void)self;
    return pid == 1 ? cspire_reply_payload(c, d_of("x")) : cspire_reply_selector(c, "bad \xff text");
}

static void test_plugins_that_misbehave(void **state)
{
    (void)state;
    struct cs_err e;
    Workloadattestorv1__AttestRequest req = WORKLOADATTESTORV1__ATTEST_REQUEST__INIT;
    const ProtobufCMessageDescriptor *type = &workloadattestorv1__attest_response__descriptor;
    struct cspire_workload_attestor_ops ops = {.size = sizeof ops, .attest = wordless};
    struct cspire_plugin plugin = d_plugin(CSPIRE_WORKLOAD_ATTESTOR);
    plugin.ops.workload_attestor = &ops;
    kf_up_plugin(&fx, plugin);
    KF_OK(kf_init(&fx, NULL, NULL, &e), e);
    assert_int_equal(kf_call(&fx, WA "Attest", &req.base, type, NULL, &e), CS_ABORTED);
    assert_string_equal(e.text, "the plugin gives no reason");
    ops.attest = wrong_answer;
    req.pid = 1;
    assert_int_equal(kf_call(&fx, WA "Attest", &req.base, type, NULL, &e), CS_PRECONDITION);
    assert_string_equal(e.text, "a payload is no answer to this operation");
    req.pid = 2;
    assert_int_equal(kf_call(&fx, WA "Attest", &req.base, type, NULL, &e), CS_INVALID);
    assert_string_equal(e.text, "a selector is not valid UTF-8");
    /* a table of an older header ends before the newer operations */
    ops.size = offsetof(struct cspire_workload_attestor_ops, attest_reference);
    ops.attest_reference = d_attest_reference;
    Workloadattestorv1__AttestReferenceRequest ref = WORKLOADATTESTORV1__ATTEST_REFERENCE_REQUEST__INIT;
    assert_int_equal(kf_call(&fx, WA "AttestReference", &ref.base,
                             &workloadattestorv1__attest_reference_response__descriptor, NULL, &e),
                     CS_UNIMPLEMENTED);
    kf_down(&fx);
}

/* --- Notifier, BundlePublisher --- */

static Sdktypes__Bundle *bundle(void)
{
    static Sdktypes__X509Certificate cert = SDKTYPES__X509_CERTIFICATE__INIT, *certs[] = {&cert};
    static Sdktypes__JWTKey key = SDKTYPES__JWTKEY__INIT, *keys[] = {&key};
    static Sdktypes__Bundle b = SDKTYPES__BUNDLE__INIT;
    cert.asn1 = kf_bytes("c");
    cert.tainted = true;
    key.public_key = kf_bytes("k");
    key.key_id = (char *)"kid";
    key.expires_at = -5;
    b.trust_domain = (char *)"example.org";
    b.x509_authorities = certs;
    b.n_x509_authorities = 1;
    b.jwt_authorities = keys;
    b.n_jwt_authorities = 1;
    b.refresh_hint = 60;
    b.sequence_number = UINT64_MAX;
    return &b;
}
#define BUNDLE_TEXT " td=example.org hint=60 seq=18446744073709551615 x509=63! jwt=6b:kid:-5\n"

static void test_notifier(void **state)
{
    (void)state;
    struct cs_err e;
    kf_ready(&fx, CSPIRE_NOTIFIER);
    Notifierv1__BundleUpdated updated = NOTIFIERV1__BUNDLE_UPDATED__INIT;
    Notifierv1__NotifyRequest notify = NOTIFIERV1__NOTIFY_REQUEST__INIT;
    const char *path = "/spire.plugin.server.notifier.v1.Notifier/Notify";
    const ProtobufCMessageDescriptor *type = &notifierv1__notify_response__descriptor;
    assert_int_equal(kf_call(&fx, path, &notify.base, type, NULL, &e), CS_UNIMPLEMENTED);
    notify.event_case = NOTIFIERV1__NOTIFY_REQUEST__EVENT_BUNDLE_UPDATED;
    notify.bundle_updated = &updated;
    assert_int_equal(kf_call(&fx, path, &notify.base, type, NULL, &e), CS_INVALID);
    updated.bundle = bundle();
    KF_OK(kf_call(&fx, path, &notify.base, type, NULL, &e), e);
    assert_string_equal(kf_seen(&fx), "updated" BUNDLE_TEXT);

    Notifierv1__BundleLoaded loaded = NOTIFIERV1__BUNDLE_LOADED__INIT;
    loaded.bundle = bundle();
    Notifierv1__NotifyAndAdviseRequest advise = NOTIFIERV1__NOTIFY_AND_ADVISE_REQUEST__INIT;
    advise.event_case = NOTIFIERV1__NOTIFY_AND_ADVISE_REQUEST__EVENT_BUNDLE_LOADED;
    advise.bundle_loaded = &loaded;
    KF_OK(kf_call(&fx, "/spire.plugin.server.notifier.v1.Notifier/NotifyAndAdvise", &advise.base,
                  &notifierv1__notify_and_advise_response__descriptor, NULL, &e),
          e);
    assert_string_equal(kf_seen(&fx), "loaded" BUNDLE_TEXT);
    kf_down(&fx);
}

static void test_bundle_publisher(void **state)
{
    (void)state;
    struct cs_err e;
    kf_ready(&fx, CSPIRE_BUNDLE_PUBLISHER);
    Bundlepublisherv1__PublishBundleRequest req = BUNDLEPUBLISHERV1__PUBLISH_BUNDLE_REQUEST__INIT;
    req.bundle = bundle();
    KF_OK(kf_call(&fx, "/spire.plugin.server.bundlepublisher.v1.BundlePublisher/PublishBundle", &req.base,
                  &bundlepublisherv1__publish_bundle_response__descriptor, NULL, &e),
          e);
    assert_string_equal(kf_seen(&fx), "publish" BUNDLE_TEXT);
    kf_down(&fx);
}

/* --- CredentialComposer --- */

#define CC "/spire.plugin.server.credentialcomposer.v1.CredentialComposer/Compose"

static Credentialcomposerv1__DistinguishedName *subject(void)
{
    static char *os[] = {(char *)"o1", (char *)"o2"}, *cs[] = {(char *)"DE"};
    static Credentialcomposerv1__AttributeTypeAndValue
        extra = CREDENTIALCOMPOSERV1__ATTRIBUTE_TYPE_AND_VALUE__INIT,
        *extras[] = {&extra};
    static Credentialcomposerv1__DistinguishedName n = CREDENTIALCOMPOSERV1__DISTINGUISHED_NAME__INIT;
    extra.oid = (char *)"2.5.4.4";
    extra.string_value = (char *)"sn";
    n.organization = os;
    n.n_organization = 2;
    n.country = cs;
    n.n_country = 1;
    n.serial_number = (char *)"77";
    n.common_name = (char *)"cn";
    n.extra_names = extras;
    n.n_extra_names = 1;
    return &n;
}
#define SUBJECT_TEXT " c=[DE] o=[o1,o2] ou=[] l=[] st=[] street=[] postal=[] serial=77 cn=cn 2.5.4.4=sn"

static Credentialcomposerv1__X509SVIDAttributes *svid_attributes(void)
{
    static char *dns[] = {(char *)"a.example.org"};
    static Credentialcomposerv1__X509Extension ext = CREDENTIALCOMPOSERV1__X509_EXTENSION__INIT,
                                               *exts[] = {&ext};
    static Credentialcomposerv1__X509SVIDAttributes a = CREDENTIALCOMPOSERV1__X509_SVIDATTRIBUTES__INIT;
    ext.oid = (char *)"1.9";
    ext.value = kf_bytes("e");
    ext.critical = true;
    a.subject = subject();
    a.dns_sans = dns;
    a.n_dns_sans = 1;
    a.extra_extensions = exts;
    a.n_extra_extensions = 1;
    return &a;
}

static void check_composed(const Credentialcomposerv1__X509SVIDAttributes *a)
{
    assert_string_equal(a->subject->common_name, "cn+");
    assert_string_equal(a->subject->serial_number, "77");
    assert_int_equal(a->subject->n_organization, 3);
    assert_string_equal(a->subject->organization[0], "o1");
    assert_string_equal(a->subject->organization[2], "more 1");
    assert_int_equal(a->subject->n_extra_names, 1);
    assert_string_equal(a->subject->extra_names[0]->string_value, "alias");
    assert_int_equal(a->n_dns_sans, 2);
    assert_string_equal(a->dns_sans[1], "added");
    assert_int_equal(a->n_extra_extensions, 1);
    assert_string_equal(a->extra_extensions[0]->oid, "1.2.3");
    assert_int_equal(a->extra_extensions[0]->value.len, 2);
    assert_true(a->extra_extensions[0]->critical);
}

static void test_composer_svids(void **state)
{
    (void)state;
    struct cs_err e;
    kf_ready(&fx, CSPIRE_CREDENTIAL_COMPOSER);
    Credentialcomposerv1__ComposeServerX509SVIDRequest server =
        CREDENTIALCOMPOSERV1__COMPOSE_SERVER_X509_SVIDREQUEST__INIT;
    Credentialcomposerv1__ComposeServerX509SVIDResponse *server_resp;
    const ProtobufCMessageDescriptor *type =
        &credentialcomposerv1__compose_server_x509_svidresponse__descriptor;
    assert_int_equal(kf_call(&fx, CC "ServerX509SVID", &server.base, type, NULL, &e), CS_INVALID);
    server.attributes = svid_attributes();
    KF_OK(kf_call(&fx, CC "ServerX509SVID", &server.base, type, &server_resp, &e), e);
    assert_string_equal(kf_seen(&fx),
                        "server_svid" SUBJECT_TEXT " dns=[a.example.org] policies=[] 1.9=65!\n");
    check_composed(server_resp->attributes);

    Credentialcomposerv1__ComposeAgentX509SVIDRequest agent =
        CREDENTIALCOMPOSERV1__COMPOSE_AGENT_X509_SVIDREQUEST__INIT;
    Credentialcomposerv1__ComposeAgentX509SVIDResponse *agent_resp;
    agent.attributes = svid_attributes();
    agent.spiffe_id = (char *)"spiffe://example.org/a";
    agent.public_key = kf_bytes("p");
    KF_OK(kf_call(&fx, CC "AgentX509SVID", &agent.base,
                  &credentialcomposerv1__compose_agent_x509_svidresponse__descriptor, &agent_resp, &e),
          e);
    assert_memory_equal(kf_seen(&fx), "spiffe://example.org/a key=70 agent_svid c=", 43);
    check_composed(agent_resp->attributes);

    Credentialcomposerv1__ComposeWorkloadX509SVIDRequest workload =
        CREDENTIALCOMPOSERV1__COMPOSE_WORKLOAD_X509_SVIDREQUEST__INIT;
    Credentialcomposerv1__ComposeWorkloadX509SVIDResponse *workload_resp;
    workload.attributes = svid_attributes();
    workload.spiffe_id = (char *)"spiffe://example.org/w";
    KF_OK(kf_call(&fx, CC "WorkloadX509SVID", &workload.base,
                  &credentialcomposerv1__compose_workload_x509_svidresponse__descriptor, &workload_resp, &e),
          e);
    assert_memory_equal(kf_seen(&fx), "spiffe://example.org/w key= workload_svid c=", 44);
    check_composed(workload_resp->attributes);
    kf_down(&fx);
}

static void test_composer_ca(void **state)
{
    (void)state;
    struct cs_err e;
    kf_ready(&fx, CSPIRE_CREDENTIAL_COMPOSER);
    char *policies[] = {(char *)"2.23"};
    Credentialcomposerv1__X509CAAttributes a = CREDENTIALCOMPOSERV1__X509_CAATTRIBUTES__INIT;
    a.subject = subject();
    a.policy_identifiers = policies;
    a.n_policy_identifiers = 1;
    Credentialcomposerv1__ComposeServerX509CARequest req =
        CREDENTIALCOMPOSERV1__COMPOSE_SERVER_X509_CAREQUEST__INIT;
    req.attributes = &a;
    Credentialcomposerv1__ComposeServerX509CAResponse *resp;
    KF_OK(kf_call(&fx, CC "ServerX509CA", &req.base,
                  &credentialcomposerv1__compose_server_x509_caresponse__descriptor, &resp, &e),
          e);
    assert_string_equal(kf_seen(&fx), "server_ca" SUBJECT_TEXT " dns=[] policies=[2.23]\n");
    assert_string_equal(resp->attributes->subject->common_name, "cn+");
    assert_int_equal(resp->attributes->n_policy_identifiers, 2);
    assert_string_equal(resp->attributes->policy_identifiers[1], "1.1");
    assert_int_equal(resp->attributes->n_extra_extensions, 1);
    kf_down(&fx);
}

/* Claims as JSON, through the message and back. */
static const char *recompose(const char *claims, const char *answer, cs_code *code, struct cs_err *e)
{
    struct cspire_call c;
    Google__Protobuf__Struct *in = NULL;
    KF_OK(kit_call_init(&c, &fx.env, NULL, fx.arena, 0, e), *e);
    KF_OK(kit_claims_parse(&c, claims, &in, e), *e);
    Credentialcomposerv1__JWTSVIDAttributes a = CREDENTIALCOMPOSERV1__JWTSVIDATTRIBUTES__INIT;
    a.claims = in;
    Credentialcomposerv1__ComposeWorkloadJWTSVIDRequest req =
        CREDENTIALCOMPOSERV1__COMPOSE_WORKLOAD_JWTSVIDREQUEST__INIT;
    req.attributes = &a;
    req.spiffe_id = (char *)"id";
    d_self.claims = answer;
    Credentialcomposerv1__ComposeWorkloadJWTSVIDResponse *resp;
    *code = kf_call(&fx, CC "WorkloadJWTSVID", &req.base,
                    &credentialcomposerv1__compose_workload_jwtsvidresponse__descriptor, &resp, e);
    const char *text = NULL;
    if (*code == CS_OK)
        KF_OK(kit_claims_print(&c, resp->attributes->claims, &text, e), *e);
    kit_call_end(&c);
    return text;
}

static void test_composer_claims(void **state)
{
    (void)state;
    struct cs_err e = {0};
    cs_code code;
    kf_ready(&fx, CSPIRE_CREDENTIAL_COMPOSER);
    static const char claims[] = "{\"aud\":[\"a\",\"b\"],\"exp\":1763923361,\"f\":0.5,\"neg\":-3,"
                                 "\"o\":{\"x\":null,\"y\":true},\"s\":\"\"}";
    assert_string_equal(recompose(claims, NULL, &code, &e), claims);
    assert_string_equal(kf_seen(&fx), cs_arena_printf(fx.arena, "id jwt %s\n", claims));
    assert_string_equal(recompose(claims, "{\"exp\":1e3,\"a\":[[],{}]}", &code, &e),
                        "{\"a\":[[],{}],\"exp\":1000}");
    static const char *const bad[] = {"[]", "", "{\"a\":1", "1", "{\"a\":1,\"a\":2}", "{\"a\":1e999}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_null(recompose(claims, bad[i], &code, &e));
        assert_int_equal(code, CS_INVALID);
        assert_memory_equal(e.text, "claims: not a JSON object: ", 27);
    }
    struct cs_buf deep CS_CLEANUP(cs_buf_free) = {0};
    for (int i = 0; i < 100; i++)
        cs_buf_add_str(&deep, "{\"a\":");
    cs_buf_add_str(&deep, "1");
    for (int i = 0; i < 100; i++)
        cs_buf_add_str(&deep, "}");
    assert_null(recompose(claims, cs_buf_cstr(&deep), &code, &e));
    assert_string_equal(e.text, "claims: nested too deeply");
    kf_down(&fx);
}

/* --- SVIDStore --- */

#define STORE "/spire.plugin.agent.svidstore.v1.SVIDStore/"

static void test_svid_store(void **state)
{
    (void)state;
    struct cs_err e;
    kf_ready(&fx, CSPIRE_SVID_STORE);
    ProtobufCBinaryData chain[] = {kf_bytes("1"), kf_bytes("2")}, roots[] = {kf_bytes("3")};
    char *metadata[] = {(char *)"name:x", (char *)"y"};
    Svidstorev1__X509SVID svid = SVIDSTOREV1__X509_SVID__INIT;
    svid.spiffeid = (char *)"spiffe://example.org/w";
    svid.cert_chain = chain;
    svid.n_cert_chain = 2;
    svid.private_key = kf_bytes("secret");
    svid.bundle = roots;
    svid.n_bundle = 1;
    svid.expires_at = 99;
    Svidstorev1__PutX509SVIDRequest__FederatedBundlesEntry
        other = SVIDSTOREV1__PUT_X509_SVIDREQUEST__FEDERATED_BUNDLES_ENTRY__INIT,
        *others[] = {&other};
    other.key = (char *)"spiffe://other.org";
    other.value = kf_bytes("4");
    Svidstorev1__PutX509SVIDRequest put = SVIDSTOREV1__PUT_X509_SVIDREQUEST__INIT;
    const ProtobufCMessageDescriptor *type = &svidstorev1__put_x509_svidresponse__descriptor;
    put.metadata = metadata;
    put.n_metadata = 2;
    put.federated_bundles = others;
    put.n_federated_bundles = 1;
    assert_int_equal(kf_call(&fx, STORE "PutX509SVID", &put.base, type, NULL, &e), CS_INVALID);
    put.svid = &svid;
    KF_OK(kf_call(&fx, STORE "PutX509SVID", &put.base, type, NULL, &e), e);
    assert_string_equal(kf_seen(&fx),
                        "put id=spiffe://example.org/w expires=99 chain=31 chain=32 "
                        "key=736563726574 bundle=33 spiffe://other.org=34 metadata=[name:x,y]\n");
    Svidstorev1__DeleteX509SVIDRequest del = SVIDSTOREV1__DELETE_X509_SVIDREQUEST__INIT;
    del.metadata = metadata;
    del.n_metadata = 1;
    KF_OK(kf_call(&fx, STORE "DeleteX509SVID", &del.base, &svidstorev1__delete_x509_svidresponse__descriptor,
                  NULL, &e),
          e);
    assert_string_equal(kf_seen(&fx), "remove metadata=[name:x]\n");
    kf_down(&fx);
}

/* A key that a plugin was handed is overwritten when its operation has ended. */
static void test_keys_are_wiped(void **state)
{
    (void)state;
    struct cs_err e = {0};
    kf_ready(&fx, CSPIRE_SVID_STORE);
    Svidstorev1__X509SVID svid = SVIDSTOREV1__X509_SVID__INIT;
    svid.private_key = kf_bytes("very secret key");
    Svidstorev1__PutX509SVIDRequest put = SVIDSTOREV1__PUT_X509_SVIDREQUEST__INIT;
    put.svid = &svid;
    struct cs_buf req CS_CLEANUP(cs_buf_free) = {0}, resp CS_CLEANUP(cs_buf_free) = {0};
    KF_OK(proto_pack(&put.base, &req, &e), e);
    CS_AUTO(cs_arena) arena = cs_arena_new(1 << 16, 0);
    uint8_t *first = cs_arena_alloc(arena, 16);
    KF_OK(kit_run(&fx.env, kit_svid_store.methods[0].policy, NULL, arena, cs_buf_slice(&req), &resp, &e), e);
    size_t used = cs_arena_used(arena);
    assert_null(memmem(first + 16, used - 16, "very secret key", 15));
    assert_non_null(strstr(kf_seen(&fx), "key=766572792073656372657420"));
    kf_down(&fx);
}

/* --- No memory --- */

/* Each allocation of an operation fails in turn: until none does, it says so, and stays alive. */
static void fail_each(const char *method, const ProtobufCMessage *request)
{
    struct cs_err e = {0};
    const struct kit_handler *h = NULL;
    for (size_t m = 0; m < fx.env.kind->method_count; m++) {
        if (strcmp(strrchr(fx.env.kind->methods[m].path, '/') + 1, method) == 0)
            h = fx.env.kind->methods[m].policy;
    }
    assert_non_null(h);
    struct cs_buf req CS_CLEANUP(cs_buf_free) = {0};
    KF_OK(proto_pack(request, &req, &e), e);
    cs_code code = CS_INTERNAL;
    size_t failed = 0;
    for (size_t n = 1; code != CS_OK && n < 1000; n++) {
        CS_AUTO(cs_arena) arena = cs_arena_new(64, 0);
        struct cs_buf resp CS_CLEANUP(cs_buf_free) = {0};
        e = (struct cs_err){0};
        cs_buf_free(&d_self.seen);
        (void)cs_mem_fail_at(n, true);
        code = kit_run(&fx.env, h, NULL, arena, cs_buf_slice(&req), &resp, &e);
        (void)cs_mem_fail_at(0, false);
        failed += code != CS_OK;
        assert_true(code == CS_OK || e.text[0] != '\0');
    }
    assert_int_equal(code, CS_OK);
    assert_true(failed > 0);
}

static void test_no_memory(void **state)
{
    (void)state;
    kf_ready(&fx, CSPIRE_SERVER_KEY_MANAGER);
    Skeymanagerv1__GetPublicKeysRequest keys = SKEYMANAGERV1__GET_PUBLIC_KEYS_REQUEST__INIT;
    fail_each("GetPublicKeys", &keys.base);
    Skeymanagerv1__SignDataRequest sign = SKEYMANAGERV1__SIGN_DATA_REQUEST__INIT;
    sign.key_id = (char *)"k";
    sign.signer_opts_case = SKEYMANAGERV1__SIGN_DATA_REQUEST__SIGNER_OPTS_HASH_ALGORITHM;
    sign.hash_algorithm = SKEYMANAGERV1__HASH_ALGORITHM__SHA256;
    fail_each("SignData", &sign.base);
    kf_down(&fx);

    kf_ready(&fx, CSPIRE_WORKLOAD_ATTESTOR);
    Workloadattestorv1__AttestRequest attest = WORKLOADATTESTORV1__ATTEST_REQUEST__INIT;
    fail_each("Attest", &attest.base);
    kf_down(&fx);

    kf_ready(&fx, CSPIRE_BUNDLE_PUBLISHER);
    Bundlepublisherv1__PublishBundleRequest publish = BUNDLEPUBLISHERV1__PUBLISH_BUNDLE_REQUEST__INIT;
    publish.bundle = bundle();
    fail_each("PublishBundle", &publish.base);
    kf_down(&fx);

    kf_ready(&fx, CSPIRE_CREDENTIAL_COMPOSER);
    Credentialcomposerv1__ComposeServerX509SVIDRequest svid =
        CREDENTIALCOMPOSERV1__COMPOSE_SERVER_X509_SVIDREQUEST__INIT;
    svid.attributes = svid_attributes();
    fail_each("ComposeServerX509SVID", &svid.base);
    Google__Protobuf__Struct claims = GOOGLE__PROTOBUF__STRUCT__INIT;
    Credentialcomposerv1__JWTSVIDAttributes jwt_attributes = CREDENTIALCOMPOSERV1__JWTSVIDATTRIBUTES__INIT;
    jwt_attributes.claims = &claims;
    Credentialcomposerv1__ComposeWorkloadJWTSVIDRequest jwt =
        CREDENTIALCOMPOSERV1__COMPOSE_WORKLOAD_JWTSVIDREQUEST__INIT;
    jwt.attributes = &jwt_attributes;
    d_self.claims = "{\"a\":[1,{\"b\":\"c\"}]}";
    fail_each("ComposeWorkloadJWTSVID", &jwt.base);
    kf_down(&fx);

    kf_ready(&fx, CSPIRE_SVID_STORE);
    Svidstorev1__X509SVID stored = SVIDSTOREV1__X509_SVID__INIT;
    stored.private_key = kf_bytes("key");
    Svidstorev1__PutX509SVIDRequest put = SVIDSTOREV1__PUT_X509_SVIDREQUEST__INIT;
    put.svid = &stored;
    fail_each("PutX509SVID", &put.base);
    kf_down(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_manager),
        cmocka_unit_test(test_key_manager_pss_and_refusals),
        cmocka_unit_test(test_key_manager_without_answers),
        cmocka_unit_test(test_workload_attestor),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_plugins_that_misbehave),
        cmocka_unit_test(test_notifier),
        cmocka_unit_test(test_bundle_publisher),
        cmocka_unit_test(test_composer_svids),
        cmocka_unit_test(test_composer_ca),
        cmocka_unit_test(test_composer_claims),
        cmocka_unit_test(test_svid_store),
        cmocka_unit_test(test_keys_are_wiped),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
