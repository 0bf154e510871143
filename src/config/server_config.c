/* SPDX-License-Identifier: Apache-2.0
 *
 * From server.conf to struct server_config. The order of the steps is SPIRE's: it decides which of
 * several faults is reported.
 */
#include "config/server_config.h"
#include "config/server_file.h"

#include "base/clock.h"
#include "base/text.h"
#include "spiffe/id.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <strings.h>

static const char *const key_types[] = {"rsa-2048", "rsa-4096", "ec-p256", "ec-p384", NULL};

/* --- flags over the file, defaults under it --- */

static void merge_text(const char **field, const char *flag, const char *fallback)
{
    *field = load_pick(flag, *field, fallback);
}

static void merge(struct server_section_file *s, const struct server_config_flags *flags)
{
    static const struct server_config_flags none;
    const struct server_config_flags *f = flags == NULL ? &none : flags;
    merge_text(&s->bind_address, f->bind_address, "0.0.0.0");
    merge_text(&s->data_dir, f->data_dir, "");
    merge_text(&s->log_file, f->log_file, "");
    merge_text(&s->log_format, f->log_format, "");
    merge_text(&s->log_level, f->log_level, "INFO");
    merge_text(&s->socket_path, f->socket_path, SERVER_CONFIG_DEFAULT_SOCKET);
    merge_text(&s->trust_domain, f->trust_domain, "");
    merge_text(&s->ca_ttl, NULL, "24h0m0s");
    if (f->bind_port != 0)
        s->bind_port.value = f->bind_port;
    if (s->bind_port.value == 0)
        s->bind_port.value = 8081;
    if (f->log_source_location)
        s->log_source_location.value = true;
}

/* --- checks before the logger exists --- */

static cs_code check_federation(struct load *l, const struct federation_file *f)
{
    const struct acme_file *acme = &f->bundle_endpoint.acme;
    if (acme->given && !is_set(acme->domain_name))
        return cs_fail(l->e, CS_INVALID, "federation.bundle_endpoint.acme.domain_name must be configured");
    if (acme->given && !is_set(acme->email))
        return cs_fail(l->e, CS_INVALID, "federation.bundle_endpoint.acme.email must be configured");
    for (size_t i = 0; i < f->federates_with.len; i++) {
        const struct federates_with_file *w = f->federates_with.at[i];
        const char *td = f->federates_with.labels[i];
        if (!is_set(w->bundle_endpoint_url))
            return cs_fail(l->e, CS_INVALID,
                           "federation.federates_with[\"%s\"].bundle_endpoint_url must be configured", td);
        if (strncasecmp(w->bundle_endpoint_url, "https://", 8) != 0)
            return cs_fail(
                l->e, CS_INVALID,
                "federation.federates_with[\"%s\"].bundle_endpoint_url must use the HTTPS protocol; URL "
                "found: %s",
                td, load_quote(l, w->bundle_endpoint_url));
    }
    return CS_OK;
}

static bool is_cidr(const char *text)
{
    char addr[64];
    uint8_t bin[16];
    const char *slash = strchr(text, '/');
    int64_t bits;
    if (slash == NULL || (size_t)(slash - text) >= sizeof addr || slash[1] < '0' || slash[1] > '9')
        return false;
    memcpy(addr, text, (size_t)(slash - text));
    addr[slash - text] = 0;
    int family = strchr(addr, ':') != NULL ? AF_INET6 : AF_INET;
    return inet_pton(family, addr, bin) == 1 && strlen(slash + 1) <= 3 &&
           cs_parse_i64(cs_slice_str(slash + 1), &bits, NULL) == CS_OK &&
           bits <= (family == AF_INET ? 32 : 128);
}

static cs_code check_before_log(struct load *l, const struct server_file *f)
{
    const struct server_section_file *s = &f->server;
    if (!is_set(s->trust_domain))
        return cs_fail(l->e, CS_INVALID, "trust_domain must be configured");
    if (!is_set(s->data_dir))
        return cs_fail(l->e, CS_INVALID, "data_dir must be configured");
    if (!f->plugins.given)
        return cs_fail(l->e, CS_INVALID, "plugins section must be configured");
    CS_TRY(check_federation(l, &s->federation));
    if (is_set(s->experimental.event_timeout) && is_set(s->experimental.sql_transaction_timeout))
        return cs_fail(
            l->e, CS_INVALID,
            "both experimental sql_transaction_timeout and event_timeout set, only set event_timeout");
    for (size_t i = 0; i < s->proxy_protocol_trusted_cidrs.len; i++) {
        const char *cidr = s->proxy_protocol_trusted_cidrs.at[i];
        if (!is_cidr(cidr))
            return cs_fail(l->e, CS_INVALID,
                           "invalid proxy_protocol_trusted_cidrs value %s: invalid CIDR address: %s",
                           load_quote(l, cidr), cidr);
    }
    if (is_set(s->experimental.named_pipe_name))
        return cs_fail(l->e, CS_INVALID,
                       "invalid configuration: named_pipe_name is not supported in this platform; please use "
                       "socket_path instead");
    return CS_OK;
}

/* --- values --- */

static cs_code resolve_bind(struct load *l, const struct server_section_file *s, struct server_config *c)
{
    const char *host = s->bind_address + strspn(s->bind_address, "[]");
    char *bare = cs_arena_strndup(l->a, host, strcspn(host, "[]"));
    long long port = s->bind_port.value;
    if (bare == NULL)
        return cs_nomem(l->e);
    if (port < 0 || port > 65535)
        return cs_fail(l->e, CS_INVALID,
                       "could not resolve bind address \"%s:%lld\": address %lld: invalid port",
                       s->bind_address, port, port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE},
                    *list = NULL;
    int rc = getaddrinfo(bare, NULL, &hints, &list);
    if (rc != 0)
        return cs_fail(l->e, CS_INVALID, "could not resolve bind address \"%s:%lld\": lookup %s: %s",
                       s->bind_address, port, bare, rc == EAI_NONAME ? "no such host" : gai_strerror(rc));
    const struct addrinfo *best = list;
    for (const struct addrinfo *i = list; i != NULL && best->ai_family != AF_INET; i = i->ai_next)
        best = i->ai_family == AF_INET ? i : best; /* as Go: IPv4 first when a name has both */
    char text[NI_MAXHOST] = "";
    rc = getnameinfo(best->ai_addr, best->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(list);
    if (rc != 0)
        return cs_fail(l->e, CS_INVALID, "could not resolve bind address \"%s:%lld\": %s", s->bind_address,
                       port, gai_strerror(rc));
    c->bind_address = cs_arena_strdup(l->a, text);
    c->bind_port = (uint16_t)port;
    return c->bind_address == NULL ? cs_nomem(l->e) : CS_OK;
}

static cs_code take_admin_ids(struct load *l, const struct config_strings *in, struct config_strings *out)
{
    for (size_t i = 0; i < in->len; i++) {
        struct spiffe_id id;
        if (spiffe_id_parse(cs_slice_str(in->at[i]), &id, l->e) != CS_OK)
            return cs_wrap(l->e, "could not parse admin ID %s", load_quote(l, in->at[i]));
    }
    *out = *in;
    return CS_OK;
}

/* A duration whose error repeats the text: `could not parse agent ttl "x": time: ...`. */
static cs_code take_duration(struct load *l, const char *text, const char *what, int64_t *ns)
{
    const char *prefix =
        cs_arena_printf(l->a, "could not parse %s %s", what, load_quote(l, text == NULL ? "" : text));
    return prefix == NULL ? cs_nomem(l->e) : load_duration(l, text, prefix, ns);
}

static cs_code take_ttls(struct load *l, const struct server_section_file *s, struct server_config *c)
{
    if (s->max_attested_node_info_staleness != NULL &&
        cs_duration_parse(cs_slice_str(s->max_attested_node_info_staleness),
                          &c->max_attested_node_info_staleness_ns, l->e) != CS_OK)
        return cs_wrap(l->e, "could not parse max attested node staleness %s",
                       load_quote(l, s->max_attested_node_info_staleness));
    CS_TRY(take_admin_ids(l, &s->admin_ids, &c->admin_ids));
    c->default_x509_svid_ttl_ns = 3600 * CS_NS_PER_S;
    c->default_jwt_svid_ttl_ns = 300 * CS_NS_PER_S;
    CS_TRY(take_duration(l, s->agent_ttl, "agent ttl", &c->agent_ttl_ns));
    CS_TRY(take_duration(l, s->default_x509_svid_ttl, "default X509 SVID ttl", &c->default_x509_svid_ttl_ns));
    CS_TRY(take_duration(l, s->default_jwt_svid_ttl, "default JWT SVID ttl", &c->default_jwt_svid_ttl_ns));
    return take_duration(l, s->ca_ttl, "default CA ttl", &c->ca_ttl_ns);
}

/* --- lifetimes that a scheduled rotation may cut short ---
 * A new authority is used from 1/6 of the old one's life before its end on, at most 7 days before. */
#define ROTATION_DIVISOR 6
#define ROTATION_CAP_NS (7 * 24 * 3600 * CS_NS_PER_S)

static int64_t max_svid_ttl(int64_t ca_ttl)
{
    int64_t part = ca_ttl / ROTATION_DIVISOR;
    return part < ROTATION_CAP_NS ? part : ROTATION_CAP_NS;
}

static int64_t min_ca_ttl(int64_t svid_ttl)
{
    return (int64_t)((uint64_t)svid_ttl * ROTATION_DIVISOR); /* wraps as Go's does; only shown */
}

/* Whole seconds, "4h" instead of "4h0m0s". */
static void short_duration(int64_t ns, char out[40])
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_duration_format(&b, ns / CS_NS_PER_S * CS_NS_PER_S);
    (void)snprintf(out, 40, "%s", cs_buf_cstr(&b));
    size_t n = strlen(out);
    if (n > 3 && strcmp(out + n - 3, "m0s") == 0)
        out[n -= 2] = 0;
    if (n > 3 && strcmp(out + n - 3, "h0m") == 0)
        out[n - 2] = 0;
}

static cs_code warn_ttl(struct load *l, const char *name, int64_t ttl, int64_t ca_ttl)
{
    char most[40], least[40], text[512];
    if (ttl <= max_svid_ttl(ca_ttl))
        return CS_OK;
    if (ttl < ROTATION_CAP_NS) {
        short_duration(max_svid_ttl(ca_ttl), most);
        short_duration(min_ca_ttl(ttl), least);
        (void)snprintf(
            text, sizeof text,
            "%s is too high for the configured ca_ttl value. SVIDs with shorter lifetimes may be issued. "
            "Please set %s to %s or less, or the ca_ttl to %s or more, to guarantee the full %s lifetime "
            "when CA rotations are scheduled.",
            name, name, most, least, name);
    } else if (ca_ttl < min_ca_ttl(ROTATION_CAP_NS)) {
        short_duration(ROTATION_CAP_NS, most);
        short_duration(min_ca_ttl(ROTATION_CAP_NS), least);
        (void)snprintf(
            text, sizeof text,
            "%s is too high and the ca_ttl is too low. SVIDs with shorter lifetimes may be issued. Please "
            "set %s to %s or less, and the ca_ttl to %s or more, to guarantee the full %s lifetime when CA "
            "rotations are scheduled.",
            name, name, most, least, name);
    } else {
        short_duration(max_svid_ttl(ca_ttl), most);
        (void)snprintf(
            text, sizeof text,
            "%s is too high. SVIDs with shorter lifetimes may be issued. Please set %s to %s or less to "
            "guarantee the full %s lifetime when CA rotations are scheduled.",
            name, name, most, name);
    }
    return load_note(l, CS_LOG_WARN, text, NULL, NULL, NULL, NULL);
}

static cs_code warn_ttls(struct load *l, const struct server_config *c)
{
    CS_TRY(warn_ttl(l, "default_x509_svid_ttl", c->default_x509_svid_ttl_ns, c->ca_ttl_ns));
    CS_TRY(warn_ttl(l, "default_jwt_svid_ttl", c->default_jwt_svid_ttl_ns, c->ca_ttl_ns));
    return c->agent_ttl_ns == 0 ? CS_OK : warn_ttl(l, "agent_ttl", c->agent_ttl_ns, c->ca_ttl_ns);
}

static cs_code take_keys_and_subject(struct load *l, const struct server_section_file *s,
                                     struct server_config *c)
{
    enum config_key_type unused;
    if (is_set(s->ca_key_type))
        CS_TRY(load_key_type(l, s->ca_key_type, "error parsing ca_key_type: ", key_types, &c->ca_key_type));
    c->jwt_key_type = c->ca_key_type;
    if (is_set(s->jwt_key_type))
        CS_TRY(
            load_key_type(l, s->jwt_key_type, "error parsing jwt_key_type: ", key_types, &c->jwt_key_type));
    if (is_set(s->experimental.wit_key_type))
        CS_TRY(load_key_type(l, s->experimental.wit_key_type, "error parsing wit_key_type: ", key_types,
                             &unused));
    c->jwt_issuer = load_pick(NULL, s->jwt_issuer, "");
    c->ca_subject_country = s->ca_subject.country;
    c->ca_subject_organization = s->ca_subject.organization;
    c->ca_subject_common_name = load_pick(NULL, s->ca_subject.common_name, "");
    bool empty = c->ca_subject_country.len == 0 && c->ca_subject_organization.len == 0 &&
                 !is_set(c->ca_subject_common_name);
    if (!empty)
        return CS_OK;
    if (s->ca_subject.given && s->ca_subject.country.at == NULL && s->ca_subject.organization.at == NULL)
        CS_TRY(load_note(l, CS_LOG_WARN, "ca_subject configurable is set but empty; the default will be used",
                         NULL, NULL, NULL, NULL));
    static const char *const country[] = {"US"}, *const organization[] = {"SPIFFE"};
    c->ca_subject_country = (struct config_strings){.at = country, .len = 1};
    c->ca_subject_organization = (struct config_strings){.at = organization, .len = 1};
    return CS_OK;
}

static cs_code take_pruning(struct load *l, const struct server_section_file *s, struct server_config *c)
{
    if (!is_set(s->prune_attested_nodes_expired_for))
        return CS_OK;
    c->prune_tofu_nodes = s->prune_tofu_nodes.value;
    c->prune_attested_nodes_batch_size = s->prune_attested_nodes_batch_size.value;
    return load_duration(l, s->prune_attested_nodes_expired_for,
                         "could not parse prune_attested_nodes_expired_for",
                         &c->prune_attested_nodes_expired_for_ns);
}

static cs_code check_unknown(struct load *l, const struct server_file *f)
{
    bool bad = false;
    const struct server_section_file *s = &f->server;
    CS_TRY(load_unknown(l, "top-level", &f->unknown, &bad));
    CS_TRY(load_unknown(l, "server", &s->unknown, &bad));
    CS_TRY(load_unknown(l, "ca_subject", &s->ca_subject.unknown, &bad));
    CS_TRY(load_unknown(l, "ratelimit", &s->ratelimit.unknown, &bad));
    CS_TRY(load_unknown(l, "bundle endpoint", &s->federation.bundle_endpoint.unknown, &bad));
    CS_TRY(load_unknown(l, "bundle endpoint ACME", &s->federation.bundle_endpoint.acme.unknown, &bad));
    CS_TRY(load_unknown_telemetry(l, &f->telemetry, &bad));
    CS_TRY(load_unknown(l, "health check", &f->health_checks.unknown, &bad));
    return bad ? cs_fail(l->e, CS_INVALID, "unknown configuration detected") : CS_OK;
}

static cs_code take_experimental(struct load *l, const struct server_experimental_file *x,
                                 struct server_config *c)
{
    if (config_in_use(&server_experimental_section, x))
        CS_TRY(load_note_experimental(l));
    CS_TRY(load_duration(l, x->cache_reload_interval, "could not parse cache reload interval",
                         &c->cache_reload_interval_ns));
    CS_TRY(load_duration(l, x->full_cache_reload_interval, "could not parse full cache reload interval",
                         &c->full_cache_reload_interval_ns));
    CS_TRY(load_duration(l, x->prune_events_older_than, "could not parse prune events interval",
                         &c->prune_events_older_than_ns));
    if (is_set(x->sql_transaction_timeout))
        CS_TRY(load_warn_deprecated(
            l, "experimental.sql_transaction_timeout is deprecated, use experimental.event_timeout instead"));
    CS_TRY(load_duration(l, x->sql_transaction_timeout, "could not parse SQL transaction timeout interval",
                         &c->event_timeout_ns));
    CS_TRY(
        load_duration(l, x->event_timeout, "could not parse event timeout interval", &c->event_timeout_ns));
    if (x->events_based_cache.value)
        CS_TRY(load_note(l, CS_LOG_INFO, "Using events based cache", NULL, NULL, NULL, NULL));
    c->agent_spiffe_id_as_selector = x->agent_spiffe_id_as_selector.value;
    c->events_based_cache = x->events_based_cache.value;
    c->require_pq_kem = x->require_pq_kem.value;
    return CS_OK;
}

static cs_code build(struct load *l, const struct server_file *f, struct server_config *c)
{
    const struct server_section_file *s = &f->server;
    CS_TRY(load_feature_flags(l, &s->experimental.feature_flags));
    CS_TRY(check_before_log(l, f));
    CS_TRY(load_log(l, s->log_level, s->log_format, s->log_file, s->log_source_location.value, &c->log));
    CS_TRY(resolve_bind(l, s, c));
    CS_TRY(load_abs_path(l, s->socket_path, &c->socket_path));
    c->data_dir = s->data_dir;
    CS_TRY(load_keep(l, &c->data_dir));
    c->audit_log_enabled = s->audit_log_enabled.value;
    c->proxy_protocol_trusted_cidrs = s->proxy_protocol_trusted_cidrs;
    CS_TRY(load_trust_domain(l, s->trust_domain, &c->trust_domain));
    c->ratelimit_attestation = !s->ratelimit.attestation.given || s->ratelimit.attestation.value;
    c->ratelimit_signing = !s->ratelimit.signing.given || s->ratelimit.signing.value;
    CS_TRY(take_ttls(l, s, c));
    CS_TRY(warn_ttls(l, c));
    CS_TRY(take_keys_and_subject(l, s, c));
    CS_TRY(load_plugins(l, &f->plugins, &c->plugins));
    CS_TRY(load_health(l, &f->health_checks, &c->health));
    CS_TRY(take_pruning(l, s, c));
    if (s->disable_jwt_svids.value)
        CS_TRY(load_note(l, CS_LOG_INFO, "JWT-SVID profile is disabled", NULL, NULL, NULL, NULL));
    c->disable_jwt_svids = s->disable_jwt_svids.value;
    CS_TRY(check_unknown(l, f));
    CS_TRY(take_experimental(l, &s->experimental, c));
    CS_TRY(load_note_flags(l, &s->experimental.feature_flags));
    CS_TRY(config_check_later(&server_config_section, f, "", l->e));
    return load_check_plugins(l, "server", &c->plugins);
}

static cs_code load_server(struct load *l, const char *name, const struct cs_slice *given, bool expand_env,
                           const struct server_config_flags *flags, struct server_config *c)
{
    struct server_file *f = cs_arena_zalloc(l->a, sizeof *f);
    if (f == NULL)
        return cs_nomem(l->e);
    struct cs_slice text = {0};
    if (given != NULL)
        text = *given;
    else
        CS_TRY(load_file(l, name, &text));
    CS_TRY(load_decode(l, name, text, expand_env, &server_config_section, f));
    merge(&f->server, flags);
    return build(l, f, c);
}

static cs_code make(const char *name, const struct cs_slice *text, bool expand_env,
                    const struct server_config_flags *flags, struct server_config **out,
                    struct config_notes *notes, struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct server_config *c = a == NULL ? NULL : cs_arena_zalloc(a, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    struct load l = {.a = a, .notes = notes, .e = e};
    CS_TRY(load_server(&l, name, text, expand_env, flags, c));
    c->arena = CS_MOVE(a);
    *out = c;
    return CS_OK;
}

cs_code server_config_load(const char *path, bool expand_env, const struct server_config_flags *flags,
                           struct server_config **out, struct config_notes *notes, struct cs_err *e)
{
    return make(is_set(path) ? path : SERVER_CONFIG_DEFAULT_PATH, NULL, expand_env, flags, out, notes, e);
}

cs_code server_config_parse(const char *name, struct cs_slice text, bool expand_env,
                            const struct server_config_flags *flags, struct server_config **out,
                            struct config_notes *notes, struct cs_err *e)
{
    return make(name, &text, expand_env, flags, out, notes, e);
}

void server_config_free(struct server_config *c)
{
    if (c != NULL)
        cs_arena_free(c->arena);
}
