/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/storage.h"

#include "base/file.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* tests/data/agent/agent-data.json was written by SPIRE 1.15.3. */
static void read_fixture(struct cs_buf *out)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/agent/agent-data.json", getenv("CSPIRE_TESTDATA"));
    assert_int_equal(cs_file_read(path, 1 << 20, out, NULL), CS_OK);
}

static void clear(struct agent_storage *s)
{
    x509_chain_free(&s->svid);
    x509_chain_free(&s->bundle);
}

static void test_reads_and_writes_spires_form(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    read_fixture(&text);
    struct agent_storage s = {0};
    assert_int_equal(agent_storage_parse(cs_buf_slice(&text), &s, NULL), CS_OK);
    assert_int_equal(s.svid.count, 1);
    assert_int_equal(s.bundle.count, 1);
    assert_false(s.reattestable);
    assert_int_equal(s.bootstrap_start, 0);
    /* Byte for byte the same again. */
    CS_CLEANUP(cs_buf_free) struct cs_buf again = {0};
    assert_int_equal(agent_storage_print(&s, &again, NULL), CS_OK);
    assert_int_equal(again.len, text.len);
    assert_memory_equal(again.data, text.data, text.len);
    clear(&s);
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{\"svid\":5}",
        "{\"svid\":[5]}",
        "{\"svid\":[\"!!\"]}",
        "{\"svid\":[\"AAAA\"]}",
        "{\"bundle\":[\"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t\"]}",
        "{\"reattestable\":1}",
        "{\"bootstrap_use\":\"x\"}",
        "{\"bootstrap_start_time\":\"yesterday\"}",
        "{\"bootstrap_start_time\":3}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct agent_storage s = {0};
        struct cs_err e;
        assert_int_equal(agent_storage_parse(cs_slice_str(bad[i]), &s, &e), CS_INVALID);
        assert_true(e.text[0] != '\0');
        clear(&s);
    }
    struct agent_storage s = {0};
    assert_int_equal(
        agent_storage_parse(cs_slice_str("{\"svid\":null,\"bundle\":null,\"other\":1}"), &s, NULL), CS_OK);
    assert_int_equal(s.svid.count, 0);
}

static void test_survives_restart(void **state)
{
    (void)state;
    char dir[] = "/tmp/cspire-storage-XXXXXX";
    assert_non_null(mkdtemp(dir));
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    read_fixture(&text);
    struct agent_storage given = {0};
    assert_int_equal(agent_storage_parse(cs_buf_slice(&text), &given, NULL), CS_OK);

    struct agent_storage *s;
    assert_int_equal(agent_storage_open(dir, &s, NULL), CS_OK);
    assert_int_equal(s->svid.count, 0);
    assert_int_equal(agent_storage_set_svid(s, &given.svid, true, NULL), CS_OK);
    assert_int_equal(agent_storage_set_bundle(s, &given.bundle, NULL), CS_OK);
    assert_int_equal(agent_storage_set_bootstrap(s, AGENT_USE_REBOOTSTRAP, 1000000000, 3, NULL), CS_OK);
    struct stat st;
    assert_int_equal(stat(s->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    agent_storage_free(s);

    assert_int_equal(agent_storage_open(dir, &s, NULL), CS_OK);
    assert_true(x509_chain_equal(&s->svid, &given.svid));
    assert_true(x509_chain_equal(&s->bundle, &given.bundle));
    assert_true(s->reattestable);
    assert_int_equal(s->bootstrap_use, AGENT_USE_REBOOTSTRAP);
    assert_int_equal(s->bootstrap_start, 1000000000);
    assert_int_equal(s->connection_attempts, 3);
    assert_int_equal(agent_storage_set_svid(s, NULL, true, NULL), CS_OK);
    assert_false(s->reattestable);
    /* A file that cannot be replaced changes nothing. */
    char *path = s->path;
    s->path = cs_strdup("/nonexistent/folder/agent-data.json");
    struct cs_err e;
    assert_int_not_equal(agent_storage_set_svid(s, &given.svid, true, &e), CS_OK);
    assert_non_null(strstr(e.text, "failed to write data file"));
    assert_int_equal(s->svid.count, 0);
    cs_free(s->path);
    s->path = path;
    (void)unlink(path);
    agent_storage_free(s);
    (void)rmdir(dir);
    clear(&given);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    read_fixture(&text);
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        struct agent_storage s = {0};
        assert_true(n < 10000);
        (void)cs_mem_fail_at(n, false);
        rc = agent_storage_parse(cs_buf_slice(&text), &s, NULL);
        (void)cs_mem_fail_at(0, false);
        clear(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_and_writes_spires_form),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_survives_restart),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
