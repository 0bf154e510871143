/* SPDX-License-Identifier: Apache-2.0
 *
 * Issuing when memory runs out, at each allocation in turn: a whole SVID or an error, nothing between.
 */
#include "call.h"

#include "server/api/svid.h"
#include "server/ca/authority.h"
#include "server/entrycache/wire.h"

struct issuing {
    struct world w;
    struct ca *ca;
    struct crypto_signer *signer;
    struct cs_buf x509, jwt; /* requests */
};

static void activate(struct issuing *s)
{
    struct cs_err e = {0};
    struct cs_buf der CS_CLEANUP(cs_buf_free) = {0};
    CS_AUTO(x509_cert) cert = NULL;
    CS_AUTO(ca_x509_authority) x509 = NULL;
    CS_AUTO(ca_jwt_authority) jwt = NULL;
    must(ca_self_sign(s->ca, s->signer, &der, &e), &e);
    must(x509_cert_parse(cs_buf_slice(&der), &cert, &e), &e);
    must(ca_x509_authority_new(cert, s->signer, &(struct x509_chain){0}, &x509, &e), &e);
    ca_set_x509(s->ca, x509);
    must(ca_jwt_authority_new(s->signer, "kid", NOW + 3600, &jwt, &e), &e);
    ca_set_jwt(s->ca, jwt);
}

/* BatchNewX509SVIDRequest: 1 params { 1 entry_id, 2 csr }; NewJWTSVIDRequest: 1 entry_id, 2 audience. */
static void write_requests(struct issuing *s)
{
    struct cs_err e = {0};
    struct cs_buf csr CS_CLEANUP(cs_buf_free) = {0}, params CS_CLEANUP(cs_buf_free) = {0};
    must(x509_csr_write(&(struct x509_csr_params){0}, s->signer, &csr, &e), &e);
    wire_str(&params, 1, cs_slice_str("e"));
    wire_bytes(&params, 2, cs_buf_slice(&csr));
    wire_bytes(&s->x509, 1, cs_buf_slice(&params));
    wire_bytes(&s->x509, 1, cs_buf_slice(&params));
    wire_str(&s->jwt, 1, cs_slice_str("e"));
    wire_str(&s->jwt, 2, cs_slice_str("audience"));
}

static void fill(struct world *w)
{
    struct cs_err e = {0};
    const struct ds_node node = {
        .spiffe_id = AGENT, .attestation_type = "t", .serial_number = "1", .expires_at = NOW + 1000};
    const struct ds_selector selector = {"unix", "uid:1"};
    const char *const names[] = {"a.example.org", "b.example.org"};
    const struct ds_entry en = {.entry_id = "e",
                                .parent_id = AGENT,
                                .spiffe_id = "spiffe://example.org/workload",
                                .selectors = &selector,
                                .n_selectors = 1,
                                .dns_names = names,
                                .n_dns_names = 2};
    must(ds_node_create(w->ours, w->arena, &node, NULL, &e), &e);
    must(ds_entry_create(w->ours, w->arena, &en, NULL, NULL, &e), &e);
}

static int setup(void **state)
{
    struct cs_err e = {0};
    struct issuing *s = calloc(1, sizeof *s);
    struct crypto_key *key = NULL;
    cs_fake_clock_init(&s->w.clock, NOW);
    const struct ca_config cfg = {.trust_domain = "example.org", .clock = &s->w.clock.clock};
    must(ca_new(&cfg, &s->ca, &e), &e);
    must(crypto_key_generate(CRYPTO_EC_P256, &key, &e), &e);
    must(crypto_signer_of_key(key, &s->signer, &e), &e);
    crypto_key_unref(key);
    activate(s);
    world_up(&s->w, s->ca);
    fill(&s->w);
    write_requests(s);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct issuing *s = *state;
    world_down(&s->w);
    ca_free(s->ca);
    crypto_signer_unref(s->signer);
    cs_buf_free(&s->x509);
    cs_buf_free(&s->jwt);
    free(s);
    return 0;
}

/* From authorising to the response; *failed says whether it was told that something went wrong. */
static void run(struct issuing *s, api_unary_fn *handler, const struct cs_buf *request, size_t n,
                size_t *made, struct cs_buf *response, bool *failed)
{
    struct cs_err e = {0};
    struct fake_call f;
    call_up(&f, &s->w, "1");
    cs_mem_fail_at(n, false);
    cs_code code = api_authorize(f.c, &e);
    if (code == CS_OK)
        code = api_audit_begin(f.c, &e);
    if (code == CS_OK)
        code = handler(&f.rpc, s->w.api, cs_buf_slice(request), response, &e);
    *made = cs_mem_fail_at(0, false);
    *failed = code != CS_OK || !cs_buf_ok(response);
    assert_true(code == CS_OK || e.text[0] != '\0');
    call_down(&f);
}

static void check_x509(const struct cs_buf *response, size_t *whole)
{
    struct cs_err e = {0};
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    Svidv1__BatchNewX509SVIDResponse *r = NULL;
    must(proto_unpack(arena, &svidv1__batch_new_x509_svidresponse__descriptor, cs_buf_slice(response),
                      (ProtobufCMessage **)(void *)&r, &e),
         &e);
    assert_int_equal(r->n_results, 2);
    for (size_t i = 0; i < r->n_results; i++) {
        const Svidv1__BatchNewX509SVIDResponse__Result *one = r->results[i];
        assert_int_equal(one->status->code == CS_OK, one->svid != NULL);
        if (one->svid == NULL)
            continue;
        CS_AUTO(x509_cert) leaf = NULL;
        struct cs_slice uri, der = {one->svid->cert_chain[0].data, one->svid->cert_chain[0].len};
        must(x509_cert_parse(der, &leaf, &e), &e);
        assert_true(x509_san_get(&leaf->ext.san, X509_SAN_URI, 0, &uri) &&
                    cs_slice_is(uri, "spiffe://example.org/workload"));
        assert_int_equal(leaf->ext.san.dns, 2);
        ++*whole;
    }
}

static void x509_svids_are_whole_or_refused(void **state)
{
    struct issuing *s = *state;
    size_t refused = 0;
    for (size_t n = 1, made = 1; made >= n - 1; n++) {
        struct cs_buf response CS_CLEANUP(cs_buf_free) = {0};
        bool failed;
        size_t whole = 0;
        run(s, svid_batch_new_x509, &s->x509, n, &made, &response, &failed);
        if (!failed)
            check_x509(&response, &whole);
        refused += whole < 2;
        if (made < n)
            assert_int_equal(whole, 2);
    }
    assert_true(refused > 5);
}

static void check_jwt(const struct cs_buf *response)
{
    struct cs_err e = {0};
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    Svidv1__NewJWTSVIDResponse *r = NULL;
    must(proto_unpack(arena, &svidv1__new_jwtsvidresponse__descriptor, cs_buf_slice(response),
                      (ProtobufCMessage **)(void *)&r, &e),
         &e);
    assert_string_equal(r->svid->id->path, "/workload");
    const char *dot = strchr(r->svid->token, '.');
    assert_non_null(dot);
    assert_non_null(strchr(dot + 1, '.'));
}

static void jwt_svids_are_whole_or_refused(void **state)
{
    struct issuing *s = *state;
    size_t refused = 0;
    for (size_t n = 1, made = 1; made >= n - 1; n++) {
        struct cs_buf response CS_CLEANUP(cs_buf_free) = {0};
        bool failed;
        run(s, svid_new_jwt, &s->jwt, n, &made, &response, &failed);
        if (!failed)
            check_jwt(&response);
        refused += failed;
        if (made < n)
            assert_false(failed);
    }
    assert_true(refused > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(x509_svids_are_whole_or_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(jwt_svids_are_whole_or_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
