/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor "nitro_enclave": an enclave of AWS Nitro proves what image it runs with an attestation
 * document. Agent IDs are those of the plugin for Enclaver (enclaver-io/spire-nitro-enclave-plugin), so that
 * entries made for it go on serving.
 *
 * What a document proves about the key that the SVID is for, weakest first:
 *   - nothing but that somebody had it (Enclaver's agent): a document serves one key only, and not for long;
 *   - in answer to a challenge: who asks for the SVID gets the enclave to sign now what we choose;
 *   - when it names the key: the enclave itself vouches for the key.
 */
#include "base/file.h"
#include "base/text.h"
#include "config/plugin_config.h"
#include "plugin/nodeattestor_server.h"
#include "plugin/settings.h"
#include "plugins/server/nodeattestor/nitro_path.h"
#include "plugins/shared/nitro/challenge.h"
#include "plugins/shared/nitro/memory.h"
#include "spiffe/id.h"

#define DEFAULT_TEMPLATE "/nitro-enclave/{{ .PCR0 }}"
#define DEBUG_PREFIX "/debug"
#define ROOTS_MAX 16
#define ROOT_FILE_MAX ((size_t)64 * 1024)
#define SELECTOR_PCRS 9 /* PCR0 to PCR8: what AWS gives a meaning */
#define SELECTORS_MAX (SELECTOR_PCRS + 4)
#define CHAINS_KEPT 1024    /* links of certificates whose signature is known to be right */
#define DOCUMENTS_KEPT 8192 /* documents in use; with max_age of 5 minutes, 27 attestations a second */

/* What plugin_data says, and the roots. */
struct settings {
    struct config_nitro_enclave config;
    const char *path_template;
    struct x509_chain roots;
};

struct attestor {
    const struct plugin_env *env;
    struct nitro_memory *chains, *documents;
    struct plugin_slot settings;
};

/* One node that attests. */
struct session {
    const struct settings *settings; /* a reference */
    struct cs_arena *arena;          /* of the strings in `step` */
    struct nitro_digest key;         /* SHA-256 of the SubjectPublicKeyInfo */
    bool has_key;
    uint8_t nonce[NITRO_NONCE_LEN];
    struct cs_slice module_id, pcr0; /* of the first document, when it was challenged */
};

/* --- Settings --- */

static void settings_clear(void *settings)
{
    struct settings *s = settings;
    x509_chain_free(&s->roots);
}

static cs_code load_roots(struct settings *s, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    const char *path = s->config.root_ca_path;
    if (path[0] == '\0')
        return x509_chain_parse_pem(cs_slice_str(nitro_root_g1_pem), 1, &s->roots, e);
    if (cs_file_read(path, ROOT_FILE_MAX, &pem, e) != CS_OK)
        return cs_wrap(e, "unable to load root_ca_path");
    if (x509_chain_parse_pem(cs_buf_slice(&pem), ROOTS_MAX, &s->roots, e) != CS_OK)
        return cs_wrap(e, "unable to parse root_ca_path \"%s\"", path);
    for (size_t i = 0; i < s->roots.count; i++)
        if (!nitro_root_fits(s->roots.at[i]))
            return cs_fail(e, CS_INVALID,
                           "root_ca_path \"%s\": certificate %zu is not a CA with a key on P-384", path,
                           i + 1);
    return CS_OK;
}

/* Without files: what validate may look at too. */
static cs_code settings_read(struct cs_slice data, struct settings **out, bool *names_image, struct cs_err *e)
{
    CS_CLEANUP(plugin_settings_drop) struct settings *s = plugin_settings_new(sizeof *s, settings_clear);
    *out = NULL;
    if (s == NULL)
        return cs_nomem(e);
    CS_TRY(config_read_nitro_enclave(data, plugin_settings_arena(s), &s->config, e));
    s->path_template = s->config.agent_path_template;
    if (s->path_template[0] == '\0')
        s->path_template = DEFAULT_TEMPLATE;
    CS_TRY(nitro_path_check(s->path_template, names_image, e));
    *out = CS_MOVE(s);
    return CS_OK;
}

/* --- Life --- */

static void destroy(void *self)
{
    struct attestor *a = self;
    plugin_slot_destroy(&a->settings);
    nitro_memory_free(a->chains);
    nitro_memory_free(a->documents);
    cs_free(a);
}

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct attestor *a = cs_calloc(1, sizeof *a);
    *self = NULL;
    if (a == NULL)
        return cs_nomem(e);
    plugin_slot_init(&a->settings);
    a->env = env;
    a->chains = nitro_memory_new(CHAINS_KEPT);
    a->documents = nitro_memory_new(DOCUMENTS_KEPT);
    if (a->chains == NULL || a->documents == NULL) {
        destroy(a);
        return cs_nomem(e);
    }
    *self = a;
    return CS_OK;
}

static void warn_of(const struct attestor *a, const struct settings *s, bool names_image)
{
    if (s->config.allow_debug)
        cs_log_warn(&a->env->log,
                    "Enclaves in debug mode are taken: anybody with an AWS account can attest one, "
                    "and its parent can look into it; allow_debug is not for production");
    if (!names_image && s->config.allowed_pcr0.len == 0)
        cs_log_warn(&a->env->log,
                    "agent_path_template does not name PCR0 and allowed_pcr0 is not set: an agent "
                    "ID says nothing about the enclave's image");
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct attestor *a = self;
    CS_CLEANUP(plugin_settings_drop) struct settings *s = NULL;
    bool names_image;
    CS_TRY(settings_read(data, &s, &names_image, e));
    CS_TRY(load_roots(s, e));
    warn_of(a, s, names_image);
    plugin_slot_set(&a->settings, CS_MOVE(s));
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    CS_CLEANUP(plugin_settings_drop) struct settings *s = NULL;
    bool names_image;
    struct cs_err fault;
    return plugin_notes_fault(notes, settings_read(data, &s, &names_image, &fault), &fault, e);
}

/* --- What an attested node is called --- */

static bool is_debug(const struct nitro_document *d)
{
    return nitro_pcr_is_zero(d->pcrs[0]);
}

/* With a template of one's own an enclave in debug mode could look like a real one. */
static cs_code agent_id(const struct attestor *a, struct session *s, const struct nitro_document *d,
                        const char **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    struct spiffe_id id;
    cs_buf_add_str(&path, "/spire/agent");
    if (is_debug(d) && s->settings->config.agent_path_template[0] != '\0')
        cs_buf_add_str(&path, DEBUG_PREFIX);
    CS_TRY(nitro_path_render(s->settings->path_template, d, &path, e));
    CS_TRY(spiffe_id_make(s->arena, cs_slice_str(a->env->trust_domain), cs_buf_slice(&path), &id, e));
    *out = cs_arena_strndup(s->arena, (const char *)id.text.data, id.text.len);
    return *out != NULL ? CS_OK : cs_nomem(e);
}

struct selectors {
    const char *at[SELECTORS_MAX];
    size_t count;
};

static bool add_selector(struct session *s, struct selectors *list, const char *name, struct cs_slice value)
{
    if (value.len == 0)
        return true;
    const char *text = cs_arena_printf(s->arena, "%s:%.*s", name, (int)value.len, (const char *)value.data);
    list->at[list->count++] = text;
    return text != NULL;
}

static bool add_pcrs(struct session *s, struct selectors *list, const struct nitro_document *d)
{
    for (size_t i = 0; i < SELECTOR_PCRS; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
        const char name[] = {'p', 'c', 'r', (char)('0' + i), '\0'};
        if (nitro_pcr_is_zero(d->pcrs[i]))
            continue;
        cs_hex_encode(&hex, d->pcrs[i]);
        if (!cs_buf_ok(&hex) || !add_selector(s, list, name, cs_buf_slice(&hex)))
            return false;
    }
    return true;
}

static cs_code selectors(struct session *s, const struct nitro_document *d, struct nodeattestor_step *step,
                         struct cs_err *e)
{
    struct cs_slice instance = {0}, enclave = {0};
    struct selectors *list = cs_arena_zalloc(s->arena, sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    (void)nitro_module_id_split(d->module_id, &instance, &enclave);
    if (!add_pcrs(s, list, d) || !add_selector(s, list, "module_id", d->module_id) ||
        !add_selector(s, list, "instance_id", instance) || !add_selector(s, list, "enclave_id", enclave) ||
        !add_selector(s, list, "debug", is_debug(d) ? cs_slice_str("true") : (struct cs_slice){0}))
        return cs_nomem(e);
    step->selector_values = list->at;
    step->selector_count = list->count;
    return CS_OK;
}

/* --- Attestation --- */

static void end(void *self, void *session)
{
    (void)self;
    struct session *s = session;
    plugin_settings_unref(s->settings);
    cs_arena_free(s->arena);
    cs_free(s);
}

static inline void session_drop(struct session **s)
{
    if (*s != NULL)
        end(NULL, *s);
    *s = NULL;
}

static cs_code check_image(const struct settings *s, const struct nitro_document *d, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    const struct config_strings *allowed = &s->config.allowed_pcr0;
    if (allowed->len == 0)
        return CS_OK;
    cs_hex_encode(&hex, d->pcrs[0]);
    const char *pcr0 = cs_buf_cstr(&hex);
    if (!cs_buf_ok(&hex))
        return cs_nomem(e);
    if (config_strings_have(allowed, pcr0))
        return CS_OK;
    return cs_fail(e, CS_DENIED, "PCR0 %s is not in allowed_pcr0", pcr0);
}

static cs_code verify(struct attestor *a, struct session *s, struct cs_slice in, struct nitro_document *d,
                      struct cs_err *e)
{
    const struct nitro_policy policy = {
        .roots = (const struct x509_cert *const *)s->settings->roots.at,
        .root_count = s->settings->roots.count,
        .now_ns = cs_now_ns(a->env->clock),
        .max_age_ns = s->settings->config.max_age_ns,
        .allow_debug = s->settings->config.allow_debug,
        .chains = a->chains,
    };
    CS_TRY(nitro_document_verify(in, &policy, d, e));
    return check_image(s->settings, d, e);
}

/* Does the document name the key? */
static bool is_bound(const struct session *s, struct cs_slice spki, const struct nitro_document *d)
{
    const struct cs_slice digest = cs_slice_of(s->key.sha256, sizeof s->key.sha256);
    if (!s->has_key)
        return false;
    return cs_slice_eq(d->public_key, spki) || cs_slice_eq(d->user_data, digest) ||
           cs_slice_eq(d->nonce, digest);
}

/* A document is good for one key, as long as it is good at all: who got hold of one that was used gains
 * nothing. The payload is looked at, since its signature can be written in two ways. */
static cs_code use_document(struct attestor *a, const struct session *s, const struct nitro_document *d,
                            struct cs_err *e)
{
    struct nitro_digest document;
    const int64_t now = cs_now_ns(a->env->clock);
    const int64_t made = d->timestamp_ms * CS_NS_PER_MS, max_age = s->settings->config.max_age_ns;
    const int64_t until = made < INT64_MAX - 1 - max_age ? made + max_age + 1 : INT64_MAX;
    if (!s->has_key)
        return CS_OK; /* the server refuses the CSR */
    CS_TRY(crypto_digest(CRYPTO_SHA256, d->payload, document.sha256, e));
    if (!nitro_memory_claim(a->documents, &document, &s->key, now, until))
        return cs_fail(e, CS_DENIED, "document was used before, with another key");
    return CS_OK;
}

static cs_code admit(struct attestor *a, struct session *s, const struct nitro_document *d,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    CS_TRY(agent_id(a, s, d, &step->agent_id, e));
    CS_TRY(selectors(s, d, step, e));
    CS_TRY(use_document(a, s, d, e));
    step->done = true;
    step->can_reattest = false;
    return CS_OK;
}

/* SHA-256 over fresh random bytes and the key: a document made for it belongs to this session and key. */
static cs_code make_nonce(struct session *s, struct cs_err *e)
{
    uint8_t in[NITRO_NONCE_LEN + sizeof s->key.sha256];
    CS_TRY(cs_random(in, NITRO_NONCE_LEN, e));
    memcpy(in + NITRO_NONCE_LEN, s->key.sha256, sizeof s->key.sha256);
    return crypto_digest(CRYPTO_SHA256, cs_slice_of(in, sizeof in), s->nonce, e);
}

static cs_code copy(struct cs_arena *a, struct cs_slice in, struct cs_slice *out, struct cs_err *e)
{
    *out = cs_slice_of(cs_arena_memdup(a, in.data, in.len), in.len);
    return out->data != NULL ? CS_OK : cs_nomem(e);
}

static cs_code challenge(struct session *s, const struct nitro_document *d, struct nodeattestor_step *step,
                         struct cs_err *e)
{
    if (!s->has_key)
        return cs_fail(e, CS_INVALID, "the CSR does not prove its key, which require_key_binding needs");
    CS_TRY(copy(s->arena, d->module_id, &s->module_id, e));
    CS_TRY(copy(s->arena, d->pcrs[0], &s->pcr0, e));
    CS_TRY(make_nonce(s, e));
    step->challenge = cs_slice_of(s->nonce, sizeof s->nonce);
    return CS_OK;
}

static cs_code session_new(struct attestor *a, struct cs_slice spki, struct session **out, struct cs_err *e)
{
    CS_AUTO(session) s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->arena = cs_arena_new(0, 0);
    if (s->arena == NULL)
        return cs_nomem(e);
    s->settings = plugin_slot_get(&a->settings);
    if (s->settings == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    s->has_key = spki.len > 0;
    CS_TRY(crypto_digest(CRYPTO_SHA256, spki, s->key.sha256, e));
    *out = CS_MOVE(s);
    return CS_OK;
}

static cs_code start(void *self, const struct nodeattestor_request *request, void **session,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    struct attestor *a = self;
    struct nitro_document d;
    CS_AUTO(session) s = NULL;
    *session = NULL;
    CS_TRY(session_new(a, request->spki, &s, e));
    CS_TRY(verify(a, s, request->payload, &d, e));
    if (s->settings->config.require_key_binding && !is_bound(s, request->spki, &d))
        CS_TRY(challenge(s, &d, step, e));
    else
        CS_TRY(admit(a, s, &d, step, e));
    *session = CS_MOVE(s);
    return CS_OK;
}

static cs_code respond(void *self, void *session, struct cs_slice response, struct nodeattestor_step *step,
                       struct cs_err *e)
{
    struct attestor *a = self;
    struct session *s = session;
    struct nitro_document d;
    if (s == NULL || s->module_id.len == 0)
        return cs_fail(e, CS_INTERNAL, "no challenge was sent");
    CS_TRY(verify(a, s, response, &d, e));
    if (!cs_slice_eq(d.nonce, cs_slice_of(s->nonce, sizeof s->nonce)))
        return cs_fail(e, CS_DENIED, "nonce is not the one that was asked for");
    if (!cs_slice_eq(d.module_id, s->module_id) || !cs_slice_eq(d.pcrs[0], s->pcr0))
        return cs_fail(e, CS_DENIED, "the challenge was answered by another enclave");
    return admit(a, s, &d, step, e);
}

static const struct nodeattestor_ops ops = {.start = start, .respond = respond, .end = end};

const struct plugin_builtin plugin_nodeattestor_nitro_enclave = {
    .name = NITRO_ATTESTOR,
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
