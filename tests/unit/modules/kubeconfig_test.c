/* SPDX-License-Identifier: Apache-2.0
 *
 * Kubeconfigs: what is read from them, and what is refused with which words.
 */
#include "plugins/modules/kube/access.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define CLUSTER(x) "clusters: [{name: other, cluster: {server: 'https://no'}}, {name: k, cluster: {" x "}}]\n"
#define USER(x) "users: [{name: other, user: {token: no}}, {name: u, user: {" x "}}]\n"
#define CONTEXT                                                                                              \
    "current-context: c\n"                                                                                   \
    "contexts: [{name: other, context: {cluster: other, user: other}}, {name: c, context: {cluster: k, "     \
    "user: u}}]\n"
#define GOOD_CLUSTER CLUSTER("server: 'https://h:6443'")

static char folder[] = "/tmp/cspire-kubeconfig-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[128];
    struct cs_err e;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str(text), 0600, &e), CS_OK);
}

static int begin(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    put("ca.crt", "CA");
    put("cert", "CERT");
    put("key", "KEY");
    put("token", "from-file\n");
    put("empty", "");
    return 0;
}

static int end(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static cs_code parse(const char *text, struct kube_access *a, struct cs_err *e)
{
    *a = (struct kube_access){0};
    return kube_access_parse(cs_slice_str(text), folder, "F", a, e);
}

static void is(const struct cs_buf *b, const char *text)
{
    if (b->len != strlen(text) || memcmp(b->data, text, b->len) != 0)
        fail_msg("%.*s is not %s", (int)b->len, (const char *)b->data, text);
}

static void reads_what_is_there(void **state)
{
    struct kube_access a;
    struct cs_err e = {0};
    (void)state;
    if (parse(CONTEXT CLUSTER(
                  "server: 'https://h:6443/p//', certificate-authority: ca.crt, tls-server-name: n, "
                  "proxy-url: 'http://p:1'")
                  USER("client-certificate: cert, client-key: key, token: inline, tokenFile: token"),
              &a, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_string_equal(a.server, "https://h:6443/p");
    assert_string_equal(a.server_name, "n");
    assert_string_equal(a.proxy, "http://p:1");
    is(&a.ca, "CA");
    is(&a.client_cert, "CERT");
    is(&a.client_key, "KEY");
    is(&a.authorization, "Bearer from-file"); /* the file outranks the token */
    kube_access_free(&a);
    /* data outranks files */
    assert_int_equal(parse(CONTEXT CLUSTER("server: 'https://h', certificate-authority: absent, "
                                           "certificate-authority-data: aW5saW5l") USER("token: t"),
                           &a, &e),
                     CS_OK);
    is(&a.ca, "inline");
    is(&a.authorization, "Bearer t");
    kube_access_free(&a);
    /* nobody in particular */
    assert_int_equal(
        parse("current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n" GOOD_CLUSTER, &a, &e),
        CS_OK);
    assert_int_equal(a.authorization.len, 0);
    kube_access_free(&a);
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        cs_code code;
        const char *error;
    } cases[] = {
        {"", CS_INVALID, "kubeconfig F is empty"},
        {"a: [", CS_INVALID, "kubeconfig F: line 2: "},
        {"clusters: []", CS_INVALID, "kubeconfig F: no current-context"},
        {"current-context: c", CS_INVALID, "kubeconfig F: context \"c\" does not exist"},
        {CONTEXT USER("token: t"), CS_INVALID, "kubeconfig F: cluster \"k\" does not exist"},
        {CONTEXT GOOD_CLUSTER, CS_INVALID, "kubeconfig F: user \"u\" does not exist"},
        {CONTEXT CLUSTER("a: b") USER("token: t"), CS_INVALID, "kubeconfig F: the cluster has no server"},
        {CONTEXT CLUSTER("server: 'ftp://x'") USER("token: t"), CS_INVALID,
         "kubeconfig F: server \"ftp://x\" is not an http or https URL"},
        {CONTEXT CLUSTER("server: 'https://u:p@x'") USER("token: t"), CS_INVALID,
         "kubeconfig F: server \"https://u:p@x\" is not a plain URL"},
        {CONTEXT CLUSTER("server: \"https://x\\ny\"") USER("token: t"), CS_INVALID,
         "kubeconfig F: server is not one line of text"},
        {CONTEXT CLUSTER(
             "server: 'https://x', insecure-skip-tls-verify: true, certificate-authority-data: YQ==")
             USER("token: t"),
         CS_INVALID, "specifying a root certificates file with the insecure flag is not allowed"},
        {CONTEXT CLUSTER("server: 'https://x', certificate-authority-data: '?'") USER("token: t"), CS_INVALID,
         "kubeconfig F: certificate-authority-data is not base64"},
        {CONTEXT CLUSTER("server: 'https://x', certificate-authority: absent") USER("token: t"), CS_NOT_FOUND,
         "kubeconfig F: certificate-authority: open "},
        {CONTEXT CLUSTER("server: 'https://x', certificate-authority: empty") USER("token: t"), CS_INVALID,
         "/empty is empty"},
        {CONTEXT GOOD_CLUSTER USER("client-certificate: cert"), CS_INVALID,
         "kubeconfig F: user \"u\": client-certificate and client-key go together"},
        {CONTEXT GOOD_CLUSTER USER("exec: {command: x}"), CS_UNIMPLEMENTED,
         "kubeconfig F: user \"u\": exec is not supported"},
        {CONTEXT GOOD_CLUSTER USER("auth-provider: {name: gcp}"), CS_UNIMPLEMENTED,
         "auth-provider is not supported"},
        {CONTEXT GOOD_CLUSTER USER("token: t, as: admin"), CS_UNIMPLEMENTED, "as is not supported"},
        {CONTEXT GOOD_CLUSTER USER("username: a, password: s3cret"), CS_UNIMPLEMENTED,
         "username is not supported"},
        {CONTEXT GOOD_CLUSTER USER("token: 's3 cret'"), CS_INVALID, "F: the token is not one word of text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kube_access a;
        struct cs_err e = {0};
        cs_code rc = parse(cases[i].text, &a, &e);
        if (rc != cases[i].code || strstr(e.text, cases[i].error) == NULL)
            fail_msg("%zu: %s %s", i, cs_code_name(rc), e.text);
        assert_null(strstr(e.text, "s3"));
        kube_access_free(&a);
    }
}

static void files_replace_the_user(void **state)
{
    char config[128], ca[128], cert[128], key[128];
    struct kube_access a = {0};
    struct cs_err e = {0};
    (void)state;
    put("config", CONTEXT CLUSTER("server: 'https://h', insecure-skip-tls-verify: true") USER("token: t"));
    snprintf(config, sizeof config, "%s/config", folder);
    snprintf(ca, sizeof ca, "%s/ca.crt", folder);
    snprintf(cert, sizeof cert, "%s/cert", folder);
    snprintf(key, sizeof key, "%s/key", folder);
    struct kube_options o = {
        .kubeconfig = config, .ca_file = ca, .client_cert_file = cert, .client_key_file = key};
    if (kube_access_read(&o, &a, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_false(a.insecure);
    is(&a.ca, "CA");
    is(&a.client_key, "KEY");
    assert_int_equal(a.authorization.len, 0);
    kube_access_free(&a);
    o.client_key_file = NULL;
    assert_int_equal(kube_access_read(&o, &a, &e), CS_INVALID);
    kube_access_free(&a);
    /* relative to the kubeconfig, and never a token in the clear */
    put("config", CONTEXT CLUSTER("server: 'http://h'") USER("tokenFile: token"));
    assert_int_equal(kube_check(&(struct kube_options){.kubeconfig = config}, &e), CS_INVALID);
    assert_string_equal(e.text, "the token would be sent to http://h in the clear");
}

/* Every allocation fails once. */
static void survives_lack_of_memory(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct kube_access a;
        struct cs_err e = {0};
        cs_mem_fail_at(n, false);
        cs_code rc = parse(CONTEXT CLUSTER("server: 'https://h', certificate-authority: ca.crt")
                               USER("client-certificate: cert, client-key-data: S0VZ, token: t"),
                           &a, &e);
        cs_mem_fail_at(0, false);
        kube_access_free(&a);
        if (rc == CS_OK) {
            assert_true(n > 5);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_there),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(files_replace_the_user),
        cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
