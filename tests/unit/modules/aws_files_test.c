/* SPDX-License-Identifier: Apache-2.0
 *
 * Where credentials come from: the environment, the shared files and their profiles, the container's URL.
 */
#include "base/file.h"
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* --- Lines --- */

/* "name key=value,key=value;" for each profile */
static char *listed(const struct aws_profiles *p)
{
    struct cs_buf b = {0};
    for (size_t i = 0; i < p->count; i++) {
        cs_buf_printf(&b, "%s%s", p->at[i].name, p->at[i].half ? "!" : "");
        for (enum aws_key k = 0; k < AWS_KEY_COUNT; k++)
            if (p->at[i].at[k] != NULL)
                cs_buf_printf(&b, " %s=%s", aws_key_names[k], p->at[i].at[k]);
        cs_buf_add_byte(&b, ';');
    }
    return cs_buf_take_str(&b);
}

static void reads(enum aws_file kind, const char *text, const char *want)
{
    CS_CLEANUP(aws_profiles_free) struct aws_profiles p = {0};
    struct cs_err e;
    if (aws_profiles_parse(cs_slice_str(text), kind, &p, &e) != CS_OK)
        fail_msg("%s", e.text);
    CS_CLEANUP(cs_freep) char *got = listed(&p);
    assert_string_equal(got, want);
}

static void test_lines(void **state)
{
    (void)state;
    const enum aws_file f = AWS_FILE_CREDENTIALS;
    reads(f, "", "");
    reads(f, "role_arn = nobody's\n[a]\nrole_arn = r\n", "a role_arn=r;");
    reads(f, "[a]\r\nrole_arn=r\r\n\r\n[b]\r\n", "a role_arn=r;b;");
    reads(f, "[ a ] ; comment\nROLE_ARN: r # comment\n; role_arn = x\n # role_arn = y\n", "a role_arn=r;");
    reads(f, "[a]\nrole_arn = r#s;t\n", "a role_arn=r#s;t;");
    reads(f, "[a]\nrole_arn = \"r s\"\nexternal_id = 'x'\nmfa_serial='\n",
          "a role_arn=r s external_id=x mfa_serial=';");
    reads(f, "[a]\nrole_arn = arn:aws:iam::1:role/r\n", "a role_arn=arn:aws:iam::1:role/r;");
    reads(f, "[a]\nrole_arn : a=b\n", "a role_arn=a=b;");
    reads(f, "[a]\nrole_arn\nsomething = else\nrole_arn_ = x\n", "a;");
    reads(f, "[a]\nrole_arn = 1\nrole_arn = 2\n[b]\n[a]\nexternal_id = 3\n", "a role_arn=2 external_id=3;b;");
    reads(f, "[a]\nrole_arn =\n", "a role_arn=;");
    /* indented: of the property before it when that is empty, else on its own; no property: goes on */
    reads(f, "[a]\ns3 =\n  role_arn = no\n  external_id = no\n", "a;");
    reads(f, "[a]\ns3 = x\n  role_arn = r # c\n", "a role_arn=r;");
    reads(f, "[a]\n  role_arn = r\n", "a role_arn=r;");
    reads(f, "[a]\nrole_arn = r\n  more # x\n", "a role_arn=r\nmore # x;");
    reads(f, "[a]\nrole_arn =\n  more\n[b]\n  more\n", "a role_arn=;b;");
    reads(f, "[a", "");
    reads(f, "[]\nrole_arn = r\n", " role_arn=r;");
}

static void test_sections(void **state)
{
    (void)state;
    reads(AWS_FILE_CREDENTIALS, "[a]\n[profile b]\n[b c]\n[default]\n", "a;b c;default;");
    reads(AWS_FILE_CONFIG, "[a]\n[profile b]\n[profile \t c d]\n[default]\n[sso-session s]\n[services x]\n",
          "b;c d;default;");
    reads(AWS_FILE_CONFIG, "[default]\nrole_arn = 1\n[profile default]\nrole_arn = 2\n[profile z]\n",
          "default role_arn=2;z;");
    reads(AWS_FILE_CONFIG, "[profile default]\nrole_arn = 2\n[default]\nrole_arn = 1\n",
          "default role_arn=2;");
    reads(AWS_FILE_CREDENTIALS,
          "[a]\naws_access_key_id = A\n[b]\naws_secret_access_key = s\n[c]\naws_access_key_id = A\n"
          "aws_secret_access_key = s\n",
          "a! aws_access_key_id=A;b! aws_secret_access_key=s;c aws_access_key_id=A aws_secret_access_key=s;");
}

static void merges(const char *config, const char *credentials, const char *want)
{
    CS_CLEANUP(aws_profiles_free) struct aws_profiles p = {0}, q = {0};
    assert_int_equal(aws_profiles_parse(cs_slice_str(config), AWS_FILE_CONFIG, &p, NULL), CS_OK);
    assert_int_equal(aws_profiles_parse(cs_slice_str(credentials), AWS_FILE_CREDENTIALS, &q, NULL), CS_OK);
    assert_int_equal(aws_profiles_merge(&p, &q, NULL), CS_OK);
    assert_int_equal(q.count, 0);
    CS_CLEANUP(cs_freep) char *got = listed(&p);
    assert_string_equal(got, want);
}

static void test_merge(void **state)
{
    (void)state;
    merges("[profile a]\nrole_arn = 1\nexternal_id = 1\n", "[a]\nrole_arn = 2\n[b]\nrole_arn = 3\n",
           "a role_arn=2 external_id=1;b role_arn=3;");
    /* a key is of one file */
    merges("[profile a]\naws_access_key_id=A\naws_secret_access_key=a\naws_session_token=t\n",
           "[a]\naws_access_key_id=B\naws_secret_access_key=b\n",
           "a aws_access_key_id=B aws_secret_access_key=b;");
    merges("[profile a]\naws_access_key_id=A\naws_secret_access_key=a\n", "[a]\naws_session_token=t\n",
           "a aws_access_key_id=A aws_secret_access_key=a;");
    merges("[profile a]\naws_access_key_id=A\n", "[a]\naws_access_key_id=B\naws_secret_access_key=b\n",
           "a aws_access_key_id=B aws_secret_access_key=b;");
    merges("[profile a]\naws_access_key_id=A\naws_secret_access_key=a\n", "[a]\naws_access_key_id=B\n",
           "a! aws_access_key_id=A aws_secret_access_key=a;");
}

static void test_limits(void **state)
{
    (void)state;
    CS_CLEANUP(aws_profiles_free) struct aws_profiles p = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    struct cs_err e;
    for (int i = 0; i < AWS_PROFILES_MAX; i++)
        cs_buf_printf(&b, "[p%d]\n", i);
    assert_int_equal(aws_profiles_parse(cs_buf_slice(&b), AWS_FILE_CREDENTIALS, &p, &e), CS_OK);
    aws_profiles_free(&p);
    cs_buf_add_str(&b, "[one more]\n");
    assert_int_equal(aws_profiles_parse(cs_buf_slice(&b), AWS_FILE_CREDENTIALS, &p, &e), CS_EXHAUSTED);
    assert_int_equal(p.count, 0);
    cs_buf_reset(&b);
    cs_buf_add_str(&b, "[a]\nrole_arn = ");
    for (size_t i = 0; i < AWS_VALUE_MAX; i++)
        cs_buf_add_byte(&b, 'x');
    assert_int_equal(aws_profiles_parse(cs_buf_slice(&b), AWS_FILE_CREDENTIALS, &p, &e), CS_OK);
    aws_profiles_free(&p);
    cs_buf_add_str(&b, "\n y");
    assert_int_equal(aws_profiles_parse(cs_buf_slice(&b), AWS_FILE_CREDENTIALS, &p, &e), CS_EXHAUSTED);
    assert_int_equal(aws_profiles_parse(cs_slice_of("[a]\n\0", 5), AWS_FILE_CREDENTIALS, &p, &e), CS_INVALID);
    assert_string_equal(e.text, "it has a NUL byte");
}

/* --- Plans --- */

static const char *const variables[] = {
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
};

static char home[] = "/tmp/aws_files.XXXXXX";

static int begin(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
    return mkdtemp(home) != NULL && setenv("HOME", home, 1) == 0 ? 0 : -1;
}

static void file_of(const char *name, const char *text)
{
    CS_CLEANUP(cs_freep) char *dir = cs_asprintf("%s/.aws", home), *path = cs_asprintf("%s/%s", dir, name);
    assert_int_equal(cs_mkdir_all(dir, 0700, NULL), CS_OK);
    if (text != NULL)
        assert_int_equal(cs_file_write_atomic(path, cs_slice_str(text), 0600, NULL), CS_OK);
    else
        (void)unlink(path);
}

static int end(void **state)
{
    (void)state;
    CS_CLEANUP(cs_freep) char *dir = cs_asprintf("%s/.aws", home);
    file_of("config", NULL);
    file_of("credentials", NULL);
    return rmdir(dir) == 0 ? rmdir(home) : -1;
}

static const char *or_none(const char *s)
{
    return s != NULL ? s : "-";
}

static char *told(const struct aws_plan *p)
{
    struct cs_buf b = {0};
    if (p->source == AWS_SOURCE_FIXED)
        cs_buf_printf(&b, "fixed %s %s %s", p->fixed.id, p->fixed.secret, or_none(p->fixed.token));
    if (p->source == AWS_SOURCE_WEB_IDENTITY)
        cs_buf_printf(&b, "web %s %s %s", p->token_file, p->web.arn, or_none(p->web.session));
    if (p->source == AWS_SOURCE_CONTAINER)
        cs_buf_printf(&b, "container %s %s %s %s", p->url, or_none(p->host), or_none(p->auth),
                      or_none(p->auth_file));
    if (p->source == AWS_SOURCE_INSTANCE)
        cs_buf_printf(&b, "instance %s", p->metadata);
    for (size_t i = 0; i < p->role_count; i++)
        cs_buf_printf(&b, " > %s %s %s %lld", p->roles[i].arn, or_none(p->roles[i].session),
                      or_none(p->roles[i].external_id), (long long)p->roles[i].seconds);
    return cs_buf_take_str(&b);
}

/* `env`: "NAME=value" each, at most 4; unset again. */
struct situation {
    const char *env[4], *config, *credentials, *want;
};

static void try(const struct situation *s, const char *id, const char *secret)
{
    struct aws_plan p = {0};
    struct cs_err e = {0};
    file_of("config", s->config);
    file_of("credentials", s->credentials);
    for (size_t i = 0; i < 4 && s->env[i] != NULL; i++) {
        CS_CLEANUP(cs_freep) char *name = cs_strndup(s->env[i], strcspn(s->env[i], "="));
        assert_int_equal(setenv(name, strchr(s->env[i], '=') + 1, 1), 0);
    }
    const cs_code rc = aws_plan_make(id, secret, NULL, &p, &e);
    CS_CLEANUP(cs_freep) char *got = rc == CS_OK ? told(&p) : cs_asprintf("%s: %s", cs_code_name(rc), e.text);
    assert_string_equal(got, s->want);
    aws_plan_free(&p);
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
}

static void test_environment(void **state)
{
    (void)state;
    const struct situation all[] = {
        {{NULL}, NULL, NULL, "instance http://169.254.169.254"},
        {{"AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=s", "AWS_SESSION_TOKEN=t"},
         NULL,
         NULL,
         "fixed A s t"},
        {{"AWS_ACCESS_KEY=A", "AWS_SECRET_KEY=s"}, NULL, NULL, "fixed A s -"},
        {{"AWS_ACCESS_KEY_ID=A", "AWS_SECRET_KEY=s", "AWS_SESSION_TOKEN=t"}, NULL, NULL, "fixed A s t"},
        {{"AWS_ACCESS_KEY_ID=A"}, NULL, NULL, "instance http://169.254.169.254"},
        {{"AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY="}, NULL, NULL, "instance http://169.254.169.254"},
        {{"AWS_ACCESS_KEY_ID=A\n", "AWS_SECRET_ACCESS_KEY=s"},
         NULL,
         NULL,
         "Internal: the credentials have characters in them that credentials do not have"},
        {{"AWS_WEB_IDENTITY_TOKEN_FILE=/t", "AWS_ROLE_ARN=r"}, NULL, NULL, "web /t r -"},
        {{"AWS_WEB_IDENTITY_TOKEN_FILE=/t", "AWS_ROLE_ARN=r", "AWS_ROLE_SESSION_NAME=n"},
         NULL,
         NULL,
         "web /t r n"},
        {{"AWS_WEB_IDENTITY_TOKEN_FILE=/t"}, NULL, NULL, "InvalidArgument: role ARN is not set"},
        {{"AWS_ROLE_ARN=r"}, NULL, NULL, "instance http://169.254.169.254"},
        /* the order */
        {{"AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=s", "AWS_WEB_IDENTITY_TOKEN_FILE=/t",
          "AWS_ROLE_ARN=r"},
         NULL,
         NULL,
         "fixed A s -"},
        {{"AWS_WEB_IDENTITY_TOKEN_FILE=/t", "AWS_ROLE_ARN=r"},
         NULL,
         "[default]\naws_access_key_id=F\naws_secret_access_key=f\n",
         "web /t r -"},
        {{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/c"},
         NULL,
         "[default]\naws_access_key_id=F\naws_secret_access_key=f\n",
         "fixed F f -"},
        {{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/c"},
         "[default]\nregion=x\n",
         NULL,
         "container http://169.254.170.2/c - - -"},
        {{"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://h/", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6"},
         NULL,
         NULL,
         "instance http://h"},
        {{"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=ipv6"}, NULL, NULL, "instance http://[fd00:ec2::254]"},
        {{"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=x"},
         NULL,
         NULL,
         "InvalidArgument: unknown EC2 IMDS endpoint mode, must be either IPv6 or IPv4"},
        {{NULL}, "[default]\nec2_metadata_service_endpoint=http://f\n", NULL, "instance http://f"},
        {{NULL},
         "[default]\nec2_metadata_service_endpoint_mode=IPv6\n",
         NULL,
         "instance http://[fd00:ec2::254]"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        try(&all[i], NULL, NULL);
    const struct situation half = {
        {"AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=s", "AWS_SESSION_TOKEN=t"}, NULL, NULL, "fixed C s -"};
    try(&half, "C", NULL); /* the token is of the environment's key */
    const struct situation none = {{NULL}, NULL, NULL, "fixed C d -"};
    try(&none, "C", "d");
    const struct situation lone = {{"AWS_SECRET_KEY=old"}, NULL, NULL, "instance http://169.254.169.254"};
    try(&lone, "C", NULL);
}

#define KEYS(n) "aws_access_key_id=" n "\naws_secret_access_key=s" n "\n"
static void test_profiles(void **state)
{
    (void)state;
    const struct situation all[] = {
        {{NULL}, "[default]\n" KEYS("A"), NULL, "fixed A sA -"},
        {{NULL}, NULL, "[default]\n" KEYS("A") "aws_session_token=t\n", "fixed A sA t"},
        {{NULL}, "[default]\n" KEYS("A"), "[default]\n" KEYS("B"), "fixed B sB -"},
        {{"AWS_PROFILE=p"}, "[profile p]\n" KEYS("A"), "[default]\n" KEYS("B"), "fixed A sA -"},
        {{"AWS_DEFAULT_PROFILE=p"}, "[profile p]\n" KEYS("A"), NULL, "fixed A sA -"},
        {{"AWS_PROFILE=q", "AWS_DEFAULT_PROFILE=p"},
         "[profile p]\n" KEYS("A"),
         "[q]\n" KEYS("Q"),
         "fixed Q sQ -"},
        {{"AWS_PROFILE=p"},
         NULL,
         "[default]\n" KEYS("B"),
         "InvalidArgument: failed to get shared config profile, p"},
        {{"AWS_DEFAULT_PROFILE=p"}, NULL, "[default]\n" KEYS("B"), "instance http://169.254.169.254"},
        {{"AWS_PROFILE=p"},
         "[p]\n" KEYS("A"),
         NULL,
         "InvalidArgument: failed to get shared config profile, p"},
        {{NULL},
         NULL,
         "[default]\naws_access_key_id=A\n",
         "InvalidArgument: error fetching config from profile, default, Error using profile: partial "
         "credentials "
         "found for profile default"},
        {{NULL},
         NULL,
         "[default]\naws_access_key_id=\naws_secret_access_key=\n",
         "instance http://169.254.169.254"},
        /* roles */
        {{"AWS_PROFILE=p"},
         "[profile "
         "p]\nrole_arn=R\nsource_profile=b\nexternal_id=x\nrole_session_name=n\nduration_seconds=3600\n",
         "[b]\n" KEYS("B"),
         "fixed B sB - > R n x 3600"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nsource_profile=b\nduration_seconds=901\n",
         "[b]\n" KEYS("B"),
         "fixed B sB - > R - - 900"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nsource_profile=b\nduration_seconds=long\n",
         "[b]\n" KEYS("B"),
         "fixed B sB - > R - - 900"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nsource_profile=q\n[profile q]\nrole_arn=Q\nsource_profile=b\n",
         "[b]\n" KEYS("B"),
         "fixed B sB - > Q - - 900 > R - - 900"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nsource_profile=p\n" KEYS("P"),
         NULL,
         "fixed P sP - > R - - 900"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nsource_profile=q\n" KEYS("P"),
         "[q]\n" KEYS("Q"),
         "fixed Q sQ - > R - - 900"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nsource_profile=q\n",
         "[q]\nrole_arn=Q\nsource_profile=no\n" KEYS("Q"),
         "fixed Q sQ - > Q - - 900 > R - - 900"},
        {{"AWS_PROFILE=p"}, "[profile p]\nrole_arn=R\n" KEYS("P"), NULL, "fixed P sP - > R - - 900"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nsource_profile=q\n[profile q]\nrole_arn=Q\nsource_profile=p\n",
         NULL,
         "InvalidArgument: failed to load assume role Q, of profile p, it has no credentials"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nsource_profile=no\n",
         NULL,
         "InvalidArgument: failed to load assume role R, of profile no, failed to get shared config profile, "
         "no"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nsource_profile=q\n[profile q]\nregion=x\n",
         NULL,
         "InvalidArgument: failed to load assume role R, of profile q, it has no credentials"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nsource_profile=b\n",
         NULL,
         "InvalidArgument: credential type source_profile requires role_arn, profile p"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nsource_profile=b\ncredential_source=Environment\n",
         NULL,
         "InvalidArgument: only one credential type may be specified per profile: source profile, credential "
         "source, "
         "credential process, web identity token"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nmfa_serial=m\n" KEYS("P"),
         NULL,
         "InvalidArgument: assume role with MFA enabled, but AssumeRoleTokenProvider session option not "
         "set."},
        /* sources */
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\ncredential_source=Ec2InstanceMetadata\n",
         NULL,
         "instance http://169.254.169.254 > R - - 900"},
        {{"AWS_PROFILE=p", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/c"},
         "[profile p]\nrole_arn=R\ncredential_source=EcsContainer\n",
         NULL,
         "container http://169.254.170.2/c - - - > R - - 900"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\ncredential_source=EcsContainer\n",
         NULL,
         "InvalidArgument: EcsContainer was specified as the credential_source, but neither "
         "'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI' or AWS_CONTAINER_CREDENTIALS_FULL_URI' was set"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\ncredential_source=Environment\n",
         NULL,
         "InvalidArgument: static credentials are empty"},
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\ncredential_source=environment\n",
         NULL,
         "InvalidArgument: credential_source values must be EcsContainer, Ec2InstanceMetadata, or "
         "Environment"},
        {{"AWS_PROFILE=p", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/c"},
         "[profile p]\nrole_arn=R\n",
         NULL,
         "container http://169.254.170.2/c - - - > R - - 900"},
        /* web identity: its role is its own */
        {{"AWS_PROFILE=p"},
         "[profile p]\nrole_arn=R\nweb_identity_token_file=/t\nrole_session_name=n\n",
         NULL,
         "web /t R n"},
        {{"AWS_PROFILE=q"},
         "[profile q]\nrole_arn=Q\nsource_profile=p\n[profile p]\nrole_arn=R\nweb_identity_token_file=/t\n",
         NULL,
         "web /t R - > Q - - 900"},
        /* what is not done */
        {{NULL},
         "[default]\ncredential_process=/bin/x\n",
         NULL,
         "Unimplemented: profile default: credential_process is not supported"},
        {{NULL},
         "[default]\nlogin_session=x\n",
         NULL,
         "Unimplemented: profile default: login_session is not supported"},
        {{NULL},
         "[default]\nsso_session=x\nsso_account_id=1\n",
         NULL,
         "Unimplemented: profile default: IAM Identity Center (sso_*) is not supported"},
        {{NULL}, "[default]\nsso_start_url=x\n" KEYS("A"), NULL, "fixed A sA -"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        try(&all[i], NULL, NULL);
}

static void test_long_ways(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    for (int i = 0; i < AWS_ROLES_MAX; i++)
        cs_buf_printf(&b, "[profile %d]\nrole_arn=r%d\nsource_profile=%d\n", i, i, i + 1);
    const size_t before = b.len;
    cs_buf_printf(&b, "[profile %d]\n" KEYS("A"), AWS_ROLES_MAX);
    struct situation s = {
        {"AWS_PROFILE=0"},
        cs_buf_cstr(&b),
        NULL,
        "fixed A sA - > r7 - - 900 > r6 - - 900 > r5 - - 900 > r4 - - 900 > r3 - - 900 > r2 - - 900"
        " > r1 - - 900 > r0 - - 900"};
    try(&s, NULL, NULL);
    /* one more role than there is room for, at the end of the way */
    b.len = before;
    cs_buf_printf(&b, "[profile %d]\nrole_arn=r8\n" KEYS("A"), AWS_ROLES_MAX);
    s.config = cs_buf_cstr(&b);
    s.want = "ResourceExhausted: profile 0 is more than 8 profiles away from credentials";
    try(&s, NULL, NULL);
    b.len = before;
    cs_buf_printf(&b, "[profile 8]\nrole_arn=r8\nsource_profile=9\n[profile 9]\n" KEYS("A"));
    s.config = cs_buf_cstr(&b);
    try(&s, NULL, NULL);
}

static void test_files(void **state)
{
    (void)state;
    CS_CLEANUP(cs_freep)
    char *a = cs_asprintf("AWS_CONFIG_FILE=%s/.aws/credentials", home),
         *none = cs_asprintf("AWS_SHARED_CREDENTIALS_FILE=%s/none", home),
         *folder = cs_asprintf("AWS_SHARED_CREDENTIALS_FILE=%s", home);
    const struct situation all[] = {
        {{a, none}, "[default]\n" KEYS("A"), "[default]\n" KEYS("B"), "fixed B sB -"},
        {{none}, "[default]\n" KEYS("A"), "[default]\n" KEYS("B"), "fixed A sA -"},
        {{folder}, "[default]\n" KEYS("A"), "[default]\n" KEYS("B"), "fixed A sA -"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        try(&all[i], NULL, NULL);
    struct aws_plan p = {0};
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf big = {0};
    while (big.len <= AWS_FILE_MAX)
        cs_buf_add_str(&big, "# nothing in it\n");
    file_of("config", cs_buf_cstr(&big));
    assert_int_equal(aws_plan_make(NULL, NULL, NULL, &p, &e), CS_EXHAUSTED);
    assert_non_null(strstr(e.text, "failed to load shared config file, "));
}

/* --- The container's URL --- */

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *full, *url, *host, *why;
    } all[] = {
        {"http://127.0.0.1:80/a?b", "http://127.0.0.1:80/a?b", "127.0.0.1:80", NULL},
        {"http://127.9.9.9", "http://127.9.9.9", "127.9.9.9", NULL},
        {"http://169.254.170.2/x", "http://169.254.170.2/x", "169.254.170.2", NULL},
        {"http://169.254.170.23/v1/credentials", "http://169.254.170.23/v1/credentials", "169.254.170.23",
         NULL},
        {"http://[fd00:ec2::23]/v1/credentials", "http://[fd00:ec2::23]/v1/credentials", "[fd00:ec2::23]",
         NULL},
        {"http://[::1]:8/", "http://[::1]:8/", "[::1]:8", NULL},
        {"http://[::ffff:127.0.0.1]/", "http://[::ffff:127.0.0.1]/", "[::ffff:127.0.0.1]", NULL},
        {"https://far.example/x", "https://far.example/x", NULL, NULL},
        {"HTTPS://far.example:1/x", "HTTPS://far.example:1/x", NULL, NULL},
        {"http://169.254.169.254/", NULL, NULL,
         "invalid endpoint host, \"169.254.169.254\", only loopback/ecs/eks hosts are allowed"},
        {"http://169.254.170.3/", NULL, NULL,
         "invalid endpoint host, \"169.254.170.3\", only loopback/ecs/eks hosts are allowed"},
        {"http://[::2]/", NULL, NULL,
         "invalid endpoint host, \"::2\", only loopback/ecs/eks hosts are allowed"},
        {"http://[fd00:ec2::24]/", NULL, NULL,
         "invalid endpoint host, \"fd00:ec2::24\", only loopback/ecs/eks hosts are allowed"},
        {"http://[::ffff:10.0.0.1]/", NULL, NULL,
         "invalid endpoint host, \"::ffff:10.0.0.1\", only loopback/ecs/eks hosts are allowed"},
        {"http://127.0.0.1@10.0.0.1/", NULL, NULL, "unable to parse host from local HTTP cred provider URL"},
        {"http://", NULL, NULL, "unable to parse host from local HTTP cred provider URL"},
        {"http:///x", NULL, NULL, "unable to parse host from local HTTP cred provider URL"},
        {"http://[::1", NULL, NULL, "unable to parse host from local HTTP cred provider URL"},
        {"http://127.0.0.1:8x/", NULL, NULL, "unable to parse host from local HTTP cred provider URL"},
        {"127.0.0.1/x", NULL, NULL, "unable to parse host from local HTTP cred provider URL"},
        {"ftp://127.0.0.1/x", NULL, NULL, "unable to parse host from local HTTP cred provider URL"},
        {"http://127.0.0.1\\@10.0.0.1/", NULL, NULL, "invalid URL, AWS_CONTAINER_CREDENTIALS_FULL_URI"},
        {"http://127.0.0.1/a b", NULL, NULL, "invalid URL, AWS_CONTAINER_CREDENTIALS_FULL_URI"},
        {"http://127.0.0.1/\r\nX: y", NULL, NULL, "invalid URL, AWS_CONTAINER_CREDENTIALS_FULL_URI"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char *url, *host;
        struct cs_err e = {0};
        const cs_code rc = aws_container_url(all[i].full, &url, &host, &e);
        if (all[i].url != NULL && rc == CS_OK) {
            assert_string_equal(url, all[i].url);
            if (all[i].host == NULL)
                assert_null(host);
            else
                assert_string_equal(host, all[i].host);
        } else {
            assert_string_equal(e.text, or_none(all[i].why));
            assert_null(url);
            assert_null(host);
        }
        cs_free(url);
        cs_free(host);
    }
    /* a name becomes the number it stands for */
    char *url, *host;
    assert_int_equal(aws_container_url("http://localhost:81/x", &url, &host, NULL), CS_OK);
    assert_true(strcmp(url, "http://127.0.0.1:81/x") == 0 || strcmp(url, "http://[::1]:81/x") == 0);
    assert_string_equal(host, "localhost:81");
    cs_free(url);
    cs_free(host);
    const struct situation bare = {
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=.evil.example/"},
        NULL,
        NULL,
        "InvalidArgument: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with a slash"};
    try(&bare, NULL, NULL);
    const struct situation full = {{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1/",
                                    "AWS_CONTAINER_AUTHORIZATION_TOKEN=a",
                                    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/f"},
                                   NULL,
                                   NULL,
                                   "container http://127.0.0.1:1/ 127.0.0.1:1 a /f"};
    try(&full, NULL, NULL);
    const struct situation both = {
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://10.0.0.1/", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/r"},
        NULL,
        NULL,
        "container http://169.254.170.2/r - - -"};
    try(&both, NULL, NULL);
}

static void test_no_memory(void **state)
{
    (void)state;
    size_t n = 0;
    file_of("config",
            "[profile p]\nrole_arn=R\nsource_profile=b\nexternal_id=x\n a\n[profile default]\n[default]\n");
    file_of("credentials", "[b]\n" KEYS("B") "aws_session_token=t\n[c]\n[d]\n[e]\n[f]\n[g]\n[h]\n[i]\n[j]\n");
    for (cs_code rc = CS_INTERNAL; rc != CS_OK; n++) {
        struct aws_plan p = {0};
        setenv("AWS_PROFILE", "p", 1);
        cs_mem_fail_at(n + 1, false);
        rc = aws_plan_make(NULL, NULL, NULL, &p, NULL);
        cs_mem_fail_at(0, false);
        if (rc == CS_OK) {
            CS_CLEANUP(cs_freep) char *got = told(&p);
            assert_string_equal(got, "fixed B sB t > R - x\na 900");
        } else {
            assert_int_equal(rc, CS_INTERNAL);
            assert_null(p.fixed.id);
        }
        aws_plan_free(&p);
    }
    assert_true(n > 20);
    unsetenv("AWS_PROFILE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),     cmocka_unit_test(test_sections),    cmocka_unit_test(test_merge),
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_environment), cmocka_unit_test(test_profiles),
        cmocka_unit_test(test_long_ways), cmocka_unit_test(test_files),       cmocka_unit_test(test_urls),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
