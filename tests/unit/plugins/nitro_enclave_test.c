/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor "nitro_enclave": IDs and selectors, who is refused, which key a document is for.
 */
#include "base/file.h"
#include "crypto/hash.h"
#include "nitro_fixture.h"
#include "plugin/nodeattestor_server.h"
#include "plugins/server/nodeattestor/nitro_path.h"

#include <unistd.h>

#define ONES_HEX                                                                                             \
    "010101000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
#define TWOS_HEX                                                                                             \
    "020202000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
#define ZEROS_HEX                                                                                            \
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
#define ID "spiffe://example.org/spire/agent"

extern const struct plugin_builtin plugin_nodeattestor_nitro_enclave;

struct plugin {
    struct fixture *f;
    struct cs_fake_clock clock;
    struct plugin_env env;
    void *self;
    const struct nodeattestor_ops *ops;
    char root_path[64];
    struct crypto_key *key, *thief;
    /* of the last attestation */
    void *session;
    struct nodeattestor_step step;
    struct cs_err e;
};

static int setup(void **state)
{
    struct fixture *f = *state;
    struct plugin *p = calloc(1, sizeof *p);
    fixture_setup(state);
    p->f = f;
    cs_fake_clock_init(&p->clock, NOW_S);
    p->env = (struct plugin_env){.clock = &p->clock.clock, .trust_domain = "example.org", .data_dir = "."};
    p->ops = plugin_nodeattestor_nitro_enclave.ops;
    assert_int_equal(plugin_nodeattestor_nitro_enclave.create(&p->env, &p->self, &p->e), CS_OK);
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &p->key, &p->e), CS_OK);
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &p->thief, &p->e), CS_OK);
    snprintf(p->root_path, sizeof p->root_path, "/tmp/nitro_enclave_test.XXXXXX");
    int fd = mkstemp(p->root_path);
    assert_true(fd >= 0);
    close(fd);
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    const struct x509_chain chain = {&f->authority.certs[0], 1};
    x509_chain_write_pem(&pem, &chain);
    assert_int_equal(cs_file_write_atomic(p->root_path, cs_buf_slice(&pem), 0600, &p->e), CS_OK);
    *state = p;
    return 0;
}

static void end_session(struct plugin *p)
{
    if (p->session != NULL)
        p->ops->end(p->self, p->session);
    p->session = NULL;
    p->step = (struct nodeattestor_step){0};
}

static int teardown(void **state)
{
    struct plugin *p = *state;
    end_session(p);
    plugin_nodeattestor_nitro_enclave.destroy(p->self);
    crypto_key_drop(&p->key);
    crypto_key_drop(&p->thief);
    unlink(p->root_path);
    *state = p->f;
    free(p);
    return 0;
}

static cs_code configure_text(struct plugin *p, const char *text)
{
    p->e = (struct cs_err){0};
    return plugin_nodeattestor_nitro_enclave.configure(p->self, cs_slice_str(text), &p->e);
}

static void configure(struct plugin *p, const char *more)
{
    char text[1024];
    (void)snprintf(text, sizeof text, "root_ca_path = \"%s\"\n%s", p->root_path, more);
    if (configure_text(p, text) != CS_OK)
        fail_msg("%s", p->e.text);
}

static void make(struct plugin *p, struct cs_buf *doc)
{
    cs_buf_reset(doc);
    assert_int_equal(nitro_make_document(&p->f->authority, &p->f->made, doc, &p->e), CS_OK);
}

static cs_code attest_as(struct plugin *p, struct crypto_key *key, const struct cs_buf *doc)
{
    const struct nodeattestor_request request = {.payload = cs_buf_slice(doc),
                                                 .spki = key != NULL ? crypto_pub_spki(crypto_key_pub(key))
                                                                     : (struct cs_slice){0},
                                                 .client_ip = "192.0.2.1"};
    end_session(p);
    p->e = (struct cs_err){0};
    cs_code code = p->ops->start(p->self, &request, &p->session, &p->step, &p->e);
    if (code != CS_OK)
        assert_null(p->session);
    return code;
}

/* A new document of p->f->made. */
static cs_code attest(struct plugin *p)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    p->f->made.timestamp_ms++;
    make(p, &doc);
    return attest_as(p, p->key, &doc);
}

static void expect_attested(struct plugin *p, cs_code code, const char *id)
{
    if (code != CS_OK)
        fail_msg("%s", p->e.text);
    assert_true(p->step.done);
    assert_false(p->step.can_reattest);
    assert_string_equal(p->step.agent_id, id);
}

static void expect_refused(struct plugin *p, cs_code got, cs_code code, const char *text)
{
    if (got != code || strstr(p->e.text, text) == NULL)
        fail_msg("wanted %s \"%s\", got %s \"%s\"", cs_code_name(code), text, cs_code_name(got), p->e.text);
    assert_null(p->session);
}

static void expect_selectors(const struct plugin *p, const char *const *want)
{
    size_t n = 0;
    for (; want[n] != NULL; n++) {
        assert_true(n < p->step.selector_count);
        assert_string_equal(p->step.selector_values[n], want[n]);
    }
    assert_int_equal(p->step.selector_count, n);
}

/* --- Names --- */

static void an_enclave_is_called_by_its_image(void **state)
{
    static const char *const want[] = {"pcr0:" ONES_HEX,
                                       "pcr4:" TWOS_HEX,
                                       "module_id:" MODULE_ID,
                                       "instance_id:i-0123456789abcdef0",
                                       "enclave_id:enc0123456789abcdef",
                                       NULL};
    struct plugin *p = *state;
    configure(p, "");
    expect_attested(p, attest(p), ID "/nitro-enclave/" ONES_HEX);
    expect_selectors(p, want);
    p->f->made.module_id = "of another shape";
    expect_attested(p, attest(p), ID "/nitro-enclave/" ONES_HEX);
    expect_selectors(p, (const char *const[]){want[0], want[1], "module_id:of another shape", NULL});
}

static void templates_make_the_path(void **state)
{
    struct plugin *p = *state;
    configure(p, "agent_path_template = \"/{{ .PluginName }}/{{.PCR0}}/{{ .EnclaveID }}\"");
    expect_attested(p, attest(p), ID "/nitro_enclave/" ONES_HEX "/enc0123456789abcdef");
    configure(p, "agent_path_template = \"/{{.InstanceID}}/x.{{ .PCR4 }}\"");
    expect_attested(p, attest(p), ID "/i-0123456789abcdef0/x." TWOS_HEX);
    configure(p, "agent_path_template = \"/{{ .ModuleID }}\"");
    expect_attested(p, attest(p), ID "/" MODULE_ID);
    p->f->made.module_id = "with blanks";
    expect_refused(p, attest(p), CS_DENIED, "agent_path_template: path segment characters are limited to");
    configure(p, "agent_path_template = \"/{{ .InstanceID }}\"");
    expect_refused(p, attest(p), CS_DENIED, "agent_path_template: the document has no InstanceID");
    configure(p, "agent_path_template = \"/{{ .PCR20 }}\"");
    expect_refused(p, attest(p), CS_DENIED, "agent_path_template: the document has no PCR20");
}

static void templates_that_are_wrong_are_refused(void **state)
{
    static const struct {
        const char *template, *text;
    } odd[] = {
        {"/{{ .Fingerprint }}", "agent_path_template: unknown field \"Fingerprint\""},
        {"/{{ .PCR32 }}", "unknown field \"PCR32\""},
        {"/{{ .PCR00 }}", "unknown field \"PCR00\""},
        {"/{{ .pcr0 }}", "unknown field \"pcr0\""},
        {"/{{ .PCR0 | upper }}", "is not a field: only \"{{ .Name }}\" is taken"},
        {"/{{ range .PCR0 }}x{{ end }}", "is not a field"},
        {"/{{ }}", "is not a field"},
        {"/{{- .PCR0 -}}", "is not a field"},
        {"/{{ .PCR0", "\"{{\" without \"}}\""},
        {"/{{ .PCR0 }", "\"{{\" without \"}}\""},
        {"{{ .PCR0 }}", "path must have a leading slash"},
        {"/x/", "path cannot have a trailing slash"},
        {"/../{{ .PCR0 }}", "path cannot contain dot segments"},
        {"/a b", "path segment characters are limited"},
        {"", "gives an empty path"},
    };
    struct cs_err e;
    bool names_image;
    (void)state;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        assert_int_equal(nitro_path_check(odd[i].template, &names_image, &e), CS_INVALID);
        if (strstr(e.text, odd[i].text) == NULL)
            fail_msg("%s: %s", odd[i].template, e.text);
    }
    assert_int_equal(nitro_path_check("/{{.PCR0}}", &names_image, &e), CS_OK);
    assert_true(names_image);
    assert_int_equal(nitro_path_check("/{{.PCR10}}", &names_image, &e), CS_OK);
    assert_false(names_image);
}

/* --- Who is refused --- */

static void images_can_be_listed(void **state)
{
    struct plugin *p = *state;
    configure(p, "allowed_pcr0 = [\"" TWOS_HEX "\"]");
    expect_refused(p, attest(p), CS_DENIED, "PCR0 " ONES_HEX " is not in allowed_pcr0");
    configure(p, "allowed_pcr0 = [\"" TWOS_HEX "\", \"" ONES_HEX "\"]");
    expect_attested(p, attest(p), ID "/nitro-enclave/" ONES_HEX);
}

static void debug_mode_is_told_apart(void **state)
{
    static const char *const want[] = {"pcr4:" TWOS_HEX,
                                       "module_id:" MODULE_ID,
                                       "instance_id:i-0123456789abcdef0",
                                       "enclave_id:enc0123456789abcdef",
                                       "debug:true",
                                       NULL};
    struct plugin *p = *state;
    p->f->made.pcrs[0] = cs_slice_of(zeros, sizeof zeros);
    configure(p, "");
    expect_refused(p, attest(p), CS_DENIED, "PCR0 is zero: the enclave is in debug mode");
    configure(p, "allow_debug = true");
    expect_attested(p, attest(p), ID "/nitro-enclave/" ZEROS_HEX);
    expect_selectors(p, want);
    configure(p, "allow_debug = true agent_path_template = \"/{{ .InstanceID }}\"");
    expect_attested(p, attest(p), ID "/debug/i-0123456789abcdef0");
    configure(p, "allow_debug = true allowed_pcr0 = [\"" ONES_HEX "\"]");
    expect_refused(p, attest(p), CS_DENIED, "is not in allowed_pcr0");
}

static void old_documents_are_refused(void **state)
{
    struct plugin *p = *state;
    configure(p, "max_age = \"10s\"");
    expect_attested(p, attest(p), ID "/nitro-enclave/" ONES_HEX);
    cs_fake_clock_advance(&p->clock, 11 * CS_NS_PER_S);
    expect_refused(p, attest(p), CS_DENIED, "document is older than max_age");
    configure(p, "");
    expect_attested(p, attest(p), ID "/nitro-enclave/" ONES_HEX);
    cs_fake_clock_advance(&p->clock, 300 * CS_NS_PER_S);
    expect_refused(p, attest(p), CS_DENIED, "document is older than max_age");
}

static void other_roots_are_refused(void **state)
{
    struct plugin *p = *state;
    assert_int_equal(configure_text(p, ""), CS_OK); /* AWS's */
    expect_refused(p, attest(p), CS_DENIED, "cabundle[0] is not a root that is trusted here");
}

static void damaged_documents_are_refused(void **state)
{
    struct plugin *p = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    configure(p, "");
    make(p, &doc);
    doc.data[doc.len - 1] ^= 1;
    expect_refused(p, attest_as(p, p->key, &doc), CS_DENIED, "COSE_Sign1: signature is wrong");
    doc.len--;
    expect_refused(p, attest_as(p, p->key, &doc), CS_INVALID,
                   "the signature is not a byte string of 96 bytes");
    doc.len = 0;
    expect_refused(p, attest_as(p, p->key, &doc), CS_INVALID, "data is not a COSE_Sign1 array");
}

static void faults_of_the_configuration_are_named(void **state)
{
    static const struct {
        const char *config, *text;
    } odd[] = {
        {"require_key_bindng = true", "unknown setting \"require_key_bindng\" encountered"},
        {"max_age = \"soon\"", "max_age: time: invalid duration \"soon\""},
        {"max_age = \"0s\"", "max_age: \"0s\" is not positive"},
        {"max_age = \"-5m\"", "max_age: \"-5m\" is not positive"},
        {"allowed_pcr0 = [\"0011\"]", "allowed_pcr0: \"0011\" is not 96 hex digits"},
        {"allowed_pcr0 = [\"x"
         "10101000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\"]",
         "is not 96 hex digits"},
        {"agent_path_template = \"/{{ .Name }}\"", "unknown field \"Name\""},
        {"allow_debug = \"perhaps\"", "allow_debug"},
        {"root_ca_path = [", ""},
    };
    struct plugin *p = *state;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct plugin_notes notes = {0};
        assert_int_equal(configure_text(p, odd[i].config), CS_INVALID);
        if (strstr(p->e.text, odd[i].text) == NULL)
            fail_msg("%s: %s", odd[i].config, p->e.text);
        assert_int_equal(
            plugin_nodeattestor_nitro_enclave.validate(&p->env, cs_slice_str(odd[i].config), &notes, &p->e),
            CS_OK);
        assert_int_equal(notes.count, 1);
        assert_non_null(strstr(notes.texts[0], odd[i].text));
        plugin_notes_free(&notes);
    }
    expect_refused(p, attest(p), CS_PRECONDITION, "not configured");
}

static void files_of_roots_must_be_good(void **state)
{
    struct plugin *p = *state;
    char text[256];
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    const struct x509_chain leaf = {&p->f->authority.certs[NITRO_MAKE_CAS], 1};
    assert_int_not_equal(configure_text(p, "root_ca_path = \"/does/not/exist\""), CS_OK);
    assert_non_null(strstr(p->e.text, "unable to load root_ca_path"));
    assert_non_null(strstr(p->e.text, "/does/not/exist"));
    (void)snprintf(text, sizeof text, "root_ca_path = \"%s\"", p->root_path);
    assert_int_equal(cs_file_write_atomic(p->root_path, cs_slice_str("no PEM"), 0600, &p->e), CS_OK);
    assert_int_equal(configure_text(p, text), CS_INVALID);
    assert_non_null(strstr(p->e.text, "no PEM blocks"));
    x509_chain_write_pem(&pem, &leaf);
    assert_int_equal(cs_file_write_atomic(p->root_path, cs_buf_slice(&pem), 0600, &p->e), CS_OK);
    assert_int_equal(configure_text(p, text), CS_INVALID);
    assert_non_null(strstr(p->e.text, "certificate 1 is not a CA with a key on P-384"));
}

/* --- Keys --- */

static void a_document_serves_one_key(void **state)
{
    struct plugin *p = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    configure(p, "");
    make(p, &doc);
    expect_attested(p, attest_as(p, p->key, &doc), ID "/nitro-enclave/" ONES_HEX);
    expect_refused(p, attest_as(p, p->thief, &doc), CS_DENIED, "document was used before, with another key");
    expect_attested(p, attest_as(p, p->key, &doc), ID "/nitro-enclave/" ONES_HEX); /* the answer was lost */
    /* the same payload in another envelope, with another signature of the same key */
    p->f->made.tagged = true;
    make(p, &doc);
    expect_refused(p, attest_as(p, p->thief, &doc), CS_DENIED, "document was used before, with another key");
    expect_attested(p, attest(p), ID "/nitro-enclave/" ONES_HEX);
    cs_fake_clock_advance(&p->clock, 299 * CS_NS_PER_S);
    expect_refused(p, attest_as(p, p->thief, &doc), CS_DENIED, "document was used before, with another key");
    cs_fake_clock_advance(&p->clock, 2 * CS_NS_PER_S);
    expect_refused(p, attest_as(p, p->thief, &doc), CS_DENIED, "document is older than max_age");
}

static void bindings_that_hold_are_taken(void **state)
{
    struct plugin *p = *state;
    uint8_t digest[32];
    const struct cs_slice spki = crypto_pub_spki(crypto_key_pub(p->key));
    assert_int_equal(crypto_digest(CRYPTO_SHA256, spki, digest, &p->e), CS_OK);
    const struct cs_slice sha = cs_slice_of(digest, sizeof digest), none = {0};
    const struct {
        struct cs_slice public_key, user_data, nonce;
        bool bound;
    } ways[] = {
        {spki, none, none, true},
        {none, sha, none, true},
        {none, none, sha, true},
        {spki, sha, sha, true},
        {none, none, none, false},
        {sha, none, none, false},
        {none, spki, none, false},
        {none, none, spki, false},
        {crypto_pub_spki(crypto_key_pub(p->thief)), none, none, false},
        {cs_slice_of(spki.data, spki.len - 1), none, none, false},
        {none, cs_slice_of(digest, 31), none, false},
    };
    configure(p, "require_key_binding = true");
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        p->f->made.public_key = ways[i].public_key;
        p->f->made.user_data = ways[i].user_data;
        p->f->made.nonce = ways[i].nonce;
        if (ways[i].bound) {
            expect_attested(p, attest(p), ID "/nitro-enclave/" ONES_HEX);
            continue;
        }
        assert_int_equal(attest(p), CS_OK);
        assert_false(p->step.done);
        assert_int_equal(p->step.challenge.len, 32);
    }
}

static cs_code answer(struct plugin *p)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    make(p, &doc);
    p->step = (struct nodeattestor_step){0};
    return p->ops->respond(p->self, p->session, cs_buf_slice(&doc), &p->step, &p->e);
}

static void challenge_is_out(struct plugin *p, uint8_t nonce[32])
{
    p->f->made.nonce = (struct cs_slice){0};
    assert_int_equal(attest(p), CS_OK);
    assert_false(p->step.done);
    assert_int_equal(p->step.challenge.len, 32);
    memcpy(nonce, p->step.challenge.data, 32);
    p->f->made.nonce = cs_slice_of(nonce, 32);
}

static void expect_answer_refused(struct plugin *p, const char *text)
{
    assert_int_equal(answer(p), CS_DENIED);
    if (strstr(p->e.text, text) == NULL)
        fail_msg("wanted \"%s\", got \"%s\"", text, p->e.text);
    assert_false(p->step.done);
}

static void challenges_must_be_answered(void **state)
{
    struct plugin *p = *state;
    uint8_t first[32], nonce[32];
    configure(p, "require_key_binding = true");
    challenge_is_out(p, first);
    expect_attested(p, answer(p), ID "/nitro-enclave/" ONES_HEX);
    challenge_is_out(p, nonce);
    assert_memory_not_equal(first, nonce, 32);
    p->f->made.nonce = cs_slice_of(first, 32); /* of another session */
    expect_answer_refused(p, "nonce is not the one that was asked for");
    challenge_is_out(p, nonce);
    p->f->made.nonce = (struct cs_slice){0};
    expect_answer_refused(p, "nonce is not the one that was asked for");
    challenge_is_out(p, nonce);
    p->f->made.module_id = "i-0123456789abcdef0-enc00000000000000ff";
    expect_answer_refused(p, "the challenge was answered by another enclave");
    challenge_is_out(p, nonce);
    p->f->made.pcrs[0] = cs_slice_of(twos, sizeof twos);
    expect_answer_refused(p, "the challenge was answered by another enclave");
    challenge_is_out(p, nonce);
    cs_fake_clock_advance(&p->clock, 600 * CS_NS_PER_S);
    expect_answer_refused(p, "document is older than max_age");
}

static void without_a_proven_key_nothing_is_bound(void **state)
{
    struct plugin *p = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    configure(p, "require_key_binding = true");
    make(p, &doc);
    expect_refused(p, attest_as(p, NULL, &doc), CS_INVALID, "the CSR does not prove its key");
}

/* A session keeps the settings that it began with. */
static void settings_may_change_under_a_session(void **state)
{
    struct plugin *p = *state;
    uint8_t nonce[32];
    configure(p, "require_key_binding = true");
    challenge_is_out(p, nonce);
    configure(p, "agent_path_template = \"/{{ .EnclaveID }}\" allowed_pcr0 = [\"" TWOS_HEX "\"]");
    expect_attested(p, answer(p), ID "/nitro-enclave/" ONES_HEX);
    expect_refused(p, attest(p), CS_DENIED, "is not in allowed_pcr0");
    assert_int_equal(configure_text(p, "max_age = \"x\""), CS_INVALID); /* the older one stays */
    expect_refused(p, attest(p), CS_DENIED, "is not in allowed_pcr0");
}

static void no_memory_is_an_error_like_others(void **state)
{
    struct plugin *p = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    configure(p, "");
    make(p, &doc);
    for (size_t n = 1;; n++) {
        end_session(p);
        (void)cs_mem_fail_at(n, true);
        cs_code code = attest_as(p, p->key, &doc);
        (void)cs_mem_fail_at(0, false);
        if (code == CS_OK) {
            assert_true(n > 10);
            return;
        }
        assert_int_equal(code, CS_INTERNAL);
    }
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_enclave_is_called_by_its_image),
        TEST(templates_make_the_path),
        TEST(templates_that_are_wrong_are_refused),
        TEST(images_can_be_listed),
        TEST(debug_mode_is_told_apart),
        TEST(old_documents_are_refused),
        TEST(other_roots_are_refused),
        TEST(damaged_documents_are_refused),
        TEST(faults_of_the_configuration_are_named),
        TEST(files_of_roots_must_be_good),
        TEST(a_document_serves_one_key),
        TEST(bindings_that_hold_are_taken),
        TEST(challenges_must_be_answered),
        TEST(without_a_proven_key_nothing_is_bound),
        TEST(settings_may_change_under_a_session),
        TEST(no_memory_is_an_error_like_others),
    };
    return cmocka_run_group_tests_name("nitro_enclave", tests, fixture_group_setup, fixture_group_teardown);
}
