/* SPDX-License-Identifier: Apache-2.0
 *
 * DNS names with the answers that upstream's function gives.
 */
#include "../crypto/fixture.h"

#include "spiffe/x509svid.h"

#define LABEL(x) "idna error\nidna: invalid label \"" x "\""

static void names(void **state)
{
    (void)state;
    static const struct {
        const char *name, *error; /* NULL: fine */
    } rows[] = {
        {"a.com", NULL},
        {"A.com", NULL},
        {"a b", NULL},
        {" a ", NULL},
        {"_x.a_b", NULL},
        {"1.2.3.4", NULL},
        {"a--b.com", NULL},
        {"*.a", NULL},
        {"xn--caf-dma.com", NULL},
        {"xn--mnchen-3ya.de", NULL},
        {"xn--zca.de", NULL},
        {"a\tb", NULL},
        {"", "empty or only whitespace"},
        {" ", "empty or only whitespace"},
        {"*.", "empty or only whitespace"},
        {"a.", "domain ends with dot"},
        {"*", "wildcard must be first label"},
        {"a.*", "wildcard must be first label"},
        {"*a.com", "wildcard must be first label"},
        {"**.a", "too many wildcards"},
        {"*.*.a", "too many wildcards"},
        {"\xc3\xa9", "name must be ascii"},
        {"-a.com", LABEL("-a")},
        {"a-.com", LABEL("a-")},
        {"ab--c.com", LABEL("ab--c")},
        {"a..b", LABEL("a..b")},
        {".a", LABEL(".a")},
        {"*.-a", LABEL("-a")},
        {"XN--MNCHEN-3YA.de", LABEL("XN--MNCHEN-3YA")},
    };
    struct cs_err e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].error == NULL)
            OK(spiffe_dns_name_check(cs_slice_str(rows[i].name), &e));
        else
            FAILS(spiffe_dns_name_check(cs_slice_str(rows[i].name), &e), CS_INVALID, rows[i].error);
    /* broken A-labels; upstream shows the decoded text */
    static const char *const puny[] = {"xn--", "xn--a", "xn---", "xn--mnchen-3ya-.de", "xn--99999999999999"};
    for (size_t i = 0; i < sizeof puny / sizeof puny[0]; i++)
        assert_int_equal(spiffe_dns_name_check(cs_slice_str(puny[i]), NULL), CS_INVALID);
    assert_int_equal(spiffe_dns_name_check(S("a\0b"), NULL), CS_INVALID);
    char name[300];
    memset(name, 'a', sizeof name);
    assert_int_equal(spiffe_dns_name_check(cs_slice_of(name, 63), NULL), CS_OK);
    assert_int_equal(spiffe_dns_name_check(cs_slice_of(name, 64), NULL), CS_INVALID);
    for (size_t i = 1; i < sizeof name; i += 2)
        name[i] = '.';
    assert_int_equal(spiffe_dns_name_check(cs_slice_of(name, 253), NULL), CS_OK);
    assert_int_equal(spiffe_dns_name_check(cs_slice_of(name, 255), NULL), CS_INVALID);
}

static void overlap(void **state)
{
    (void)state;
    struct cs_err e = {0};
    const struct cs_slice bad[] = {S("*.example.org"), S("a.example.org")};
    const struct cs_slice good[] = {S("*.example.org"), S("a.b.example.org"), S("example.org"), S("*.b.org")};
    FAILS(spiffe_dns_wildcard_check(bad, 2, &e), CS_INVALID,
          "name \"a.example.org\" overlaps with an existing wildcard name in the list: wildcard overlap");
    OK(spiffe_dns_wildcard_check(good, 4, &e));
    OK(spiffe_dns_wildcard_check(NULL, 0, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(overlap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
