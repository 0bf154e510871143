/* SPDX-License-Identifier: Apache-2.0
 *
 * Bridges of unary calls: what is asked of a plugin, and that nothing is taken from it unchecked.
 */
#include "base/file.h"
#include "base/mem.h"
#include "plugin/bundlepublisher.h"
#include "plugin/keymanager.h"
#include "plugin/notifier.h"
#include "plugin/svidstore.h"
#include "plugin/workloadattestor.h"
#include "proto/proto.h"
#include "tests/fakes/plugin_external.h"

#include "sdk_agent_svidstore.pb-c.h"
#include "sdk_agent_workloadattestor.pb-c.h"
#include "sdk_server_bundlepublisher.pb-c.h"
#include "sdk_server_keymanager.pb-c.h"
#include "sdk_server_notifier.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

extern const struct plugin_bridge plugin_bridge_keymanager, plugin_bridge_agent_keymanager,
    plugin_bridge_notifier, plugin_bridge_bundlepublisher, plugin_bridge_svidstore,
    plugin_bridge_workloadattestor;

static const struct plugin_env env = {.clock = &cs_clock_system, .trust_domain = "example.org"};

/* What the plugin answers to the next calls, in turn, and what it was asked last. */
struct script {
    struct plugin_external x;
    const ProtobufCMessage *answers[2];
    cs_code codes[2]; /* other than CS_OK: fails with "no way" */
    bool two;         /* the second call is answered by the second */
    unsigned calls;
    struct cs_buf raw; /* instead of a message */
    char path[120];
    struct cs_buf request;
};

static cs_code play(void *arg, const char *path, struct cs_slice request, struct cs_buf *answer,
                    struct cs_err *e)
{
    struct script *s = arg;
    unsigned n = s->calls++ > 0 && s->two;
    snprintf(s->path, sizeof s->path, "%s", path);
    cs_buf_reset(&s->request);
    cs_buf_add_slice(&s->request, request);
    if (s->codes[n] != CS_OK)
        return cs_fail(e, s->codes[n], "no way");
    if (s->answers[n] == NULL) {
        cs_buf_add_slice(answer, cs_buf_slice(&s->raw));
        return CS_OK;
    }
    return proto_pack(s->answers[n], answer, e);
}

struct bridged {
    struct script s;
    const struct plugin_bridge *bridge;
    void *self;
    struct cs_arena *a;
};

static void open_bridge(struct bridged *b, const struct plugin_bridge *bridge)
{
    *b = (struct bridged){.bridge = bridge, .a = cs_arena_new(0, 0)};
    b->s.x = (struct plugin_external){.name = "own", .unary = play, .arg = &b->s};
    assert_int_equal(bridge->create(&b->s.x, &env, &b->self, NULL), CS_OK);
}

static void close_bridge(struct bridged *b)
{
    b->bridge->destroy(b->self);
    cs_arena_free(b->a);
    cs_buf_free(&b->s.request);
    cs_buf_free(&b->s.raw);
}

static void answer_with(struct bridged *b, const void *message)
{
    b->s.answers[0] = message;
    b->s.codes[0] = CS_OK;
    b->s.calls = 0;
}

static void fail_with(struct bridged *b, cs_code code)
{
    b->s.codes[0] = code;
    b->s.calls = 0;
}

static void *asked(struct bridged *b, const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *m = NULL;
    assert_int_equal(proto_unpack(b->a, type, cs_buf_slice(&b->s.request), &m, NULL), CS_OK);
    return m;
}

static void assert_begins(const char *text, const char *wanted)
{
    if (strncmp(text, wanted, strlen(wanted)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", text, wanted);
}

/* --- KeyManager --- */

struct key {
    struct crypto_key *key;
    Skeymanagerv1__PublicKey message;
};

static struct key make_key(enum crypto_key_type type, const char *id)
{
    struct key k = {.message = SKEYMANAGERV1__PUBLIC_KEY__INIT};
    assert_int_equal(crypto_key_generate(type, &k.key, NULL), CS_OK);
    struct cs_slice spki = crypto_pub_spki(crypto_key_pub(k.key));
    k.message.id = (char *)id;
    k.message.fingerprint = (char *)"print";
    k.message.pkix_data = (ProtobufCBinaryData){.len = spki.len, .data = (uint8_t *)spki.data};
    return k;
}

static const struct keymanager_ops *km(const struct bridged *b)
{
    return b->bridge->ops;
}

static struct crypto_signer *get(struct bridged *b, const Skeymanagerv1__PublicKey *key)
{
    struct crypto_signer *s = NULL;
    struct cs_err e = {0};
    Skeymanagerv1__GetPublicKeyResponse r = SKEYMANAGERV1__GET_PUBLIC_KEY_RESPONSE__INIT;
    r.public_key = (Skeymanagerv1__PublicKey *)key;
    answer_with(b, &r);
    if (km(b)->get_key(b->self, key->id, &s, &e) != CS_OK)
        fail_msg("%s", e.text);
    return s;
}

static void keys_are_generated_and_checked(void **state)
{
    (void)state;
    struct bridged b;
    struct cs_err e;
    struct crypto_signer *s = NULL;
    open_bridge(&b, &plugin_bridge_keymanager);
    struct key good = make_key(CRYPTO_EC_P256, "k");
    Skeymanagerv1__PublicKey changed;
    Skeymanagerv1__GenerateKeyResponse r = SKEYMANAGERV1__GENERATE_KEY_RESPONSE__INIT;
    answer_with(&b, &r);

    assert_int_equal(km(&b)->generate_key(b.self, "k", CRYPTO_EC_P256, &s, &e), CS_INTERNAL);
    assert_string_equal(e.text, "keymanager(own): plugin response empty for key \"k\"");
    r.public_key = &changed;
    changed = good.message;
    changed.id = (char *)"x\n";
    assert_int_equal(km(&b)->generate_key(b.self, "k", CRYPTO_EC_P256, &s, &e), CS_INTERNAL);
    assert_string_equal(e.text,
                        "keymanager(own): plugin response has unexpected key id \"x\\n\" for key \"k\"");
    changed = good.message;
    changed.pkix_data.len = 0;
    assert_int_equal(km(&b)->generate_key(b.self, "k", CRYPTO_EC_P256, &s, &e), CS_INTERNAL);
    assert_string_equal(e.text,
                        "keymanager(own): plugin response missing public key PKIX data for key \"k\"");
    changed = good.message;
    changed.pkix_data.len--;
    assert_int_equal(km(&b)->generate_key(b.self, "k", CRYPTO_EC_P256, &s, &e), CS_INTERNAL);
    assert_begins(e.text, "keymanager(own): unable to parse public key PKIX data for key \"k\": ");
    changed = good.message;
    assert_int_equal(km(&b)->generate_key(b.self, "k", CRYPTO_EC_P384, &s, &e), CS_INTERNAL);
    assert_string_equal(
        e.text,
        "keymanager(own): plugin response has a key of type ec-p256 for key \"k\"; asked for ec-p384");
    assert_null(s);
    assert_int_equal(km(&b)->generate_key(b.self, "k", CRYPTO_KEY_NONE, &s, &e), CS_INVALID);
    assert_string_equal(e.text, "keymanager(own): key type is required");
    assert_int_equal(km(&b)->generate_key(b.self, "k", CRYPTO_EC_P521, &s, &e), CS_INTERNAL);
    assert_string_equal(e.text, "keymanager(own): facade does not support key type \"ec-p521\"");

    assert_int_equal(km(&b)->generate_key(b.self, "k", CRYPTO_EC_P256, &s, &e), CS_OK);
    assert_true(crypto_pub_equal(crypto_signer_pub(s), crypto_key_pub(good.key)));
    assert_null(crypto_signer_key(s));
    assert_string_equal(b.s.path, "/spire.plugin.server.keymanager.v1.KeyManager/GenerateKey");
    assert_int_equal(b.s.x.last_deadline_ns, 30 * CS_NS_PER_S);
    Skeymanagerv1__GenerateKeyRequest *q = asked(&b, &skeymanagerv1__generate_key_request__descriptor);
    assert_string_equal(q->key_id, "k");
    assert_int_equal(q->key_type, SKEYMANAGERV1__KEY_TYPE__EC_P256);
    crypto_signer_unref(s);
    crypto_key_unref(good.key);
    close_bridge(&b);
}

static void errors_are_the_plugins_own(void **state)
{
    (void)state;
    struct bridged b;
    struct cs_err e;
    struct crypto_signer *s = NULL;
    open_bridge(&b, &plugin_bridge_agent_keymanager);
    fail_with(&b, CS_DENIED);
    assert_int_equal(km(&b)->get_key(b.self, "k", &s, &e), CS_DENIED);
    assert_string_equal(e.text, "keymanager(own): no way");
    assert_string_equal(b.s.path, "/spire.plugin.agent.keymanager.v1.KeyManager/GetPublicKey");
    Skeymanagerv1__GetPublicKeyResponse none = SKEYMANAGERV1__GET_PUBLIC_KEY_RESPONSE__INIT;
    answer_with(&b, &none);
    assert_int_equal(km(&b)->get_key(b.self, "k", &s, &e), CS_NOT_FOUND);
    assert_string_equal(e.text, "keymanager(own): key \"k\" not found");
    b.s.answers[0] = NULL;
    b.s.calls = 0;
    cs_buf_add_str(&b.s.raw, "\xff\xff\xff");
    assert_int_equal(km(&b)->get_key(b.self, "k", &s, &e), CS_INTERNAL);
    assert_begins(e.text, "keymanager(own): ");
    assert_null(s);
    close_bridge(&b);
}

static void sign_once(struct bridged *b, enum crypto_key_type type, enum crypto_sig alg)
{
    struct key k = make_key(type, "k");
    struct crypto_signer *s = get(b, &k.message);
    struct crypto_signer *local = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf right = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf got = {0};
    struct cs_err e = {0};
    assert_int_equal(crypto_signer_of_key(k.key, &local, NULL), CS_OK);
    assert_int_equal(crypto_sign(local, alg, cs_slice_str("hello"), &right, NULL), CS_OK);
    Skeymanagerv1__SignDataResponse r = SKEYMANAGERV1__SIGN_DATA_RESPONSE__INIT;
    r.signature = (ProtobufCBinaryData){.len = right.len, .data = right.data};
    r.key_fingerprint = (char *)"print";
    answer_with(b, &r);
    if (crypto_sign(s, alg, cs_slice_str("hello"), &got, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_true(cs_slice_eq(cs_buf_slice(&got), cs_buf_slice(&right)));
    Skeymanagerv1__SignDataRequest *q = asked(b, &skeymanagerv1__sign_data_request__descriptor);
    uint8_t digest[CRYPTO_HASH_MAX];
    size_t n = crypto_hash_len(crypto_sig_hash(alg));
    assert_int_equal(crypto_digest(crypto_sig_hash(alg), cs_slice_str("hello"), digest, NULL), CS_OK);
    assert_int_equal(q->data.len, n);
    assert_memory_equal(q->data.data, digest, n);
    int hash = n == 32   ? SKEYMANAGERV1__HASH_ALGORITHM__SHA256
               : n == 48 ? SKEYMANAGERV1__HASH_ALGORITHM__SHA384
                         : SKEYMANAGERV1__HASH_ALGORITHM__SHA512;
    if (alg >= CRYPTO_PSS_SHA256) {
        assert_int_equal(q->signer_opts_case, SKEYMANAGERV1__SIGN_DATA_REQUEST__SIGNER_OPTS_PSS_OPTIONS);
        assert_int_equal(q->pss_options->hash_algorithm, hash);
        assert_int_equal(q->pss_options->salt_length, -1);
    } else {
        assert_int_equal(q->signer_opts_case, SKEYMANAGERV1__SIGN_DATA_REQUEST__SIGNER_OPTS_HASH_ALGORITHM);
        assert_int_equal(q->hash_algorithm, hash);
    }
    right.data[right.len - 1] ^= 1;
    assert_int_equal(crypto_sign(s, alg, cs_slice_str("hello"), &got, &e), CS_INTERNAL);
    assert_begins(e.text, "signature returned by signer is invalid: ");
    r.key_fingerprint = (char *)"other";
    assert_int_equal(crypto_sign(s, alg, cs_slice_str("hello"), &got, &e), CS_INTERNAL);
    assert_string_equal(e.text,
                        "keymanager(own): fingerprint \"print\" on key \"k\" does not match \"other\"");
    r.signature.len = 0;
    assert_int_equal(crypto_sign(s, alg, cs_slice_str("hello"), &got, &e), CS_INTERNAL);
    assert_string_equal(e.text, "keymanager(own): plugin returned empty signature data");
    assert_int_equal(got.len, right.len);
    crypto_signer_unref(s);
    crypto_signer_unref(local);
    crypto_key_unref(k.key);
}

static void signatures_are_checked(void **state)
{
    (void)state;
    static const struct {
        enum crypto_key_type type;
        enum crypto_sig alg;
    } rows[] = {
        {CRYPTO_EC_P256, CRYPTO_ECDSA_SHA256}, {CRYPTO_EC_P384, CRYPTO_ECDSA_SHA384},
        {CRYPTO_RSA_2048, CRYPTO_RSA_SHA256},  {CRYPTO_RSA_2048, CRYPTO_RSA_SHA512},
        {CRYPTO_RSA_2048, CRYPTO_PSS_SHA256},  {CRYPTO_RSA_2048, CRYPTO_PSS_SHA512},
    };
    struct bridged b;
    open_bridge(&b, &plugin_bridge_keymanager);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        sign_once(&b, rows[i].type, rows[i].alg);
    close_bridge(&b);
}

static cs_code join_ids(void *arg, const char *id, struct crypto_signer *key, struct cs_err *e)
{
    char *seen = arg;
    assert_non_null(key);
    if (strcmp(id, "stop") == 0)
        return cs_fail(e, CS_ABORTED, "stopped");
    strncat(seen, id, 100 - strlen(seen) - 1);
    return CS_OK;
}

static void keys_come_in_order(void **state)
{
    (void)state;
    struct bridged b;
    struct cs_err e;
    char seen[100] = "";
    open_bridge(&b, &plugin_bridge_keymanager);
    struct key one = make_key(CRYPTO_EC_P256, "b"), two = make_key(CRYPTO_RSA_2048, "a");
    Skeymanagerv1__PublicKey *list[] = {&one.message, &two.message};
    Skeymanagerv1__GetPublicKeysResponse r = SKEYMANAGERV1__GET_PUBLIC_KEYS_RESPONSE__INIT;
    answer_with(&b, &r);
    assert_int_equal(km(&b)->each_key(b.self, join_ids, seen, &e), CS_OK);
    assert_string_equal(seen, "");
    r.public_keys = list;
    r.n_public_keys = 2;
    assert_int_equal(km(&b)->each_key(b.self, join_ids, seen, &e), CS_OK);
    assert_string_equal(seen, "ab");
    one.message.id = (char *)"stop";
    assert_int_equal(km(&b)->each_key(b.self, join_ids, seen, &e), CS_ABORTED);
    two.message.pkix_data.len = 3;
    assert_int_equal(km(&b)->each_key(b.self, join_ids, seen, &e), CS_INTERNAL);
    assert_begins(e.text, "keymanager(own): unable to parse public key PKIX data for key \"a\": ");
    crypto_key_unref(one.key);
    crypto_key_unref(two.key);
    close_bridge(&b);
}

/* --- WorkloadAttestor --- */

static void selectors_are_taken(void **state)
{
    (void)state;
    struct bridged b;
    struct cs_err e;
    open_bridge(&b, &plugin_bridge_workloadattestor);
    const struct workloadattestor_ops *ops = b.bridge->ops;
    char *values[WORKLOADATTESTOR_VALUES_MAX + 1];
    for (size_t i = 0; i <= WORKLOADATTESTOR_VALUES_MAX; i++)
        values[i] = (char *)"colour:blue";
    Workloadattestorv1__AttestResponse r = WORKLOADATTESTORV1__ATTEST_RESPONSE__INIT;
    r.selector_values = values;
    r.n_selector_values = 2;
    values[1] = (char *)"plain";
    answer_with(&b, &r);
    struct workloadattestor_values v = {.arena = b.a};
    assert_int_equal(workloadattestor_add(&v, "uid", "0", NULL), CS_OK);
    assert_int_equal(ops->attest(b.self, 4711, &v, &e), CS_OK);
    assert_int_equal(v.count, 3);
    assert_string_equal(v.at[0], "uid:0");
    assert_string_equal(v.at[1], "colour:blue");
    assert_string_equal(v.at[2], "plain");
    Workloadattestorv1__AttestRequest *q = asked(&b, &workloadattestorv1__attest_request__descriptor);
    assert_int_equal(q->pid, 4711);

    r.n_selector_values = WORKLOADATTESTOR_VALUES_MAX - 2;
    assert_int_equal(ops->attest(b.self, 1, &v, &e), CS_EXHAUSTED);
    assert_string_equal(e.text, "workloadattestor(own): plugin response has 4094 selectors; at most 4096 "
                                "are taken");
    assert_int_equal(v.count, 3);
    values[0] = (char *)"\xff";
    r.n_selector_values = 1;
    assert_int_equal(ops->attest(b.self, 1, &v, &e), CS_INTERNAL);
    assert_begins(e.text, "workloadattestor(own): ");
    close_bridge(&b);
}

/* Newer plugins may know references alone; what neither knows is an error. */
static void processes_are_attested_by_reference(void **state)
{
    (void)state;
    struct bridged b;
    struct cs_err e;
    open_bridge(&b, &plugin_bridge_workloadattestor);
    const struct workloadattestor_ops *ops = b.bridge->ops;
    char *value = (char *)"a:b";
    Workloadattestorv1__AttestReferenceResponse r = WORKLOADATTESTORV1__ATTEST_REFERENCE_RESPONSE__INIT;
    r.selector_values = &value;
    r.n_selector_values = 1;
    fail_with(&b, CS_UNIMPLEMENTED);
    b.s.two = true;
    b.s.answers[1] = &r.base;
    struct workloadattestor_values v = {.arena = b.a};
    assert_int_equal(ops->attest(b.self, 300, &v, &e), CS_OK);
    assert_int_equal(v.count, 1);
    assert_string_equal(b.s.path, "/spire.plugin.agent.workloadattestor.v1.WorkloadAttestor/AttestReference");
    Workloadattestorv1__AttestReferenceRequest *q =
        asked(&b, &workloadattestorv1__attest_reference_request__descriptor);
    assert_string_equal(q->reference->type_url, "type.googleapis.com/spiffe.broker.WorkloadPIDReference");
    assert_int_equal(q->reference->value.len, 3);
    assert_memory_equal(q->reference->value.data, "\x08\xac\x02", 3);

    fail_with(&b, CS_UNIMPLEMENTED);
    b.s.codes[1] = CS_UNIMPLEMENTED;
    assert_int_equal(ops->attest(b.self, 300, &v, &e), CS_UNIMPLEMENTED);
    assert_string_equal(e.text, "workloadattestor(own): no way");
    close_bridge(&b);
}

/* --- Bundles --- */

static struct spiffe_bundle *make_bundle(struct cs_arena *a)
{
    struct spiffe_bundle_builder *builder = NULL;
    struct spiffe_bundle *bundle = NULL;
    struct cs_buf pem = {0};
    struct x509_chain certs = {0};
    const char *path = cs_arena_printf(a, "%s/crypto/ca_p256.pem", getenv("CSPIRE_TESTDATA"));
    assert_int_equal(cs_file_read(path, 1 << 16, &pem, NULL), CS_OK);
    assert_int_equal(x509_chain_parse_pem(cs_buf_slice(&pem), 1, &certs, NULL), CS_OK);
    assert_int_equal(spiffe_bundle_builder_new(cs_slice_str("example.org"), &builder, NULL), CS_OK);
    assert_int_equal(spiffe_bundle_add_x509(builder, certs.at[0], true, NULL), CS_OK);
    assert_int_equal(
        spiffe_bundle_add_jwt(builder, cs_slice_str("kid"), certs.at[0]->spki, 1700000000, true, NULL),
        CS_OK);
    assert_int_equal(
        spiffe_bundle_add_wit(builder, cs_slice_str("wit"), certs.at[0]->spki, 1800000000, false, NULL),
        CS_OK);
    spiffe_bundle_set_refresh_hint(builder, 60);
    spiffe_bundle_set_sequence(builder, 42);
    assert_int_equal(spiffe_bundle_build(builder, &bundle, NULL), CS_OK);
    spiffe_bundle_builder_free(builder);
    x509_chain_free(&certs);
    cs_buf_free(&pem);
    return bundle;
}

static void assert_bundle(const Sdktypes__Bundle *m, const struct spiffe_bundle *b)
{
    struct cs_slice der = b->x509[0].cert->der;
    assert_string_equal(m->trust_domain, "example.org");
    assert_int_equal(m->refresh_hint, 60);
    assert_int_equal(m->sequence_number, 42);
    assert_int_equal(m->n_x509_authorities, 1);
    assert_true(m->x509_authorities[0]->tainted);
    assert_int_equal(m->x509_authorities[0]->asn1.len, der.len);
    assert_memory_equal(m->x509_authorities[0]->asn1.data, der.data, der.len);
    assert_int_equal(m->n_jwt_authorities, 1);
    assert_string_equal(m->jwt_authorities[0]->key_id, "kid");
    assert_int_equal(m->jwt_authorities[0]->expires_at, 1700000000);
    assert_true(m->jwt_authorities[0]->tainted);
    assert_memory_equal(m->jwt_authorities[0]->public_key.data, b->jwt[0].spki.data, b->jwt[0].spki.len);
    assert_int_equal(m->n_wit_authorities, 1);
    assert_string_equal(m->wit_authorities[0]->key_id, "wit");
    assert_int_equal(m->wit_authorities[0]->expires_at, 1800000000);
    assert_false(m->wit_authorities[0]->tainted);
}

static void bundles_go_out_whole(void **state)
{
    (void)state;
    struct bridged b;
    struct cs_err e;
    open_bridge(&b, &plugin_bridge_notifier);
    struct spiffe_bundle *bundle = make_bundle(b.a);
    const struct notifier_ops *notifier = b.bridge->ops;
    assert_int_equal(notifier->bundle_updated(b.self, bundle, &e), CS_OK);
    Notifierv1__NotifyRequest *updated = asked(&b, &notifierv1__notify_request__descriptor);
    assert_string_equal(b.s.path, "/spire.plugin.server.notifier.v1.Notifier/Notify");
    assert_bundle(updated->bundle_updated->bundle, bundle);
    assert_int_equal(notifier->bundle_loaded(b.self, bundle, &e), CS_OK);
    Notifierv1__NotifyAndAdviseRequest *loaded =
        asked(&b, &notifierv1__notify_and_advise_request__descriptor);
    assert_string_equal(b.s.path, "/spire.plugin.server.notifier.v1.Notifier/NotifyAndAdvise");
    assert_bundle(loaded->bundle_loaded->bundle, bundle);
    fail_with(&b, CS_UNIMPLEMENTED);
    assert_int_equal(notifier->bundle_loaded(b.self, bundle, &e), CS_UNIMPLEMENTED);
    assert_string_equal(e.text, "notifier(own): no way");
    close_bridge(&b);

    open_bridge(&b, &plugin_bridge_bundlepublisher);
    const struct bundlepublisher_ops *publisher = b.bridge->ops;
    assert_int_equal(publisher->publish(b.self, bundle, &e), CS_OK);
    Bundlepublisherv1__PublishBundleRequest *published =
        asked(&b, &bundlepublisherv1__publish_bundle_request__descriptor);
    assert_string_equal(b.s.path, "/spire.plugin.server.bundlepublisher.v1.BundlePublisher/PublishBundle");
    assert_bundle(published->bundle, bundle);
    fail_with(&b, CS_PRECONDITION);
    assert_int_equal(publisher->publish(b.self, bundle, &e), CS_PRECONDITION);
    assert_string_equal(e.text, "bundlepublisher(own): no way");
    close_bridge(&b);
    spiffe_bundle_unref(bundle);
}

/* --- SVIDStore --- */

static void svids_are_stored(void **state)
{
    (void)state;
    struct bridged b;
    struct cs_err e;
    open_bridge(&b, &plugin_bridge_svidstore);
    const struct svidstore_ops *ops = b.bridge->ops;
    const struct cs_slice chain[] = {cs_slice_str("leaf"), cs_slice_str("ca")};
    const struct cs_slice roots[] = {cs_slice_str("one"), cs_slice_str("two")};
    const struct svidstore_federated far[] = {{"spiffe://far.test", roots, 2},
                                              {"spiffe://none.test", NULL, 0}};
    const struct svidstore_svid svid = {
        .spiffe_id = "spiffe://example.org/w",
        .chain = chain,
        .chain_count = 2,
        .key = cs_slice_str("key"),
        .bundle = roots,
        .bundle_count = 1,
        .federated = far,
        .federated_count = 2,
        .expires_at = 1234567890,
    };
    const char *const metadata[] = {"name:db", "region:x"};
    assert_int_equal(ops->put(b.self, &svid, metadata, 2, &e), CS_OK);
    assert_string_equal(b.s.path, "/spire.plugin.agent.svidstore.v1.SVIDStore/PutX509SVID");
    Svidstorev1__PutX509SVIDRequest *q = asked(&b, &svidstorev1__put_x509_svidrequest__descriptor);
    assert_string_equal(q->svid->spiffeid, "spiffe://example.org/w");
    assert_int_equal(q->svid->n_cert_chain, 2);
    assert_memory_equal(q->svid->cert_chain[0].data, "leaf", 4);
    assert_memory_equal(q->svid->private_key.data, "key", 3);
    assert_int_equal(q->svid->n_bundle, 1);
    assert_int_equal(q->svid->expires_at, 1234567890);
    assert_int_equal(q->n_metadata, 2);
    assert_string_equal(q->metadata[1], "region:x");
    assert_int_equal(q->n_federated_bundles, 2);
    assert_string_equal(q->federated_bundles[0]->key, "spiffe://far.test");
    assert_int_equal(q->federated_bundles[0]->value.len, 6);
    assert_memory_equal(q->federated_bundles[0]->value.data, "onetwo", 6);
    assert_int_equal(q->federated_bundles[1]->value.len, 0);

    fail_with(&b, CS_INVALID);
    assert_int_equal(ops->remove(b.self, metadata, 1, &e), CS_INVALID);
    assert_string_equal(e.text, "svidstore(own): no way");
    Svidstorev1__DeleteX509SVIDRequest *d = asked(&b, &svidstorev1__delete_x509_svidrequest__descriptor);
    assert_int_equal(d->n_metadata, 1);
    assert_string_equal(d->metadata[0], "name:db");
    close_bridge(&b);
}

/* Whichever allocation fails: an error, and no leak for a sanitizer to find. */
static void survives_failing_allocations(void **state)
{
    (void)state;
    struct bridged b;
    open_bridge(&b, &plugin_bridge_keymanager);
    struct key k = make_key(CRYPTO_EC_P256, "k");
    Skeymanagerv1__GenerateKeyResponse r = SKEYMANAGERV1__GENERATE_KEY_RESPONSE__INIT;
    r.public_key = &k.message;
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        assert_true(n < 1000);
        answer_with(&b, &r);
        struct crypto_signer *s = NULL;
        (void)cs_mem_fail_at(n, true);
        rc = km(&b)->generate_key(b.self, "k", CRYPTO_EC_P256, &s, NULL);
        (void)cs_mem_fail_at(0, false);
        assert_int_equal(rc == CS_OK, s != NULL);
        crypto_signer_unref(s);
    }
    crypto_key_unref(k.key);
    close_bridge(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_generated_and_checked),
        cmocka_unit_test(errors_are_the_plugins_own),
        cmocka_unit_test(signatures_are_checked),
        cmocka_unit_test(keys_come_in_order),
        cmocka_unit_test(selectors_are_taken),
        cmocka_unit_test(processes_are_attested_by_reference),
        cmocka_unit_test(bundles_go_out_whole),
        cmocka_unit_test(svids_are_stored),
        cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
