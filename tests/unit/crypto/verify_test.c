/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "crypto/der.h"
#include "crypto/x509_verify.h"

#define NONE ((struct cs_slice){0})
#define UNKNOWN "x509: certificate signed by unknown authority"

/* root -> inter -> leaf, all valid from 1000 to 9000 */
struct tree {
    struct authority root, inter;
    struct x509_cert *leaf;
};

static struct tree plant(struct cs_slice inter_extra, const char *uri)
{
    struct tree t;
    t.root = new_authority(NULL, "root", 1000, 9000, NONE);
    t.inter = new_authority(&t.root, "inter", 1000, 8000, inter_extra);
    t.leaf = new_leaf(&t.inter, uri, 2000, 7000, NONE);
    return t;
}

static void fell(struct tree *t)
{
    free_authority(&t->root);
    free_authority(&t->inter);
    x509_cert_unref(t->leaf);
}

static cs_code check(const struct tree *t, bool with_inter, int64_t now, struct x509_verify_cache *cache,
                     int64_t *expires, struct cs_err *e)
{
    const struct x509_cert *roots[] = {t->root.cert}, *root;
    struct x509_cert *list[] = {t->leaf, t->inter.cert};
    const struct x509_chain chain = {list, with_inter ? 2 : 1};
    const struct x509_verify_params p = {
        .roots = roots,
        .root_count = 1,
        .now = now,
        .cache = cache,
        .roots_id = x509_roots_id(roots, 1),
    };
    cs_code code = x509_verify(&chain, &p, &root, expires, e);
    assert_ptr_equal(root, code == CS_OK ? t->root.cert : NULL);
    return code;
}

static void paths_and_times(void **state)
{
    (void)state;
    struct cs_err e = {0};
    int64_t expires;
    struct tree t = plant(NONE, "spiffe://example.org/x");
    struct x509_verify_cache *cache = x509_verify_cache_new(64);
    for (int round = 0; round < 2; round++) { /* second time out of the cache */
        OK(check(&t, true, 5000, cache, &expires, &e));
        assert_int_equal(expires, 7000);
        OK(check(&t, true, 2000, cache, &expires, &e));
        OK(check(&t, true, 7000, cache, &expires, &e));
        FAILS(check(&t, true, 7001, cache, &expires, &e), CS_UNAUTHENTICATED,
              "x509: certificate has expired or is not yet valid: current time 1970-01-01T01:56:41Z is after "
              "1970-01-01T01:56:40Z");
        FAILS(
            check(&t, true, 1999, cache, &expires, &e), CS_UNAUTHENTICATED,
            "x509: certificate has expired or is not yet valid: current time 1970-01-01T00:33:19Z is before "
            "1970-01-01T00:33:20Z");
        FAILS(check(&t, false, 5000, cache, &expires, &e), CS_UNAUTHENTICATED, UNKNOWN);
    }
    /* the roots changed: what was verified under the old ones does not count */
    struct tree other = plant(NONE, "spiffe://example.org/x");
    struct tree mixed = {.root = other.root, .inter = t.inter, .leaf = t.leaf};
    FAILS(check(&mixed, true, 5000, cache, &expires, &e), CS_UNAUTHENTICATED, UNKNOWN);
    /* same names, other keys */
    mixed = (struct tree){.root = t.root, .inter = other.inter, .leaf = t.leaf};
    FAILS(check(&mixed, true, 5000, cache, &expires, &e), CS_UNAUTHENTICATED, UNKNOWN);
    fell(&other);
    fell(&t);
    x509_verify_cache_free(cache);
}

static void only_authorities_sign(void **state)
{
    (void)state;
    struct cs_err e = {0};
    /* a leaf that is no CA takes the intermediate's place; basic constraints and usage replaced */
    static const uint8_t no_ca[] = {0x30, 12, 6, 3, 0x55, 0x1d, 19, 1, 1, 0xff, 4, 2, 0x30, 0};
    static const uint8_t no_sign[] = {0x30, 14, 6, 3, 0x55, 0x1d, 15, 1, 1, 0xff, 4, 4, 3, 2, 7, 0x80};
    struct tree t = plant(cs_slice_of(no_ca, sizeof no_ca), "spiffe://example.org/x");
    FAILS(check(&t, true, 5000, NULL, NULL, &e), CS_UNAUTHENTICATED,
          "x509: certificate is not authorized to sign other certificates");
    fell(&t);
    t = plant(cs_slice_of(no_sign, sizeof no_sign), "spiffe://example.org/x");
    FAILS(check(&t, true, 5000, NULL, NULL, &e), CS_UNAUTHENTICATED,
          "x509: invalid signature: parent certificate cannot sign this kind of certificate");
    fell(&t);
    /* critical extension 1.2.3 */
    static const uint8_t odd[] = {0x30, 11, 6, 2, 0x2a, 3, 1, 1, 0xff, 4, 2, 5, 0};
    t = plant(cs_slice_of(odd, sizeof odd), "spiffe://example.org/x");
    FAILS(check(&t, true, 5000, NULL, NULL, &e), CS_UNAUTHENTICATED, "x509: unhandled critical extension");
    fell(&t);
}

/* policyConstraints, critical; tag 0x80 requireExplicitPolicy, 0x81 inhibitPolicyMapping */
#define POLICY(tag, n)                                                                                       \
    {                                                                                                        \
        0x30, 15, 6, 3, 0x55, 0x1d, 36, 1, 1, 0xff, 4, 5, 0x30, 3, (tag), 1, (n)                             \
    }

/* Judged as Go's crypto/x509 judges them. */
static void policies_matter_only_where_one_is_required(void **state)
{
    (void)state;
    static const struct {
        uint8_t ext[17];
        bool good;
    } rows[] = {
        {POLICY(0x81, 0), true},
        {POLICY(0x80, 5), true},
        {POLICY(0x80, 2), true},
        {POLICY(0x80, 1), false},
        {POLICY(0x80, 0), false},
        {{0x30, 13, 6, 3, 0x55, 0x1d, 54, 1, 1, 0xff, 4, 3, 2, 1, 0}, true}, /* inhibitAnyPolicy */
    };
    struct cs_err e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tree t = plant(cs_slice_of(rows[i].ext, rows[i].ext[1] + 2u), "spiffe://example.org/x");
        if (rows[i].good)
            OK(check(&t, true, 5000, NULL, NULL, &e));
        else
            FAILS(check(&t, true, 5000, NULL, NULL, &e), CS_UNAUTHENTICATED,
                  "x509: no valid chains built: 1 candidate chains with invalid policies");
        fell(&t);
    }
    /* the same in the root: not part of the path */
    struct tree t;
    t.root = new_authority(NULL, "root", 1000, 9000, cs_slice_of(rows[4].ext, sizeof rows[4].ext));
    t.inter = new_authority(&t.root, "inter", 1000, 8000, NONE);
    t.leaf = new_leaf(&t.inter, "spiffe://example.org/x", 2000, 7000, NONE);
    OK(check(&t, true, 5000, NULL, NULL, &e));
    fell(&t);
}

static void broken_policy_constraints_are_refused(void **state)
{
    (void)state;
    static const uint8_t rows[][17] = {
        POLICY(0x80, 0x80), POLICY(0x82, 0), {0x30, 13, 6, 3, 0x55, 0x1d, 54, 1, 1, 0xff, 4, 3, 2, 1, 0x80}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct x509_extensions out;
        assert_int_equal(x509_extensions_parse(cs_slice_of(rows[i], rows[i][1] + 2u), &out, NULL),
                         CS_INVALID);
    }
}

static void path_length(void **state)
{
    (void)state;
    struct cs_err e = {0};
    /* CA with path length 0 */
    static const uint8_t zero[] = {0x30, 18, 6,    3, 0x55, 0x1d, 19,   1, 1, 0xff,
                                   4,    8,  0x30, 6, 1,    1,    0xff, 2, 1, 0};
    struct tree t = plant(cs_slice_of(zero, sizeof zero), "spiffe://example.org/x");
    OK(check(&t, true, 5000, NULL, NULL, &e));
    struct authority below = new_authority(&t.inter, "below", 1000, 9000, NONE);
    struct x509_cert *leaf = new_leaf(&below, "spiffe://example.org/x", 1000, 9000, NONE);
    struct x509_cert *list[] = {leaf, below.cert, t.inter.cert};
    const struct x509_cert *roots[] = {t.root.cert};
    const struct x509_chain chain = {list, 3};
    const struct x509_verify_params p = {.roots = roots, .root_count = 1, .now = 5000};
    FAILS(x509_verify(&chain, &p, NULL, NULL, &e), CS_UNAUTHENTICATED,
          "x509: too many intermediates for path length constraint");
    x509_cert_unref(leaf);
    free_authority(&below);
    fell(&t);
}

/* NameConstraints with one subtree of one URI or DNS name. */
static void put_constraint(struct cs_buf *out, bool permitted, uint8_t tag, const char *name)
{
    static const uint8_t oid[] = {6, 3, 0x55, 0x1d, 30, 1, 1, 0xff};
    size_t ext = der_begin(out, DER_SEQUENCE);
    cs_buf_add(out, oid, sizeof oid);
    size_t octets = der_begin(out, DER_OCTET_STRING), seq = der_begin(out, DER_SEQUENCE);
    size_t list = der_begin(out, permitted ? 0xa0 : 0xa1), tree = der_begin(out, DER_SEQUENCE);
    der_put(out, tag, cs_slice_str(name));
    der_end(out, tree);
    der_end(out, list);
    der_end(out, seq);
    der_end(out, octets);
    der_end(out, ext);
}

static void name_constraints(void **state)
{
    (void)state;
    static const struct {
        bool permitted;
        uint8_t tag;
        const char *constraint, *uri;
        bool ok;
    } rows[] = {
        {true, 0x86, "example.org", "spiffe://example.org/x", true},
        {true, 0x86, "example.org", "spiffe://EXAMPLE.ORG/x", true},
        {true, 0x86, "example.org", "spiffe://a.example.org/x", true},
        {true, 0x86, ".example.org", "spiffe://example.org/x", false},
        {true, 0x86, ".example.org", "spiffe://a.example.org/x", true},
        {true, 0x86, "example.org", "spiffe://badexample.org/x", false},
        {true, 0x86, "example.org", "spiffe://other.test/example.org", false},
        {true, 0x86, "example.org", "spiffe://other.test@example.org/x", true},
        {true, 0x86, "example.org", "spiffe://example.org:80/x", true},
        {true, 0x86, "example.org", "urn:x", false},
        {true, 0x86, "example.org", "spiffe://10.0.0.1/x", false},
        {false, 0x86, "example.org", "spiffe://a.example.org/x", false},
        {false, 0x86, "other.test", "spiffe://example.org/x", true},
        {false, 0x86, "", "spiffe://example.org/x", false},
        {true, 0x82, "example.org", "spiffe://other.test/x", true}, /* speaks of DNS names only */
        {true, 0xa4, "", "spiffe://example.org/x", false},          /* critical and of a kind unknown here */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf ext = {0};
        struct cs_err e = {0};
        put_constraint(&ext, rows[i].permitted, rows[i].tag, rows[i].constraint);
        struct tree t = plant(cs_buf_slice(&ext), rows[i].uri);
        cs_code code = check(&t, true, 5000, NULL, NULL, &e);
        if ((code == CS_OK) != rows[i].ok)
            fail_msg("%s %s: %s", rows[i].constraint, rows[i].uri, e.text);
        fell(&t);
    }
}

static void purposes(void **state)
{
    (void)state;
    struct cs_err e = {0};
    static const uint8_t client_only[] = {0x30, 19, 6,    3, 0x55, 0x1d, 37, 4,    12,   0x30, 10,
                                          6,    8,  0x2b, 6, 1,    5,    5,  0x07, 0x03, 0x02};
    struct tree t = plant(NONE, "spiffe://example.org/x");
    struct x509_cert *leaf =
        new_leaf(&t.root, "spiffe://example.org/x", 1000, 9000, cs_slice_of(client_only, sizeof client_only));
    const struct x509_cert *roots[] = {t.root.cert};
    const struct x509_chain chain = {&leaf, 1};
    struct x509_verify_params p = {.roots = roots, .root_count = 1, .now = 5000};
    OK(x509_verify(&chain, &p, NULL, NULL, &e));
    p.purpose = X509_PURPOSE_CLIENT;
    OK(x509_verify(&chain, &p, NULL, NULL, &e));
    p.purpose = X509_PURPOSE_SERVER;
    FAILS(x509_verify(&chain, &p, NULL, NULL, &e), CS_UNAUTHENTICATED,
          "x509: certificate specifies an incompatible key usage");
    x509_cert_unref(leaf);
    fell(&t);
}

/* Cross-signed loops end: every authority has signed the other. */
static void loops_end(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct authority a = new_authority(NULL, "a", 1000, 9000, NONE);
    enum { N = 14 };
    struct authority sub[N];
    struct x509_cert *list[1 + N];
    for (size_t i = 0; i < N; i++) { /* all of one name, all signed by one name */
        sub[i] = new_authority(&a, "a", 1000, 9000, NONE);
        list[1 + i] = sub[i].cert;
    }
    list[0] = new_leaf(&a, "spiffe://example.org/x", 1000, 9000, NONE);
    struct authority stranger = new_authority(NULL, "stranger", 1000, 9000, NONE);
    const struct x509_cert *roots[] = {stranger.cert};
    const struct x509_chain chain = {list, 1 + N};
    const struct x509_verify_params p = {.roots = roots, .root_count = 1, .now = 5000};
    FAILS(x509_verify(&chain, &p, NULL, NULL, &e), CS_UNAUTHENTICATED, UNKNOWN);
    x509_cert_unref(list[0]);
    for (size_t i = 0; i < N; i++)
        free_authority(&sub[i]);
    free_authority(&stranger);
    free_authority(&a);
}

static void cache_is_bounded(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct x509_verify_cache *cache = x509_verify_cache_new(1);
    struct authority root = new_authority(NULL, "root", 1000, 9000, NONE);
    const struct x509_cert *roots[] = {root.cert};
    const struct x509_verify_params p = {
        .roots = roots, .root_count = 1, .now = 5000, .cache = cache, .roots_id = 7};
    for (int i = 0; i < 40; i++) {
        struct x509_cert *leaf = new_leaf(&root, "spiffe://example.org/x", 1000, 9000, NONE);
        const struct x509_chain chain = {&leaf, 1};
        OK(x509_verify(&chain, &p, NULL, NULL, &e));
        OK(x509_verify(&chain, &p, NULL, NULL, &e));
        x509_cert_unref(leaf);
    }
    free_authority(&root);
    x509_verify_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_and_times),
        cmocka_unit_test(only_authorities_sign),
        cmocka_unit_test(path_length),
        cmocka_unit_test(name_constraints),
        cmocka_unit_test(purposes),
        cmocka_unit_test(loops_end),
        cmocka_unit_test(cache_is_bounded),
        cmocka_unit_test(policies_matter_only_where_one_is_required),
        cmocka_unit_test(broken_policy_constraints_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
