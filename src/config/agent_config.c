/* SPDX-License-Identifier: Apache-2.0
 *
 * From agent.conf to struct agent_config. The order of the steps is SPIRE's: it decides which of
 * several faults is reported.
 */
#include "config/agent_config.h"
#include "config/agent_file.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "spiffe/id.h"

#include <stdio.h>
#include <strings.h>

#define FAIL(l, ...) cs_fail((l)->e, CS_INVALID, __VA_ARGS__)

static const char *const key_types[] = {"rsa-2048", "ec-p256", "ec-p384", NULL};

/* --- flags over the file, defaults under it --- */

static void merge_text(const char **field, const char *flag, const char *fallback)
{
    *field = load_pick(flag, *field, fallback);
}

static void merge_bool(struct config_bool *field, bool flag)
{
    field->value = field->value || flag;
}

static void merge(struct agent_section_file *s, const struct agent_config_flags *flags)
{
    static const struct agent_config_flags none;
    const struct agent_config_flags *f = flags == NULL ? &none : flags;
    merge_text(&s->data_dir, f->data_dir, ".");
    merge_text(&s->join_token, f->join_token, "");
    merge_text(&s->join_token_file, f->join_token_file, "");
    merge_text(&s->log_file, f->log_file, "");
    merge_text(&s->log_format, f->log_format, "");
    merge_text(&s->log_level, f->log_level, "INFO");
    merge_text(&s->rebootstrap_delay, f->rebootstrap_delay, "10m");
    merge_text(&s->rebootstrap_mode, f->rebootstrap_mode, "never");
    merge_text(&s->server_address, f->server_address, "");
    merge_text(&s->socket_path, f->socket_path, s->enclave.given ? "" : AGENT_CONFIG_DEFAULT_SOCKET);
    merge_text(&s->trust_bundle_path, f->trust_bundle_path, "");
    merge_text(&s->trust_bundle_format, f->trust_bundle_format, "pem");
    merge_text(&s->trust_bundle_url, f->trust_bundle_url, "");
    merge_text(&s->trust_domain, f->trust_domain, "");
    merge_text(&s->sds.default_svid_name, NULL, "default");
    merge_text(&s->sds.default_bundle_name, NULL, "ROOTCA");
    merge_text(&s->sds.default_all_bundles_name, NULL, "ALL");
    if (f->server_port != 0)
        s->server_port.value = f->server_port;
    merge_bool(&s->allow_unauthenticated_verifiers, f->allow_unauthenticated_verifiers);
    merge_bool(&s->disable_sds_api, f->disable_sds_api);
    merge_bool(&s->disable_workload_api, f->disable_workload_api);
    merge_bool(&s->insecure_bootstrap, f->insecure_bootstrap);
    merge_bool(&s->log_source_location, f->log_source_location);
}

/* --- where the first bundle comes from --- */

static cs_code check_bundle_from_api(struct load *l, const struct agent_section_file *s)
{
    if (s->insecure_bootstrap.value)
        return FAIL(
            l,
            "only one of insecure_bootstrap or trust_bundle_spiffe_workload_api can be specified, not both");
    if (is_set(s->trust_bundle_url))
        return FAIL(
            l, "only one of trust_bundle_url or trust_bundle_spiffe_workload_api can be specified, not both");
    if (is_set(s->trust_bundle_path))
        return FAIL(
            l,
            "only one of trust_bundle_path or trust_bundle_spiffe_workload_api can be specified, not both");
    if (is_set(s->trust_bundle_unix_socket))
        return FAIL(l, "trust_bundle_unix_socket can not be used with trust_bundle_spiffe_workload_api");
    return CS_OK;
}

static cs_code check_bundle_choice(struct load *l, const struct agent_section_file *s)
{
    bool path = is_set(s->trust_bundle_path), url = is_set(s->trust_bundle_url);
    bool api = is_set(s->trust_bundle_spiffe_workload_api);
    if (api)
        CS_TRY(check_bundle_from_api(l, s));
    if (s->insecure_bootstrap.value) {
        if (url && path)
            return FAIL(
                l, "only one of insecure_bootstrap, trust_bundle_url, or trust_bundle_path can be specified, "
                   "not the three options");
        if (url)
            return FAIL(l, "only one of insecure_bootstrap or trust_bundle_url can be specified, not both");
        if (path)
            return FAIL(l, "only one of insecure_bootstrap or trust_bundle_path can be specified, not both");
    } else if (!path && !url && !api) {
        return FAIL(
            l, "trust_bundle_path, trust_bundle_url, or trust_bundle_spiffe_workload_api must be configured "
               "unless insecure_bootstrap is set");
    }
    if (url && path)
        return FAIL(l, "only one of trust_bundle_url or trust_bundle_path can be specified, not both");
    if (strcmp(s->trust_bundle_format, "pem") != 0 && strcmp(s->trust_bundle_format, "spiffe") != 0)
        return FAIL(l, "invalid value for trust_bundle_format, expected \"pem\" or \"spiffe\"");
    return CS_OK;
}

/* True when a name of the URL's query begins with `prefix`. */
static bool query_has(const char *url, const char *prefix)
{
    const char *p = strchr(url, '?');
    size_t n = strlen(prefix);
    while (p != NULL && *p != '#') {
        p++;
        if (strncmp(p, prefix, n) == 0)
            return true;
        p = strpbrk(p, "&#");
    }
    return false;
}

static cs_code check_bundle_url(struct load *l, const struct agent_section_file *s)
{
    const char *url = s->trust_bundle_url;
    bool by_socket = is_set(s->trust_bundle_unix_socket);
    if (by_socket && !is_set(url))
        return FAIL(l, "if trust_bundle_unix_socket is specified, so must be trust_bundle_url");
    if (!is_set(url))
        return CS_OK;
    for (const char *p = url; *p != 0; p++)
        if ((uint8_t)*p < 0x20 || *p == 0x7F)
            return FAIL(
                l, "unable to parse trust bundle URL: parse %s: net/url: invalid control character in URL",
                load_quote(l, url));
    if (!by_socket)
        return strncasecmp(url, "https:", 6) == 0 ? CS_OK
                                                  : FAIL(l, "trust bundle URL must start with https://");
    if (strncasecmp(url, "http:", 5) != 0)
        return FAIL(l, "trust bundle URL must start with http:// when used with trust bundle unix socket");
    if (query_has(url, "spiffe-"))
        return FAIL(l, "trust_bundle_url query params can not start with spiffe-");
    if (query_has(url, "spire-"))
        return FAIL(l, "trust_bundle_url query params can not start with spire-");
    return CS_OK;
}

/* --- checks before the logger exists --- */

static cs_code check_before_log(struct load *l, const struct agent_file *f)
{
    const struct agent_section_file *s = &f->agent;
    if (!f->plugins.given)
        return FAIL(l, "plugins section must be configured");
    if (is_set(s->join_token) && is_set(s->join_token_file))
        return FAIL(l, "only one of join_token or join_token_file can be specified, not both");
    if (!is_set(s->server_address))
        return FAIL(l, "server_address must be configured");
    if (s->server_port.value == 0)
        return FAIL(l, "server_port must be configured");
    if (!is_set(s->trust_domain))
        return FAIL(l, "trust_domain must be configured");
    CS_TRY(check_bundle_choice(l, s));
    CS_TRY(check_bundle_url(l, s));
    if (is_set(s->experimental.named_pipe_name))
        return FAIL(l, "invalid configuration: named_pipe_name is not supported in this platform; please use "
                       "socket_path instead");
    if (is_set(s->experimental.admin_named_pipe_name))
        return FAIL(
            l, "invalid configuration: admin_named_pipe_name is not supported in this platform; please use "
               "admin_socket_path instead");
    return CS_OK;
}

static cs_code take_rebootstrap(struct load *l, const struct agent_section_file *s, struct agent_config *c)
{
    static const char *const modes[] = {[AGENT_REBOOTSTRAP_NEVER] = "never",
                                        [AGENT_REBOOTSTRAP_AUTO] = "auto",
                                        [AGENT_REBOOTSTRAP_ALWAYS] = "always"};
    size_t i = 0;
    while (i < 3 && strcmp(s->rebootstrap_mode, modes[i]) != 0)
        i++;
    if (i == 3)
        return FAIL(l, "unknown rebootstrap mode specified: %s", s->rebootstrap_mode);
    c->rebootstrap_mode = (enum agent_config_rebootstrap)i;
    if (c->rebootstrap_mode != AGENT_REBOOTSTRAP_NEVER && s->insecure_bootstrap.value)
        return FAIL(l, "insecure_bootstrap option can not be used with rebootstrapping");
    CS_TRY(load_duration(l, s->rebootstrap_delay, "error parsing rebootstrap delay duration",
                         &c->rebootstrap_delay_ns));
    return load_duration(l, s->experimental.sync_interval, "could not parse synchronization interval",
                         &c->sync_interval_ns);
}

/* --- values --- */

static const char *duration_text(struct load *l, int64_t ns)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_duration_format(&b, ns);
    const char *s = cs_arena_strdup(l->a, cs_buf_cstr(&b));
    return s == NULL ? "?" : s;
}

static cs_code take_cache(struct load *l, const struct agent_section_file *s, struct agent_config *c)
{
    const struct agent_experimental_file *x = &s->experimental;
    int64_t *hit = &c->jwt_svid_cache_hit_timeout_ns;
    if (is_set(x->jwt_svid_cache_hit_timeout)) {
        CS_TRY(load_duration(l, x->jwt_svid_cache_hit_timeout, "could not parse jwt_svid_cache_hit_timeout",
                             hit));
        if (*hit < 5 * CS_NS_PER_S)
            return FAIL(l, "jwt_svid_cache_hit_timeout (%s) must be greater than 5s", duration_text(l, *hit));
        if (*hit >= 30 * CS_NS_PER_S)
            return FAIL(l, "jwt_svid_cache_hit_timeout (%s) must be less than 30s", duration_text(l, *hit));
        CS_TRY(load_note(l, CS_LOG_WARN, "The use of 'jwt_svid_cache_hit_timeout' is experimental", NULL,
                         NULL, NULL, NULL));
    }
    c->use_sync_authorized_entries = true;
    if (x->use_sync_authorized_entries.given) {
        CS_TRY(load_warn_deprecated(
            l, "The 'use_sync_authorized_entries' configuration is deprecated. The option to "
               "disable it will be removed in SPIRE 1.13."));
        c->use_sync_authorized_entries = x->use_sync_authorized_entries.value;
    }
    if (s->x509_svid_cache_max_size.value < 0)
        return FAIL(l, "x509_svid_cache_max_size should not be negative");
    c->x509_svid_cache_max_size = s->x509_svid_cache_max_size.value;
    if (s->jwt_svid_cache_max_size.value < 0)
        return FAIL(l, "jwt_svid_cache_max_size should not be negative");
    c->jwt_svid_cache_max_size = s->jwt_svid_cache_max_size.value;
    return CS_OK;
}

/* True when `path` is in the folder of `other` or under it; both absolute and clean. */
static bool shares_folder(const char *path, const char *other)
{
    size_t n = (size_t)(strrchr(other, '/') - other) + 1;
    return strncmp(path, other, n) == 0;
}

static cs_code take_sockets(struct load *l, const struct agent_section_file *s, struct agent_config *c)
{
    c->disable_workload_api = s->disable_workload_api.value;
    c->disable_sds_api = s->disable_sds_api.value;
    c->socket_path = c->admin_socket_path = "";
    bool exposed = !c->disable_workload_api || !c->disable_sds_api;
    exposed = exposed && is_set(s->socket_path); /* not given in enclave mode: no Unix socket */
    if (exposed)
        CS_TRY(load_abs_path(l, s->socket_path, &c->socket_path));
    if (!is_set(s->admin_socket_path))
        return CS_OK;
    CS_TRY(load_abs_path(l, s->admin_socket_path, &c->admin_socket_path));
    if (exposed && shares_folder(c->admin_socket_path, c->socket_path))
        return FAIL(l,
                    "admin socket cannot be in the same directory or a subdirectory as that containing the "
                    "Workload API socket");
    return CS_OK;
}

static cs_code take_join_token(struct load *l, const struct agent_section_file *s, struct agent_config *c)
{
    c->join_token = s->join_token;
    if (!is_set(s->join_token_file))
        return load_keep(l, &c->join_token);
    CS_CLEANUP(cs_buf_wipe) struct cs_buf b = {0};
    if (cs_file_read(s->join_token_file, 64 * 1024, &b, l->e) != CS_OK)
        return cs_wrap(l->e, "unable to read join token file %s", load_quote(l, s->join_token_file));
    static const char blanks[] = " \t\n\v\f\r";
    const char *p = cs_buf_cstr(&b);
    p += strspn(p, blanks);
    size_t n = strlen(p);
    while (n > 0 && strchr(blanks, p[n - 1]) != NULL)
        n--;
    if (n == 0)
        return FAIL(l, "join token file is empty");
    c->join_token = cs_arena_strndup(l->a, p, n);
    return c->join_token == NULL ? cs_nomem(l->e) : CS_OK;
}

static cs_code take_sds(struct load *l, const struct sds_file *s, struct agent_config *c)
{
    c->sds_default_svid_name = s->default_svid_name;
    c->sds_default_bundle_name = s->default_bundle_name;
    c->sds_default_all_bundles_name = s->default_all_bundles_name;
    c->sds_disable_spiffe_cert_validation = s->disable_spiffe_cert_validation.value;
    if (strcmp(s->default_bundle_name, s->default_all_bundles_name) != 0)
        return CS_OK;
    return load_note(
        l, CS_LOG_WARN,
        "The \"default_bundle_name\" and \"default_all_bundles_name\" configurables have the same value. "
        "\"default_all_bundles_name\" will be ignored. Please configure distinct values or use the "
        "defaults. This will be a configuration error in a future release.",
        NULL, NULL, NULL, NULL);
}

static cs_code take_bootstrap(struct load *l, const struct agent_section_file *s, struct agent_config *c)
{
    c->insecure_bootstrap = s->insecure_bootstrap.value;
    c->trust_bundle_path = s->trust_bundle_path;
    c->trust_bundle_url = s->trust_bundle_url;
    c->trust_bundle_unix_socket = load_pick(NULL, s->trust_bundle_unix_socket, "");
    c->trust_bundle_format =
        strcmp(s->trust_bundle_format, "spiffe") == 0 ? AGENT_BUNDLE_SPIFFE : AGENT_BUNDLE_PEM;
    CS_TRY(load_keep(l, &c->trust_bundle_path));
    CS_TRY(load_keep(l, &c->trust_bundle_url));
    if (!is_set(s->workload_x509_svid_key_type))
        return CS_OK;
    return load_key_type(l, s->workload_x509_svid_key_type, "", key_types, &c->workload_x509_svid_key_type);
}

/* --- unknown keys --- */

static cs_code check_unknown_broker(struct load *l, const struct broker_file *b, bool *bad)
{
    CS_TRY(load_unknown(l, "experimental.broker", &b->unknown, bad));
    for (size_t i = 0; i < b->brokers.len; i++) {
        const struct broker_entry_file *entry = b->brokers.at[i];
        char name[96];
        (void)snprintf(name, sizeof name, "experimental.broker.brokers[%zu]", i);
        CS_TRY(load_unknown(l, name, &entry->unknown, bad));
        for (size_t k = 0; k < entry->allowed_reference_types.len; k++) {
            const struct broker_type_file *t = entry->allowed_reference_types.at[k];
            (void)snprintf(name, sizeof name, "experimental.broker.brokers[%zu].allowed_reference_types[%zu]",
                           i, k);
            CS_TRY(load_unknown(l, name, &t->unknown, bad));
        }
    }
    return CS_OK;
}

static cs_code check_unknown(struct load *l, const struct agent_file *f)
{
    bool bad = false;
    CS_TRY(load_unknown(l, "top-level", &f->unknown, &bad));
    CS_TRY(load_unknown(l, "agent", &f->agent.unknown, &bad));
    CS_TRY(load_unknown(l, "enclave", &f->agent.enclave.unknown, &bad));
    CS_TRY(check_unknown_broker(l, &f->agent.experimental.broker, &bad));
    CS_TRY(load_unknown_telemetry(l, &f->telemetry, &bad));
    CS_TRY(load_unknown(l, "health check", &f->health_checks.unknown, &bad));
    CS_TRY(load_unknown(l, "ratelimit", &f->agent.experimental.ratelimit.unknown, &bad));
    return bad ? FAIL(l, "unknown configuration detected") : CS_OK;
}

/* --- the rest --- */

static cs_code check_delegates(struct load *l, const struct agent_section_file *s, const char *trust_domain)
{
    for (size_t i = 0; i < s->authorized_delegates.len; i++) {
        struct spiffe_id id;
        const char *text = s->authorized_delegates.at[i];
        if (spiffe_id_parse(cs_slice_str(text), &id, l->e) != CS_OK)
            return cs_wrap(l->e, "error validating authorized delegate");
        if (!spiffe_id_member_of(id, cs_slice_str(trust_domain)))
            return FAIL(
                l,
                "error validating authorized delegate: SPIFFE ID \"%s\" is not a member of trust domain "
                "\"%s\"",
                text, trust_domain);
    }
    return CS_OK;
}

static cs_code take_availability(struct load *l, const struct agent_section_file *s, struct agent_config *c)
{
    if (!is_set(s->availability_target))
        return CS_OK;
    CS_TRY(load_duration(l, s->availability_target, "unable to parse availability_target",
                         &c->availability_target_ns));
    if (c->availability_target_ns < 24 * 3600 * CS_NS_PER_S)
        return FAIL(l, "availability_target must be at least 24h0m0s");
    return CS_OK;
}

static cs_code take_ratelimit(struct load *l, const struct workload_ratelimit_file *r, struct agent_config *c)
{
    const struct {
        const char *name;
        int64_t value;
        int64_t *out;
    } rows[] = {
        {"fetch_x509_svid", r->fetch_x509_svid.value, &c->ratelimit.fetch_x509_svid},
        {"fetch_jwt_svid", r->fetch_jwt_svid.value, &c->ratelimit.fetch_jwt_svid},
        {"fetch_x509_bundles", r->fetch_x509_bundles.value, &c->ratelimit.fetch_x509_bundles},
        {"fetch_jwt_bundles", r->fetch_jwt_bundles.value, &c->ratelimit.fetch_jwt_bundles},
        {"stream_secrets", r->stream_secrets.value, &c->ratelimit.stream_secrets},
        {"fetch_secrets", r->fetch_secrets.value, &c->ratelimit.fetch_secrets},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].value < 0)
            return FAIL(l, "experimental.ratelimit.%s must not be negative", rows[i].name);
        *rows[i].out = rows[i].value;
    }
    return CS_OK;
}

static cs_code build_late(struct load *l, const struct agent_file *f, struct agent_config *c)
{
    const struct agent_section_file *s = &f->agent;
    c->allow_unauthenticated_verifiers = s->allow_unauthenticated_verifiers.value;
    c->log_selectors = s->log_selectors;
    c->allowed_foreign_jwt_claims = s->allowed_foreign_jwt_claims;
    CS_TRY(check_delegates(l, s, c->trust_domain));
    CS_TRY(take_availability(l, s, c));
    c->require_pq_kem = s->experimental.require_pq_kem.value;
    CS_TRY(take_ratelimit(l, &s->experimental.ratelimit, c));
    CS_TRY(load_enclave(l, &s->enclave, &c->enclave));
    /* SPIRE counts use_sync_authorized_entries by its being there, whatever it says. */
    if (config_in_use(&agent_experimental_section, &s->experimental) ||
        s->experimental.use_sync_authorized_entries.given)
        CS_TRY(load_note_experimental(l));
    CS_TRY(load_note_flags(l, &s->experimental.feature_flags));
    CS_TRY(config_check_later(&agent_config_section, f, "", l->e));
    return load_check_plugins(l, "agent", &c->plugins);
}

static cs_code build(struct load *l, const struct agent_file *f, struct agent_config *c)
{
    const struct agent_section_file *s = &f->agent;
    CS_TRY(load_feature_flags(l, &s->experimental.feature_flags));
    CS_TRY(check_before_log(l, f));
    CS_TRY(take_rebootstrap(l, s, c));
    CS_TRY(load_log(l, s->log_level, s->log_format, s->log_file, s->log_source_location.value, &c->log));
    CS_TRY(take_cache(l, s, c));
    CS_TRY(load_trust_domain(l, s->trust_domain, &c->trust_domain));
    CS_TRY(take_sockets(l, s, c));
    CS_TRY(take_join_token(l, s, c));
    c->data_dir = s->data_dir;
    c->server_address = s->server_address;
    CS_TRY(load_keep(l, &c->data_dir));
    CS_TRY(load_keep(l, &c->server_address));
    CS_TRY(take_sds(l, &s->sds, c));
    CS_TRY(take_bootstrap(l, s, c));
    CS_TRY(load_plugins(l, &f->plugins, &c->plugins));
    CS_TRY(load_health(l, &f->health_checks, &c->health));
    CS_TRY(check_unknown(l, f));
    /* SPIRE meets a port that is none when it dials; here it would be cut to 16 bits. */
    if (s->server_port.value < 0 || s->server_port.value > 65535)
        return FAIL(l, "server_port must be between 1 and 65535");
    c->server_port = (uint16_t)s->server_port.value;
    return build_late(l, f, c);
}

static cs_code make(const char *name, const struct cs_slice *given, bool expand_env,
                    const struct agent_config_flags *flags, struct agent_config **out,
                    struct config_notes *notes, struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct agent_config *c = a == NULL ? NULL : cs_arena_zalloc(a, sizeof *c);
    struct agent_file *f = a == NULL ? NULL : cs_arena_zalloc(a, sizeof *f);
    if (c == NULL || f == NULL)
        return cs_nomem(e);
    struct load l = {.a = a, .notes = notes, .e = e};
    struct cs_slice text = {0};
    if (given != NULL)
        text = *given;
    else
        CS_TRY(load_file(&l, name, &text));
    CS_TRY(load_decode(&l, name, text, expand_env, &agent_config_section, f));
    merge(&f->agent, flags);
    CS_TRY(build(&l, f, c));
    c->arena = CS_MOVE(a);
    *out = c;
    return CS_OK;
}

cs_code agent_config_load(const char *path, bool expand_env, const struct agent_config_flags *flags,
                          struct agent_config **out, struct config_notes *notes, struct cs_err *e)
{
    return make(is_set(path) ? path : AGENT_CONFIG_DEFAULT_PATH, NULL, expand_env, flags, out, notes, e);
}

cs_code agent_config_parse(const char *name, struct cs_slice text, bool expand_env,
                           const struct agent_config_flags *flags, struct agent_config **out,
                           struct config_notes *notes, struct cs_err *e)
{
    return make(name, &text, expand_env, flags, out, notes, e);
}

void agent_config_free(struct agent_config *c)
{
    if (c != NULL)
        cs_arena_free(c->arena);
}
