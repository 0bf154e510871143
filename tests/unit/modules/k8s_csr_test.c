/* SPDX-License-Identifier: Apache-2.0
 *
 * Obtaining a node's certificate: key, request and what is kept of them; what an object of the API says.
 */
#include "../crypto/fixture.h"

#include "base/text.h"
#include "crypto/x509_csr.h"
#include "plugins/modules/k8s_csr/internal.h"
#include "plugins/shared/k8s_csr/k8s_csr.h"

#include <sys/stat.h>
#include <unistd.h>

struct world {
    char dir[64];
    struct csr_request request;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct cs_err e = {0};
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/k8s_csr_modules.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->request.name = cs_strdup("n1-1700000000");
    w->request.node = cs_strdup("n1");
    OK(crypto_key_generate(CRYPTO_EC_P256, &w->request.key, &e));
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    static const char *const files[] = {"id-doc.pending", K8S_CSR_KEY_FILE, K8S_CSR_CERT_FILE};
    for (size_t i = 0; i < 3; i++) {
        CS_CLEANUP(cs_freep) char *path = cs_asprintf("%s/%s", w->dir, files[i]);
        unlink(path);
    }
    rmdir(w->dir);
    csr_request_free(&w->request);
    free(w);
    return 0;
}

static void the_key_is_written_as_sec1(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf pem = {0};
    CS_AUTO(crypto_key) again = NULL;
    OK(csr_key_pem(w->request.key, &pem, &e));
    assert_non_null(strstr(cs_buf_cstr(&pem), "-----BEGIN EC PRIVATE KEY-----\n"));
    OK(crypto_key_parse_pem(cs_buf_slice(&pem), &again, &e));
    assert_true(crypto_pub_equal(crypto_key_pub(w->request.key), crypto_key_pub(again)));
}

static void the_request_is_of_the_node_and_the_key(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    struct pem_block block;
    struct x509_csr csr;
    struct cs_slice node;
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0}, der = {0}, b64 = {0};
    CS_AUTO(crypto_key) other = NULL;
    OK(csr_make(w->request.key, "n1", &pem, &e));
    struct cs_rd r = cs_rd_of(cs_buf_slice(&pem));
    assert_true(pem_next(&r, &der, &block));
    assert_true(cs_slice_is(block.type, PEM_CSR));
    OK(x509_csr_parse(block.der, &csr, &e));
    OK(x509_csr_verify(&csr, &e));
    OK(k8s_csr_subject(csr.subject, &node, &e));
    assert_true(cs_slice_is(node, "n1"));
    assert_false(csr.ext.has_san);
    OK(crypto_key_generate(CRYPTO_EC_P256, &other, &e));
    cs_b64_encode(&b64, cs_buf_slice(&pem), CS_B64_STD);
    assert_true(csr_is_ours(cs_buf_cstr(&b64), w->request.key));
    assert_false(csr_is_ours(cs_buf_cstr(&b64), other));
    assert_false(csr_is_ours("", w->request.key));
    assert_false(csr_is_ours("bm9uc2Vuc2U=", w->request.key));
}

static void a_pending_request_is_kept_for_its_node(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    struct csr_request q = {0};
    struct stat st;
    CS_CLEANUP(cs_freep) char *path = cs_asprintf("%s/id-doc.pending", w->dir);
    OK(csr_pending_read(w->dir, "n1", &q, &e));
    assert_null(q.key);
    OK(csr_pending_write(w->dir, &w->request, &e));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    OK(csr_pending_read(w->dir, "n1", &q, &e));
    assert_string_equal(q.name, "n1-1700000000");
    assert_true(crypto_pub_equal(crypto_key_pub(w->request.key), crypto_key_pub(q.key)));
    csr_request_free(&q);
    OK(csr_pending_read(w->dir, "n2", &q, &e));
    assert_null(q.key);
    static const char *const damaged[] = {"", "name\n", "name n1-1\nnode n1\n", "name n1-1\nnode n1\nno key",
                                          "node n1\nname n1-1\n"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        OK(cs_file_write_atomic(path, cs_slice_str(damaged[i]), 0600, &e));
        OK(csr_pending_read(w->dir, "n1", &q, &e));
        assert_null(q.key);
        assert_null(q.name);
    }
    csr_pending_remove(w->dir);
    assert_int_equal(stat(path, &st), -1);
}

static void a_folder_is_for_one(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    int first, second;
    OK(csr_folder_open(w->dir, &first, &e));
    assert_int_equal(csr_folder_open(w->dir, &second, &e), CS_UNAVAILABLE);
    close(first);
    OK(csr_folder_open(w->dir, &second, &e));
    close(second);
}

static void states_are_read(void **state)
{
    static const struct {
        const char *status;
        enum csr_state state;
    } cases[] = {
        {"{}", CSR_PENDING},
        {"{\"conditions\":7}", CSR_PENDING},
        {"{\"conditions\":[null,{}]}", CSR_PENDING},
        {"{\"conditions\":[{\"type\":\"Approved\",\"status\":\"False\"}]}", CSR_PENDING},
        {"{\"certificate\":\"MAA=\"}", CSR_PENDING},
        {"{\"conditions\":[{\"type\":\"Approved\",\"status\":\"True\"}]}", CSR_APPROVED},
        {"{\"conditions\":[{\"type\":\"Approved\"}],\"certificate\":\"\"}", CSR_APPROVED},
        {"{\"conditions\":[{\"type\":\"Approved\"}],\"certificate\":\"MAA=\"}", CSR_ISSUED},
        {"{\"conditions\":[{\"type\":\"Denied\",\"status\":\"True\"}]}", CSR_DENIED},
        {"{\"conditions\":[{\"type\":\"Approved\",\"status\":\"True\"},{\"type\":\"Failed\",\"status\":"
         "\"True\"}],"
         "\"certificate\":\"MAA=\"}",
         CSR_FAILED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const json_t *condition;
        CS_CLEANUP(kube_json_drop)
        json_t *object = json_pack("{s:o}", "status", json_loads(cases[i].status, 0, NULL));
        assert_non_null(object);
        assert_int_equal(csr_object_state(object, &condition), cases[i].state);
        assert_true((condition != NULL) == (cases[i].state != CSR_PENDING));
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_key_is_written_as_sec1),
        TEST(the_request_is_of_the_node_and_the_key),
        TEST(a_pending_request_is_kept_for_its_node),
        TEST(a_folder_is_for_one),
        TEST(states_are_read),
    };
    return cmocka_run_group_tests_name("modules/k8s_csr", tests, NULL, NULL);
}
