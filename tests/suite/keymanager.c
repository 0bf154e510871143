/* SPDX-License-Identifier: Apache-2.0
 *
 * What every KeyManager does.
 */
#include "plugin/keymanager.h"

#include "base/mem.h"
#include "tests/suite/subject.h"

#include <pthread.h>

struct about {
    bool keeps; /* keys are there again after a restart */
};

static const struct keymanager_ops *ops(const struct suite *s)
{
    return s->ops;
}

static struct crypto_signer *generate(struct suite *s, const char *id, enum crypto_key_type type)
{
    struct cs_err e = {0};
    struct crypto_signer *k = NULL;
    suite_must(ops(s)->generate_key(s->self, id, type, &k, &e), &e);
    assert_non_null(k);
    return k;
}

static struct crypto_signer *get(struct suite *s, const char *id)
{
    struct cs_err e = {0};
    struct crypto_signer *k = NULL;
    suite_must(ops(s)->get_key(s->self, id, &k, &e), &e);
    assert_non_null(k);
    return k;
}

static void check_signature(const struct crypto_signer *k, enum crypto_sig alg)
{
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf sig = {0};
    suite_must(crypto_sign(k, alg, cs_slice_str("hello"), &sig, &e), &e);
    suite_must(crypto_verify(crypto_signer_pub(k), alg, cs_slice_str("hello"), cs_buf_slice(&sig), &e), &e);
}

static bool same(const struct crypto_signer *a, const struct crypto_signer *b)
{
    return crypto_pub_equal(crypto_signer_pub(a), crypto_signer_pub(b));
}

static void keys_of_every_type_sign(void **state)
{
    static const struct {
        enum crypto_key_type type;
        enum crypto_sig algs[6];
    } rows[] = {
        {CRYPTO_EC_P256, {CRYPTO_ECDSA_SHA256}},
        {CRYPTO_EC_P384, {CRYPTO_ECDSA_SHA384}},
        {CRYPTO_RSA_2048,
         {CRYPTO_RSA_SHA256, CRYPTO_RSA_SHA384, CRYPTO_RSA_SHA512, CRYPTO_PSS_SHA256, CRYPTO_PSS_SHA384,
          CRYPTO_PSS_SHA512}},
    };
    struct suite *s = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_AUTO(crypto_signer) made = generate(s, "k", rows[i].type);
        CS_AUTO(crypto_signer) got = get(s, "k");
        assert_int_equal(crypto_signer_type(made), rows[i].type);
        assert_true(same(made, got));
        for (size_t n = 0; n < 6 && rows[i].algs[n] != CRYPTO_SIG_NONE; n++) {
            check_signature(made, rows[i].algs[n]);
            check_signature(got, rows[i].algs[n]);
        }
    }
}

static void a_key_is_local_only_when_it_is(void **state)
{
    struct suite *s = *state;
    CS_AUTO(crypto_signer) k = generate(s, "k", CRYPTO_EC_P256);
    assert_int_equal(crypto_signer_key(k) == NULL, s->subject->bridged);
}

static void a_new_key_takes_the_place_of_the_old(void **state)
{
    struct suite *s = *state;
    CS_AUTO(crypto_signer) first = generate(s, "k", CRYPTO_EC_P256);
    CS_AUTO(crypto_signer) other = generate(s, "other", CRYPTO_EC_P256);
    CS_AUTO(crypto_signer) second = generate(s, "k", CRYPTO_EC_P384);
    CS_AUTO(crypto_signer) now = get(s, "k");
    CS_AUTO(crypto_signer) still = get(s, "other");
    assert_false(same(first, second));
    assert_true(same(second, now));
    assert_true(same(other, still));
    check_signature(now, CRYPTO_ECDSA_SHA384);
}

static void unknown_keys_are_not_found(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    struct crypto_signer *k = NULL;
    assert_int_equal(ops(s)->get_key(s->self, "no such", &k, &e), CS_NOT_FOUND);
    assert_string_equal(suite_text(s, &e), "key \"no such\" not found");
    assert_null(k);
}

static void a_key_needs_an_id(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    struct crypto_signer *k = NULL;
    assert_int_equal(ops(s)->generate_key(s->self, "", CRYPTO_EC_P256, &k, &e), CS_INVALID);
    assert_non_null(strstr(e.text, "key id is required"));
    assert_null(k);
}

static cs_code join(void *arg, const char *id, struct crypto_signer *key, struct cs_err *e)
{
    char *seen = arg;
    if (strcmp(id, "stop") == 0)
        return cs_fail(e, CS_ABORTED, "stopped");
    snprintf(seen + strlen(seen), 100 - strlen(seen), "%s:%s ", id,
             crypto_key_type_name(crypto_signer_type(key)));
    return CS_OK;
}

static void keys_are_listed_in_order(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    char seen[100] = "";
    suite_must(ops(s)->each_key(s->self, join, seen, &e), &e);
    assert_string_equal(seen, "");
    crypto_signer_unref(generate(s, "b", CRYPTO_EC_P384));
    crypto_signer_unref(generate(s, "x", CRYPTO_EC_P256));
    crypto_signer_unref(generate(s, "a", CRYPTO_EC_P256));
    suite_must(ops(s)->each_key(s->self, join, seen, &e), &e);
    assert_string_equal(seen, "a:ec-p256 b:ec-p384 x:ec-p256 ");
    seen[0] = '\0';
    crypto_signer_unref(generate(s, "stop", CRYPTO_EC_P256));
    assert_int_equal(ops(s)->each_key(s->self, join, seen, &e), CS_ABORTED);
    assert_string_equal(e.text, "stopped");
    assert_string_equal(seen, "a:ec-p256 b:ec-p384 ");
}

static void keys_are_there_after_a_restart(void **state)
{
    struct suite *s = *state;
    const struct about *about = s->subject->arg;
    struct cs_err e = {0};
    struct crypto_signer *k = NULL;
    CS_AUTO(crypto_signer) before = generate(s, "k", CRYPTO_EC_P256);
    suite_reload(s);
    if (!about->keeps) {
        assert_int_equal(ops(s)->get_key(s->self, "k", &k, &e), CS_NOT_FOUND);
        return;
    }
    CS_AUTO(crypto_signer) after = get(s, "k");
    assert_true(same(before, after));
    check_signature(after, CRYPTO_ECDSA_SHA256);
}

static void *sign_often(void *arg)
{
    struct suite *s = arg;
    for (int i = 0; i < 25; i++) {
        CS_AUTO(crypto_signer) k = get(s, "k");
        check_signature(k, CRYPTO_ECDSA_SHA256);
    }
    return NULL;
}

static void many_threads_sign(void **state)
{
    struct suite *s = *state;
    pthread_t threads[4];
    crypto_signer_unref(generate(s, "k", CRYPTO_EC_P256));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sign_often, s), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int suite_keymanager(void)
{
    static struct about keeps = {.keeps = true}, forgets = {.keeps = false};
    static const char disk[] = "keys_path = \"%s/keys.json\"", agent_disk[] = "directory = \"%s\"";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_every_type_sign),
        cmocka_unit_test(a_key_is_local_only_when_it_is),
        cmocka_unit_test(a_new_key_takes_the_place_of_the_old),
        cmocka_unit_test(unknown_keys_are_not_found),
        cmocka_unit_test(a_key_needs_an_id),
        cmocka_unit_test(keys_are_listed_in_order),
        cmocka_unit_test(keys_are_there_after_a_restart),
        cmocka_unit_test(many_threads_sign),
    };
    const struct suite_subject subjects[] = {
        {"server", PLUGIN_TYPE_KEYMANAGER, "memory", "", false, &forgets, NULL},
        {"server", PLUGIN_TYPE_KEYMANAGER, "memory", "", true, &forgets, NULL},
        {"server", PLUGIN_TYPE_KEYMANAGER, "disk", disk, false, &keeps, NULL},
        {"server", PLUGIN_TYPE_KEYMANAGER, "disk", disk, true, &keeps, NULL},
        {"agent", PLUGIN_TYPE_KEYMANAGER, "memory", "", true, &forgets, NULL},
        {"agent", PLUGIN_TYPE_KEYMANAGER, "disk", agent_disk, false, &keeps, NULL},
        {"agent", PLUGIN_TYPE_KEYMANAGER, "disk", agent_disk, true, &keeps, NULL},
    };
    return SUITE_RUN("keymanager", tests, subjects);
}
