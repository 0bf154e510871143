/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#define CERT(body) "-----BEGIN CERTIFICATE-----\n" body "-----END CERTIFICATE-----\n"

/* What Go's pem.Decode finds in the same texts. */
static void reading(void **state)
{
    (void)state;
    static const struct {
        const char *text, *type, *der;
        bool headers;
    } rows[] = {
        {CERT("AQID\n"), "CERTIFICATE", "\1\2\3", false},
        {"before\n" CERT("AQ\r\nID\r\n") "after", "CERTIFICATE", "\1\2\3", false},
        {"-----BEGIN A B-----\n\tAQI D \n-----END A B----- \n", "A B", "\1\2\3", false},
        {"-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n-----END X-----", "X", "\1\2\3", true},
        {"-----BEGIN X-----\n-----END X-----\n", "X", "", false},
        {" -----BEGIN X-----\nAQID\n-----END X-----\n", NULL, NULL, false},
        {"-----BEGIN X-----\nAQID\n-----END Y-----\n", NULL, NULL, false},
        {"-----BEGIN X-----\nAQI\n-----END X-----\n", NULL, NULL, false},
        {"-----BEGIN X-----\nAQID\n", NULL, NULL, false},
        {"-----BEGIN X\nAQID\n-----END X-----\n", NULL, NULL, false},
        {"", NULL, NULL, false},
        /* a broken block does not hide the next */
        {"-----BEGIN X-----\n*\n-----END X-----\n" CERT("AQID\n"), "CERTIFICATE", "\1\2\3", false},
        {"-----BEGIN X-----\n" CERT("AQID\n"), "CERTIFICATE", "\1\2\3", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf scratch = {0};
        struct cs_rd r = cs_rd_of(cs_slice_str(rows[i].text));
        struct pem_block b;
        if (pem_next(&r, &scratch, &b) != (rows[i].type != NULL))
            fail_msg("row %zu", i);
        if (rows[i].type == NULL)
            continue;
        assert_true(cs_slice_is(b.type, rows[i].type));
        assert_true(cs_slice_is(b.der, rows[i].der));
        assert_int_equal(b.headers, rows[i].headers);
        assert_false(pem_next(&r, &scratch, &b));
    }
}

/* Beginnings without end are read over once each: a megabyte of them takes no time. */
static void hostile(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf scratch = {0};
    struct pem_block b;
    while (text.len < (1 << 20))
        cs_buf_add_str(&text, "-----BEGIN X-----\nAQID\n");
    struct cs_rd r = cs_rd_of(cs_buf_slice(&text));
    assert_false(pem_next(&r, &scratch, &b));
    assert_int_equal(cs_rd_left(&r), 0);
}

static void round_trip(void **state)
{
    (void)state;
    for (size_t n = 0; n < 200; n++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf scratch = {0};
        CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
        uint8_t bytes[200];
        memset(bytes, (int)n, sizeof bytes);
        pem_write(&text, "T", cs_slice_of(bytes, n));
        struct cs_rd r = cs_rd_of(cs_buf_slice(&text));
        struct pem_block b;
        assert_true(pem_next(&r, &scratch, &b));
        assert_true(cs_slice_eq(b.der, cs_slice_of(bytes, n)));
        size_t column = 0;
        for (size_t i = 0; i < text.len; i++) {
            column = text.data[i] == '\n' ? 0 : column + 1;
            assert_true(column <= 64);
        }
    }
}

static void no_memory(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    load("crypto/chain_nested.pem", &text);
    size_t n = 1;
    for (;; n++) {
        CS_CLEANUP(x509_chain_free) struct x509_chain c = {0};
        cs_mem_fail_at(n, false);
        cs_code code = x509_chain_parse_pem(cs_buf_slice(&text), 16, &c, NULL);
        cs_mem_fail_at(0, false);
        if (code == CS_OK)
            break;
        assert_int_equal(code, CS_INTERNAL);
        assert_int_equal(c.count, 0);
    }
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading),
        cmocka_unit_test(hostile),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
