/* SPDX-License-Identifier: Apache-2.0
 *
 * What SVIDStore "gcp_secretmanager" reads and writes, without Google: credentials, tokens, selectors,
 * requests, answers.
 */
#include "plugins/modules/gcp/gcp.h"

#include "base/file.h"
#include "crypto/jose.h"
#include "plugins/modules/gcp/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW 1700000000

static struct cs_buf rsa, ec; /* PEM as in JSON, with \n for the ends of lines */

static void load(const char *name, struct cs_buf *out)
{
    char path[512];
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    const char *data = getenv("CSPIRE_TESTDATA");
    snprintf(path, sizeof path, "%s/crypto/%s", data != NULL ? data : "tests/data", name);
    if (cs_file_read(path, 65536, &pem, &e) != CS_OK)
        fail_msg("%s", e.text);
    for (size_t i = 0; i < pem.len; i++)
        if (pem.data[i] == '\n')
            cs_buf_add_str(out, "\\n");
        else
            cs_buf_add_byte(out, pem.data[i]);
    (void)cs_buf_cstr(out);
}

static int begin(void **state)
{
    (void)state;
    load("key_rsa2048.pem", &rsa);
    load("key_p256.pem", &ec);
    return 0;
}

static int end(void **state)
{
    (void)state;
    cs_buf_free(&rsa);
    cs_buf_free(&ec);
    return 0;
}

/* @ is the RSA key, # the other one. */
static cs_code parse(const char *text, struct gcp_credentials **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf whole = {0};
    for (const char *p = text; *p != '\0'; p++)
        if (*p == '@')
            cs_buf_add_slice(&whole, cs_buf_slice(&rsa));
        else if (*p == '#')
            cs_buf_add_slice(&whole, cs_buf_slice(&ec));
        else
            cs_buf_add_byte(&whole, (uint8_t)*p);
    if (!cs_buf_ok(&whole))
        return cs_nomem(e);
    return gcp_credentials_parse(cs_buf_slice(&whole), out, e);
}

#define ACCOUNT                                                                                              \
    "{\"type\":\"service_account\",\"private_key\":\"@\",\"private_key_id\":\"kid\",\"client_email\":"       \
    "\"a\\\"b\",\"token_uri\":\"http://127.0.0.1:1/token\"}"
#define USER                                                                                                 \
    "{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":\"s&\",\"refresh_token\":"          \
    "\"1//t\",\"quota_project_id\":\"example.com:q\"}"

/* --- Credentials --- */

static void reads_credentials(void **state)
{
    (void)state;
    CS_AUTO(gcp_credentials) a = NULL;
    CS_AUTO(gcp_credentials) u = NULL;
    struct cs_err e = {0};
    if (parse(ACCOUNT, &a, &e) != CS_OK || parse(USER, &u, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_int_equal(a->kind, GCP_SERVICE_ACCOUNT);
    assert_string_equal(a->email, "a\"b");
    assert_string_equal(a->key_id, "kid");
    assert_string_equal(a->token_uri, "http://127.0.0.1:1/token");
    assert_int_equal(crypto_signer_type(a->signer), CRYPTO_RSA_2048);
    assert_null(a->quota_project);
    assert_int_equal(u->kind, GCP_AUTHORIZED_USER);
    assert_string_equal(u->token_uri, "https://oauth2.googleapis.com/token");
    assert_string_equal(u->quota_project, "example.com:q");
    assert_int_equal(u->refresh_token->len, 4);
}

static void refuses_credentials(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
        cs_code code;
    } cases[] = {
        {"", "credentials: the file is no JSON object", CS_INVALID},
        {"{\"private_key\":\"SECRET", "credentials: the file is no JSON object", CS_INVALID},
        {"[]", "credentials: the file is no JSON object", CS_INVALID},
        {"{\"type\":\"a\",\"type\":\"b\"}", "credentials: the file is no JSON object", CS_INVALID},
        {"{}", "credentials: unsupported unidentified file type", CS_INVALID},
        {"{\"type\":null}", "credentials: unsupported unidentified file type", CS_INVALID},
        {"{\"type\":7}", "credentials: type is no string", CS_INVALID},
        {"{\"type\":\"odd\"}", "credentials: unsupported filetype \"odd\"", CS_INVALID},
        {"{\"type\":\"external_account\"}", "credentials: type \"external_account\" is not supported",
         CS_UNIMPLEMENTED},
        {"{\"type\":\"external_account_authorized_user\"}",
         "credentials: type \"external_account_authorized_user\" is not supported", CS_UNIMPLEMENTED},
        {"{\"type\":\"impersonated_service_account\"}",
         "credentials: type \"impersonated_service_account\" is not supported", CS_UNIMPLEMENTED},
        {"{\"type\":\"gdch_service_account\"}", "credentials: type \"gdch_service_account\" is not supported",
         CS_UNIMPLEMENTED},
        {"{\"type\":\"service_account\",\"private_key\":\"@\"}", "credentials: client_email is missing",
         CS_INVALID},
        {"{\"type\":\"service_account\",\"client_email\":5}", "credentials: client_email is no string",
         CS_INVALID},
        {"{\"type\":\"service_account\",\"client_email\":\"a\"}", "credentials: private_key is missing",
         CS_INVALID},
        {"{\"type\":\"service_account\",\"client_email\":\"a\",\"private_key\":\"no\"}",
         "credentials: could not parse key: no PEM blocks", CS_INVALID},
        {"{\"type\":\"service_account\",\"client_email\":\"a\",\"private_key\":\"#\"}",
         "credentials: private_key is no RSA key of at least 2048 bits", CS_INVALID},
        {"{\"type\":\"service_account\",\"client_email\":\"a\",\"private_key\":\"@\",\"token_uri\":\"http://"
         "example.org/\"}",
         "credentials: token_uri: \"http://example.org/\": http:// is for this machine only", CS_INVALID},
        {"{\"type\":\"service_account\",\"client_email\":\"a\",\"private_key\":\"@\",\"universe_domain\":"
         "\"u.test\"}",
         "credentials: universe_domain \"u.test\" is not supported", CS_UNIMPLEMENTED},
        {"{\"type\":\"authorized_user\"}", "auth: client ID must be provided", CS_INVALID},
        {"{\"type\":\"authorized_user\",\"client_id\":\"i\"}", "auth: client secret must be provided",
         CS_INVALID},
        {"{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":\"s\"}",
         "auth: refresh token must be provided", CS_INVALID},
        {"{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":\"s\",\"refresh_token\":\"t\","
         "\"quota_project_id\":\"a\\r\\nX: b\"}",
         "credentials: quota_project_id cannot be that of a project", CS_INVALID},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct gcp_credentials *c = (void *)1;
        struct cs_err e;
        if (parse(cases[i].text, &c, &e) != cases[i].code || strcmp(e.text, cases[i].want) != 0)
            fail_msg("%s: %s", cases[i].text, e.text);
        assert_null(c);
    }
}

static void checks_addresses(void **state)
{
    (void)state;
    static const char *const good[] = {
        "https://oauth2.googleapis.com/token",
        "https://h",
        "http://127.0.0.1",
        "http://127.0.0.1:8080/token",
        "http://127.9.9.9/",
        "http://localhost:1/",
        "http://[::1]:80/",
        "http://[::1]",
    };
    static const char *const bad[] = {
        "",
        "h",
        "ftp://h",
        "HTTPS://h",
        "http://",
        "https://",
        "https:///x",
        "http://h/",
        "http://127.0.0.1.evil.test/",
        "http://127.0.0.1@evil.test/",
        "https://user@h/",
        "http://localhost.evil.test",
        "http://[::1].evil.test/",
        "http://[::1",
        "http://128.0.0.1",
        "http://127.1",
        "https://h/ x",
        "https://h/?x",
        "https://h#x",
        "https://h\\x",
        "http://1270.0.0.1",
        "http://localhost\n.evil.test",
    };
    for (size_t i = 0; i < COUNT(good); i++)
        if (gcp_url_check(good[i], NULL) != CS_OK)
            fail_msg("%s", good[i]);
    for (size_t i = 0; i < COUNT(bad); i++)
        if (gcp_url_check(bad[i], NULL) != CS_INVALID)
            fail_msg("%s", bad[i]);
}

static void reads_the_metadata_host(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf url = {0};
    unsetenv("GCE_METADATA_HOST");
    assert_int_equal(gcp_metadata_url(&url, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&url), "http://169.254.169.254/");
    cs_buf_reset(&url);
    setenv("GCE_METADATA_HOST", "metadata.test:8080", 1);
    assert_int_equal(gcp_metadata_url(&url, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&url), "http://metadata.test:8080/");
    static const char *const bad[] = {"a/b", "u@h", "h?x", "h\r\nX: y"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        setenv("GCE_METADATA_HOST", bad[i], 1);
        assert_int_equal(gcp_metadata_url(&url, NULL), CS_INVALID);
    }
    unsetenv("GCE_METADATA_HOST");
}

/* --- Tokens --- */

static void signs_assertions(void **state)
{
    (void)state;
    static const char head[] = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    CS_AUTO(gcp_credentials) c = NULL;
    CS_CLEANUP(cs_buf_wipe) struct cs_buf form = {0};
    CS_CLEANUP(jose_jws_free) struct jose_jws jws = {0};
    struct cs_err e;
    assert_int_equal(parse(ACCOUNT, &c, &e), CS_OK);
    assert_int_equal(gcp_token_form(c, NOW, &form, &e), CS_OK);
    assert_memory_equal(cs_buf_cstr(&form), head, sizeof head - 1);
    const struct cs_slice token = cs_slice_of(form.data + sizeof head - 1, form.len - (sizeof head - 1));
    assert_int_equal(jose_parse(token, &jws, &e), CS_OK);
    assert_int_equal(jws.alg, JOSE_RS256);
    assert_string_equal(jws.kid, "kid");
    assert_string_equal(jws.typ, "JWT");
    assert_int_equal(jose_verify(&jws, crypto_signer_pub(c->signer), &e), CS_OK);
    assert_string_equal((const char *)jws.payload.data,
                        "{\"iss\":\"a\\\"b\",\"scope\":\"https://www.googleapis.com/auth/cloud-platform\","
                        "\"aud\":\"http://127.0.0.1:1/token\",\"exp\":1700003590,\"iat\":1699999990}");
}

static void writes_refresh_tokens(void **state)
{
    (void)state;
    CS_AUTO(gcp_credentials) c = NULL;
    CS_CLEANUP(cs_buf_wipe) struct cs_buf form = {0};
    assert_int_equal(parse(USER, &c, NULL), CS_OK);
    assert_int_equal(gcp_token_form(c, NOW, &form, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&form),
                        "grant_type=refresh_token&client_id=i&client_secret=s%26&refresh_token=1%2F%2Ft");
}

static void reads_tokens(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *text, *want; /* the token, or the error */
        cs_code code;
        int64_t expires;
    } cases[] = {
        {200, "{\"access_token\":\"ya29.x\",\"expires_in\":3599,\"token_type\":\"Bearer\",\"scope\":\"s\"}",
         "ya29.x", CS_OK, NOW + 3599},
        {200, "{\"access_token\":\"t\",\"expires_in\":1}", "t", CS_OK, NOW + 1},
        {200, "{\"access_token\":\"t\",\"expires_in\":9223372036854775807,\"token_type\":\"bearer\"}", "t",
         CS_OK, NOW + 86400},
        {200, "", "the answer has no token, or no end of it", CS_INTERNAL, 0},
        {200, "<html>", "the answer has no token, or no end of it", CS_INTERNAL, 0},
        {200, "{\"access_token\":\"t\"}", "the answer has no token, or no end of it", CS_INTERNAL, 0},
        {200, "{\"access_token\":\"t\",\"expires_in\":0}", "the answer has no token, or no end of it",
         CS_INTERNAL, 0},
        {200, "{\"access_token\":\"t\",\"expires_in\":-5}", "the answer has no token, or no end of it",
         CS_INTERNAL, 0},
        {200, "{\"access_token\":\"t\",\"expires_in\":\"60\"}", "the answer has no token, or no end of it",
         CS_INTERNAL, 0},
        {200, "{\"access_token\":\"\",\"expires_in\":60}", "the answer has no token, or no end of it",
         CS_INTERNAL, 0},
        {200, "{\"access_token\":\"a\\r\\nX: b\",\"expires_in\":60}",
         "the answer has no token, or no end of it", CS_INTERNAL, 0},
        {200, "{\"access_token\":\"t\",\"expires_in\":60,\"token_type\":\"MAC\"}",
         "the token is of type \"MAC\"", CS_INTERNAL, 0},
        {400, "{\"error\":\"invalid_grant\",\"error_description\":\"Invalid JWT Signature.\"}",
         "invalid_grant: Invalid JWT Signature.", CS_UNAUTHENTICATED, 0},
        {401, "{\"error\":\"invalid_client\"}", "invalid_client", CS_UNAUTHENTICATED, 0},
        {403, "<html>", "status 403", CS_UNAUTHENTICATED, 0},
        {404, "", "status 404", CS_UNAUTHENTICATED, 0},
        {429, "", "status 429", CS_UNAVAILABLE, 0},
        {500, "{\"error\":\"internal_failure\"}", "internal_failure", CS_UNAVAILABLE, 0},
        {302, "{\"access_token\":\"t\",\"expires_in\":60}", "status 302", CS_UNAUTHENTICATED, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct gcp_token t;
        struct cs_err e = {0};
        if (gcp_token_read(cases[i].status, cs_slice_str(cases[i].text), NOW, &t, &e) != cases[i].code)
            fail_msg("%s: %s", cases[i].text, e.text);
        if (cases[i].code == CS_OK)
            assert_true(cs_slice_is(cs_slice_of(t.value->data, t.value->len), cases[i].want));
        else
            assert_string_equal(e.text, cases[i].want);
        assert_int_equal(t.expires, cases[i].expires);
        assert_int_equal(t.value != NULL, cases[i].code == CS_OK);
        gcp_token_free(&t);
    }
}

/* --- Selectors --- */

static void reads_selectors(void **state)
{
    (void)state;
    const char *const all[] = {
        "name:secret_1-A", "projectid:example.com:p",         "name:last",
        "other:x",         "role:roles/secretmanager.viewer", "serviceaccount:a@p.iam.gserviceaccount.com",
        "regions:a,b"};
    struct gcp_place p;
    assert_int_equal(gcp_place_read(all, COUNT(all), &p, NULL), CS_OK);
    assert_string_equal(p.name, "last");
    assert_string_equal(p.project, "example.com:p");
    assert_string_equal(p.role, "roles/secretmanager.viewer");
    assert_string_equal(p.account, "a@p.iam.gserviceaccount.com");
    assert_string_equal(p.regions, "a,b");
    CS_CLEANUP(cs_freep) char *resource = gcp_place_resource(&p);
    assert_string_equal(resource, "projects/example.com:p/secrets/last");
    assert_int_equal(gcp_place_read(all, 2, &p, NULL), CS_OK);
    assert_string_equal(p.role, "");
    assert_null(p.regions);
}

static void refuses_selectors(void **state)
{
    (void)state;
    static const struct {
        const char *at[4], *want;
    } cases[] = {
        {{"name:n", "nonsense"}, "invalid metadata: metadata does not contain a colon: \"nonsense\""},
        {{NULL}, "name is required"},
        {{"projectid:p"}, "name is required"},
        {{"name:n"}, "projectid is required"},
        {{"name:n", "projectid:p", "serviceaccount:a"}, "role is required when service account is set"},
        {{"name:n", "projectid:p", "serviceaccount:", "role:"},
         "role is required when service account is set"},
        {{"name:n", "projectid:p", "role:r"}, "service account is required when role is set"},
        {{"name:n", "projectid:p", "regions:"}, "need to specify at least one region"},
        {{"name:n", "projectid:p", "regions:,,"}, "need to specify at least one region"},
        {{"name:", "projectid:p"}, "name \"\" cannot be that of a secret"},
        {{"name:a/b", "projectid:p"}, "name \"a/b\" cannot be that of a secret"},
        {{"name:..", "projectid:p"}, "name \"..\" cannot be that of a secret"},
        {{"name:a?b", "projectid:p"}, "name \"a?b\" cannot be that of a secret"},
        {{"name:n", "projectid:"}, "projectid \"\" cannot be that of a project"},
        {{"name:n", "projectid:.."}, "projectid \"..\" cannot be that of a project"},
        {{"name:n", "projectid:a/b"}, "projectid \"a/b\" cannot be that of a project"},
        {{"name:n", "projectid:a%2fb"}, "projectid \"a%2fb\" cannot be that of a project"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct gcp_place p;
        struct cs_err e;
        size_t n = 0;
        while (n < COUNT(cases[i].at) && cases[i].at[n] != NULL)
            n++;
        if (gcp_place_read(cases[i].at, n, &p, &e) != CS_INVALID || strcmp(e.text, cases[i].want) != 0)
            fail_msg("%s, wanted %s", e.text, cases[i].want);
        assert_null(p.name);
    }
    char longest[5 + 256 + 1] = "name:";
    memset(longest + 5, 'n', 255);
    const char *const at[] = {longest, "projectid:p"};
    struct gcp_place p;
    assert_int_equal(gcp_place_read(at, 2, &p, NULL), CS_OK);
    longest[5 + 255] = 'n';
    assert_int_equal(gcp_place_read(at, 2, &p, NULL), CS_INVALID);
}

/* --- Requests --- */

static const struct gcp_place place = {"n", "p", "roles/x\"y", "a@b", NULL};

static void writes_requests(void **state)
{
    (void)state;
    char label[GCP_LABEL_LEN + 1];
    CS_CLEANUP(cs_buf_free) struct cs_buf a = {0}, b = {0}, c = {0}, d = {0}, v = {0};
    struct gcp_place spread = place;
    spread.regions = ",europe-north1,,x\"y,";
    assert_int_equal(gcp_label("example.org", label, NULL), CS_OK);
    assert_string_equal(label, "20116dfd6774a9e7b32eddfea3f6cb094e38fc3f"); /* sha1sum's */
    assert_int_equal(gcp_body_create(&place, label, &a, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&a), "{\"replication\":{\"automatic\":{}},\"labels\":{\"spire-svid\":"
                                         "\"20116dfd6774a9e7b32eddfea3f6cb094e38fc3f\"}}");
    assert_int_equal(gcp_body_create(&spread, "l", &b, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&b),
                        "{\"replication\":{\"userManaged\":{\"replicas\":[{\"location\":\"europe-north1\"},"
                        "{\"location\":\"x\\\"y\"}]}},\"labels\":{\"spire-svid\":\"l\"}}");
    assert_int_equal(gcp_body_policy(&place, "", &c, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&c), "{\"policy\":{\"bindings\":[{\"role\":\"roles/x\\\"y\",\"members\":["
                                         "\"serviceAccount:a@b\"]}]}}");
    assert_int_equal(gcp_body_policy(&place, "BwX=", &d, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&d), "{\"policy\":{\"bindings\":[{\"role\":\"roles/x\\\"y\",\"members\":["
                                         "\"serviceAccount:a@b\"]}],\"etag\":\"BwX=\"}}");
    assert_int_equal(gcp_body_version(cs_slice_str("{\"a\":1}"), &v, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&v), "{\"payload\":{\"data\":\"eyJhIjoxfQ==\"}}");
}

/* --- Answers --- */

static void reads_failures(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *text, *want;
        cs_code code;
    } cases[] = {
        {404, "{\"error\":{\"code\":404,\"message\":\"Secret [x] not found.\",\"status\":\"NOT_FOUND\"}}",
         "rpc error: code = NotFound desc = Secret [x] not found.", CS_NOT_FOUND},
        {409, "{\"error\":{\"code\":409,\"message\":\"m\",\"status\":\"ALREADY_EXISTS\"}}",
         "rpc error: code = AlreadyExists desc = m", CS_EXISTS},
        {409, "{\"error\":{\"code\":409,\"message\":\"m\",\"status\":\"ABORTED\"}}",
         "rpc error: code = Aborted desc = m", CS_ABORTED},
        {400, "{\"error\":{\"code\":400,\"message\":\"m\",\"status\":\"FAILED_PRECONDITION\"}}",
         "rpc error: code = FailedPrecondition desc = m", CS_PRECONDITION},
        {403, "{\"error\":{\"message\":\"m\"}}", "rpc error: code = PermissionDenied desc = m", CS_DENIED},
        {418, "{\"error\":{\"message\":\"m\",\"status\":\"TEAPOT\"}}", "rpc error: code = Unknown desc = m",
         CS_UNKNOWN},
        {404, "<html>",
         "rpc error: code = Unimplemented desc = the answer has status 404 and no error of Google's",
         CS_UNIMPLEMENTED},
        {404, "{\"error\":\"Not found\"}",
         "rpc error: code = Unimplemented desc = the answer has status 404 and no error of Google's",
         CS_UNIMPLEMENTED},
        {302, "", "rpc error: code = Unknown desc = the answer has status 302 and no error of Google's",
         CS_UNKNOWN},
        {401, "",
         "rpc error: code = Unauthenticated desc = the answer has status 401 and no error of Google's",
         CS_UNAUTHENTICATED},
        {502, "", "rpc error: code = Unavailable desc = the answer has status 502 and no error of Google's",
         CS_UNAVAILABLE},
        {200, "", "the answer is no JSON object", CS_INTERNAL},
        {200, "[]", "the answer is no JSON object", CS_INTERNAL},
        {200, "{\"a\":1,\"a\":2}", "the answer is no JSON object", CS_INTERNAL},
        {201, "{}", "", CS_OK},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        CS_CLEANUP(gcp_json_drop) json_t *answer;
        struct cs_err e = {0};
        if (gcp_answer_read(cases[i].status, cs_slice_str(cases[i].text), &answer, &e) != cases[i].code ||
            strcmp(e.text, cases[i].want) != 0)
            fail_msg("%s: %s", cases[i].text, e.text);
        assert_int_equal(answer != NULL, cases[i].code == CS_OK);
    }
}

static cs_code secret(const char *text, struct gcp_secret *out)
{
    CS_CLEANUP(gcp_json_drop) json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    return gcp_secret_read(j, &place, "l", out, NULL);
}

static void reads_secrets(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "{\"name\":5}",
        "{\"name\":\"projects/1/secrets/other\"}",
        "{\"name\":\"projects//secrets/n\"}",
        "{\"name\":\"projects/../secrets/n\"}",
        "{\"name\":\"projects/1/secrets/n/versions/1\"}",
        "{\"name\":\"projects/1/secrets/n?x\"}",
        "{\"name\":\"projects/1?x/secrets/n\"}",
        "{\"name\":\"folders/1/secrets/n\"}",
        "{\"name\":\"projects/1/locations/l/secrets/n\"}",
    };
    static const struct {
        const char *text;
        bool ours;
    } good[] = {
        {"{\"name\":\"projects/1/secrets/n\",\"labels\":{\"spire-svid\":\"l\",\"x\":\"y\"}}", true},
        {"{\"name\":\"projects/p.q:r-s/secrets/n\",\"labels\":{\"spire-svid\":\"L\"}}", false},
        {"{\"name\":\"projects/1/secrets/n\",\"labels\":{\"spire-svid\":\"\"}}", false},
        {"{\"name\":\"projects/1/secrets/n\",\"labels\":{\"spire-svid\":[\"l\"]}}", false},
        {"{\"name\":\"projects/1/secrets/n\",\"labels\":[\"l\"]}", false},
        {"{\"name\":\"projects/1/secrets/n\"}", false},
    };
    struct gcp_secret s;
    for (size_t i = 0; i < COUNT(bad); i++)
        if (secret(bad[i], &s) != CS_INTERNAL)
            fail_msg("%s", bad[i]);
    for (size_t i = 0; i < COUNT(good); i++)
        if (secret(good[i].text, &s) != CS_OK || s.ours != good[i].ours)
            fail_msg("%s", good[i].text);
    CS_CLEANUP(gcp_json_drop)
    json_t *j = json_loads("{\"name\":\"projects/1/secrets/n\",\"etag\":\"\\\"e\\\"\"}", 0, NULL);
    assert_int_equal(gcp_secret_read(j, &place, "l", &s, NULL), CS_OK);
    assert_string_equal(s.resource, "projects/1/secrets/n");
    assert_string_equal(s.etag, "\"e\"");
}

static void compares_policies(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is;
    } cases[] = {
        {"{\"bindings\":[{\"role\":\"roles/x\\\"y\",\"members\":[\"serviceAccount:a@b\"]}],\"etag\":\"e\"}",
         true},
        {"{}", false},
        {"{\"bindings\":[]}", false},
        {"{\"bindings\":[{\"role\":\"roles/x\\\"y\",\"members\":[]}]}", false},
        {"{\"bindings\":[{\"role\":\"roles/x\\\"y\",\"members\":[\"user:a@b\"]}]}", false},
        {"{\"bindings\":[{\"role\":\"roles/x\\\"y\",\"members\":[\"serviceAccount:a@bc\"]}]}", false},
        {"{\"bindings\":[{\"role\":\"roles/z\",\"members\":[\"serviceAccount:a@b\"]}]}", false},
        {"{\"bindings\":[{\"role\":\"roles/x\\\"y\",\"members\":[\"serviceAccount:a@b\",\"user:c\"]}]}",
         false},
        {"{\"bindings\":[{\"role\":\"roles/x\\\"y\",\"members\":[\"serviceAccount:a@b\"]},{}]}", false},
        {"{\"bindings\":{\"role\":\"roles/x\\\"y\"}}", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        CS_CLEANUP(gcp_json_drop) json_t *j = json_loads(cases[i].text, 0, NULL);
        assert_non_null(j);
        if (gcp_policy_is(j, &place) != cases[i].is)
            fail_msg("%s", cases[i].text);
    }
}

/* --- Memory --- */

static cs_code all(struct cs_err *e)
{
    static const char *const words[] = {"name:n", "projectid:p", "role:r", "serviceaccount:a", "regions:x"};
    CS_AUTO(gcp_credentials) account = NULL;
    CS_AUTO(gcp_credentials) user = NULL;
    CS_CLEANUP(cs_buf_wipe) struct cs_buf form = {0}, refresh = {0}, version = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf create = {0}, policy = {0};
    CS_CLEANUP(gcp_token_free) struct gcp_token token = {0};
    struct gcp_place p;
    CS_TRY(parse(ACCOUNT, &account, e));
    CS_TRY(parse(USER, &user, e));
    CS_TRY(gcp_token_form(account, NOW, &form, e));
    CS_TRY(gcp_token_form(user, NOW, &refresh, e));
    CS_TRY(gcp_token_read(200, cs_slice_str("{\"access_token\":\"t\",\"expires_in\":60}"), NOW, &token, e));
    CS_TRY(gcp_place_read(words, COUNT(words), &p, e));
    CS_TRY(gcp_body_create(&p, "l", &create, e));
    CS_TRY(gcp_body_policy(&p, "e", &policy, e));
    return gcp_body_version(cs_slice_str("v"), &version, e);
}

/* Every allocation fails once. */
static void survives_lack_of_memory(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct cs_err e = {0};
        cs_mem_fail_at(n, false);
        cs_code rc = all(&e);
        cs_mem_fail_at(0, false);
        if (rc == CS_OK) {
            assert_true(n > 25);
            return;
        }
        if (strstr(e.text, "memory") == NULL)
            fail_msg("%zu: %s", n, e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_credentials), cmocka_unit_test(refuses_credentials),
        cmocka_unit_test(checks_addresses),  cmocka_unit_test(reads_the_metadata_host),
        cmocka_unit_test(signs_assertions),  cmocka_unit_test(writes_refresh_tokens),
        cmocka_unit_test(reads_tokens),      cmocka_unit_test(reads_selectors),
        cmocka_unit_test(refuses_selectors), cmocka_unit_test(writes_requests),
        cmocka_unit_test(reads_failures),    cmocka_unit_test(reads_secrets),
        cmocka_unit_test(compares_policies), cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
