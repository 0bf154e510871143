/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/suite/subject.h"

#include "base/file.h"
#include "base/mem.h"
#include "crypto/x509_cert.h"
#include "spiffe/bundle.h"
#include "tests/suite/reference.h"

#include <ctype.h>
#include <ftw.h>
#include <unistd.h>

void suite_must(cs_code rc, const struct cs_err *e)
{
    if (rc != CS_OK)
        fail_msg("%s: %s", cs_code_name(rc), e->text);
}

/* --- Loading --- */

static bool has_builtin(const struct plugin_kind *k, const char *name)
{
    for (size_t i = 0; i < k->builtin_count; i++)
        if (strcmp(k->builtins[i]->name, name) == 0)
            return true;
    return false;
}

static const struct plugin_kind *find(const struct plugin_kind *kinds, size_t count, const char *type)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(kinds[i].type, type) == 0)
            return &kinds[i];
    return NULL;
}

/* The program's own kind, with the reference's plugin in it where there is no other of the name. */
static struct plugin_kind kind_of(const struct suite_subject *s)
{
    bool server = strcmp(s->program, "server") == 0;
    const struct plugin_kind *own = server ? find(plugin_server_kinds, plugin_server_kind_count, s->type)
                                           : find(plugin_agent_kinds, plugin_agent_kind_count, s->type);
    const struct plugin_kind *reference =
        server ? find(reference_server_kinds, reference_server_kind_count, s->type)
               : find(reference_agent_kinds, reference_agent_kind_count, s->type);
    assert_non_null(own);
    struct plugin_kind k = *own;
    if (!s->bridged && !has_builtin(own, s->name)) {
        assert_non_null(reference);
        k.builtins = reference->builtins;
        k.builtin_count = reference->builtin_count;
    }
    return k;
}

static void load(struct suite *s)
{
    const struct suite_subject *subject = s->subject;
    char *program = getenv("CSPIRE_SUITE_PLUGIN");
    char *args[] = {(char *)subject->program, (char *)subject->type, (char *)subject->name};
    struct config_plugin row = {
        .type = subject->type,
        .name = subject->name,
        .cmd = "",
        .checksum = "",
        .data = cs_slice_str(s->data),
    };
    if (subject->bridged) {
        assert_non_null(program);
        row.cmd = program;
        row.args.at = (void *)args;
        row.args.len = sizeof args / sizeof args[0];
    }
    const struct config_plugins plugins = {.at = &row, .len = 1};
    const struct plugin_kind kind = kind_of(subject);
    const struct catalog_config cfg = {
        .program = subject->program,
        .kinds = &kind,
        .kind_count = 1,
        .plugins = &plugins,
        .env = {.clock = &cs_clock_system, .trust_domain = "example.org", .data_dir = s->dir},
    };
    struct cs_err e = {0};
    suite_must(catalog_load(&cfg, &s->catalog, &e), &e);
    const struct catalog_plugin *p = catalog_find(s->catalog, subject->type, subject->name);
    assert_non_null(p);
    s->ops = p->ops;
    s->self = p->self;
}

static void format_data(struct suite *s)
{
    const char *data = s->subject->data, *mark = strstr(data, "%s");
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    for (; mark != NULL; mark = strstr(data, "%s")) {
        cs_buf_add(&out, data, (size_t)(mark - data));
        cs_buf_add_str(&out, s->dir);
        data = mark + 2;
    }
    cs_buf_add_str(&out, data);
    assert_true(out.len < sizeof s->data);
    memcpy(s->data, cs_buf_cstr(&out), out.len + 1);
}

int suite_setup(void **state)
{
    struct suite *s = calloc(1, sizeof *s);
    s->subject = *state;
    snprintf(s->dir, sizeof s->dir, "/tmp/suite.XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    format_data(s);
    if (s->subject->prepare != NULL)
        s->subject->prepare(s);
    *state = s;
    load(s);
    return 0;
}

void suite_reload(struct suite *s)
{
    catalog_free(s->catalog);
    load(s);
}

static int delete_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st, (void)flag, (void)at;
    return remove(path);
}

int suite_teardown(void **state)
{
    struct suite *s = *state;
    catalog_free(s->catalog);
    int rc = nftw(s->dir, delete_one, 16, FTW_DEPTH | FTW_PHYS);
    free(s);
    return rc;
}

/* --- For the suites --- */

const char *suite_text(const struct suite *s, const struct cs_err *e)
{
    char prefix[80];
    int n = snprintf(prefix, sizeof prefix, "%s(%s): ", s->subject->type, s->subject->name);
    for (char *c = prefix; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    return strncmp(e->text, prefix, (size_t)n) == 0 ? e->text + n : e->text;
}

struct cs_buf suite_file(const struct suite *s, const char *name)
{
    struct cs_buf out = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    if (cs_file_read(path, 1 << 20, &out, NULL) != CS_OK)
        cs_buf_free(&out);
    return out;
}

static void add_root(struct spiffe_bundle_builder *b, const char *file, bool tainted)
{
    struct cs_err e = {0};
    char path[256];
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    snprintf(path, sizeof path, "%s/crypto/%s", getenv("CSPIRE_TESTDATA"), file);
    suite_must(cs_file_read(path, 1 << 16, &pem, &e), &e);
    suite_must(x509_chain_parse_pem(cs_buf_slice(&pem), 1, &chain, &e), &e);
    suite_must(spiffe_bundle_add_x509(b, chain.at[0], tainted, &e), &e);
    suite_must(spiffe_bundle_add_jwt(b, cs_slice_str(file), chain.at[0]->spki, 1700000000, tainted, &e), &e);
}

struct spiffe_bundle *suite_bundle(int64_t refresh_hint)
{
    struct cs_err e = {0};
    struct spiffe_bundle *bundle = NULL;
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    suite_must(spiffe_bundle_builder_new(cs_slice_str("example.org"), &b, &e), &e);
    add_root(b, "ca_p256.pem", false);
    add_root(b, "ca_rsa2048.pem", true);
    spiffe_bundle_set_refresh_hint(b, refresh_hint);
    spiffe_bundle_set_sequence(b, 42);
    suite_must(spiffe_bundle_build(b, &bundle, &e), &e);
    return bundle;
}

int suite_run(const char *name, const struct CMUnitTest *tests, size_t test_count,
              const struct suite_subject *subjects, size_t subject_count)
{
    size_t n = test_count * subject_count;
    struct CMUnitTest *all = calloc(n, sizeof *all);
    char(*names)[160] = calloc(n, sizeof *names);
    for (size_t i = 0; i < n; i++) {
        const struct suite_subject *s = &subjects[i / test_count];
        all[i] = tests[i % test_count];
        snprintf(names[i], sizeof names[i], "%s %s%s: %s", s->program, s->name, s->bridged ? ", bridged" : "",
                 all[i].name);
        all[i].name = names[i];
        all[i].setup_func = suite_setup;
        all[i].teardown_func = suite_teardown;
        all[i].initial_state = (void *)s;
    }
    int failed = _cmocka_run_group_tests(name, all, n, NULL, NULL);
    free(all);
    free(names);
    return failed;
}
