/* SPDX-License-Identifier: Apache-2.0
 *
 * Every option of server.conf (SPIRE 1.15, doc/spire_server.md), in alphabetical order per block.
 */
#include "config/server_config.h"
#include "config/server_file.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define AT(field) offsetof(struct ca_subject_file, field)
static const struct config_option ca_subject_options[] = {
    {"common_name", CONFIG_STRING, CONFIG_READY, AT(common_name), NULL, "Common name (CN).", NULL},
    {"country", CONFIG_STRINGS, CONFIG_READY, AT(country), NULL, "Countries (C).", NULL},
    {"organization", CONFIG_STRINGS, CONFIG_READY, AT(organization), NULL, "Organizations (O).", NULL},
};
static const struct config_section ca_subject_section = {.title = "ca_subject",
                                                         .strict = true,
                                                         .size = sizeof(struct ca_subject_file),
                                                         .given = AT(given),
                                                         .unknown = AT(unknown),
                                                         .options = ca_subject_options,
                                                         .count = COUNT(ca_subject_options)};
#undef AT

#define AT(field) offsetof(struct acme_file, field)
static const struct config_option acme_options[] = {
    {"directory_url", CONFIG_STRING, CONFIG_READY, AT(directory_url), NULL, "Directory of the ACME service.",
     NULL},
    {"domain_name", CONFIG_STRING, CONFIG_READY, AT(domain_name), NULL, "Name the certificate is for.", NULL},
    {"email", CONFIG_STRING, CONFIG_READY, AT(email), NULL, "Address the ACME account is under.", NULL},
    {"tos_accepted", CONFIG_BOOL, CONFIG_READY, AT(tos_accepted), "false",
     "Whether the terms of the ACME service are agreed to.", NULL},
};
static const struct config_section acme_section = {.title = "bundle endpoint ACME",
                                                   .strict = true,
                                                   .size = sizeof(struct acme_file),
                                                   .given = AT(given),
                                                   .unknown = AT(unknown),
                                                   .options = acme_options,
                                                   .count = COUNT(acme_options)};
#undef AT

#define AT(field) offsetof(struct bundle_endpoint_file, field)
static const struct config_option bundle_endpoint_options[] = {
    {"acme", CONFIG_BLOCK, CONFIG_READY, AT(acme), NULL, "Old place of the ACME settings.", &acme_section},
    {"address", CONFIG_STRING, CONFIG_READY, AT(address), NULL, "Address to listen on.", NULL},
    {"port", CONFIG_INT, CONFIG_READY, AT(port), NULL, "Port to listen on.", NULL},
    {"profile", CONFIG_TREE, CONFIG_READY, AT(profile), NULL,
     "How the endpoint proves itself: an `https_web` or an `https_spiffe` block.", NULL},
    {"refresh_hint", CONFIG_STRING, CONFIG_READY, AT(refresh_hint), "5m",
     "How often others should fetch the bundle.", NULL},
};
static const struct config_section bundle_endpoint_section = {.title = "bundle endpoint",
                                                              .strict = true,
                                                              .size = sizeof(struct bundle_endpoint_file),
                                                              .given = AT(given),
                                                              .unknown = AT(unknown),
                                                              .options = bundle_endpoint_options,
                                                              .count = COUNT(bundle_endpoint_options)};
#undef AT

#define AT(field) offsetof(struct federates_with_file, field)
static const struct config_option federates_with_options[] = {
    {"bundle_endpoint_profile", CONFIG_TREE, CONFIG_READY, AT(bundle_endpoint_profile), NULL,
     "How the other endpoint proves itself: an `https_web` or an `https_spiffe` block.", NULL},
    {"bundle_endpoint_url", CONFIG_STRING, CONFIG_READY, AT(bundle_endpoint_url), NULL,
     "Where the other trust domain's bundle is fetched (https).", NULL},
};
static const struct config_section federates_with_section = {.title = "federates_with",
                                                             .size = sizeof(struct federates_with_file),
                                                             .given = AT(given),
                                                             .unknown = CONFIG_NO_OFFSET,
                                                             .options = federates_with_options,
                                                             .count = COUNT(federates_with_options)};
#undef AT

#define AT(field) offsetof(struct federation_file, field)
static const struct config_option federation_options[] = {
    {"bundle_endpoint", CONFIG_BLOCK, CONFIG_LATER, AT(bundle_endpoint), NULL,
     "Serves the bundle of this trust domain to others.", &bundle_endpoint_section},
    {"federates_with", CONFIG_MAP, CONFIG_LATER, AT(federates_with), NULL,
     "One block per trust domain whose bundle is fetched, labelled with its name.", &federates_with_section},
};
static const struct config_section federation_section = {.title = "federation",
                                                         .size = sizeof(struct federation_file),
                                                         .given = AT(given),
                                                         .unknown = CONFIG_NO_OFFSET,
                                                         .options = federation_options,
                                                         .count = COUNT(federation_options)};
#undef AT

#define AT(field) offsetof(struct ratelimit_file, field)
static const struct config_option ratelimit_options[] = {
    {"attestation", CONFIG_BOOL, CONFIG_READY, AT(attestation), "true",
     "Limits node attestation to one per second and address.", NULL},
    {"signing", CONFIG_BOOL, CONFIG_READY, AT(signing), "true",
     "Limits signing to 500 per second and address, X.509 and JWT apart.", NULL},
};
static const struct config_section ratelimit_section = {.title = "ratelimit",
                                                        .strict = true,
                                                        .size = sizeof(struct ratelimit_file),
                                                        .given = CONFIG_NO_OFFSET,
                                                        .unknown = AT(unknown),
                                                        .options = ratelimit_options,
                                                        .count = COUNT(ratelimit_options)};
#undef AT

#define AT(field) offsetof(struct opa_local_file, field)
static const struct config_option opa_local_options[] = {
    {"policy_data_path", CONFIG_STRING, CONFIG_READY, AT(policy_data_path), NULL,
     "File with the policy's data.", NULL},
    {"rego_path", CONFIG_STRING, CONFIG_READY, AT(rego_path), NULL, "File with the policy.", NULL},
};
static const struct config_section opa_local_section = {.title = "local",
                                                        .size = sizeof(struct opa_local_file),
                                                        .given = AT(given),
                                                        .unknown = CONFIG_NO_OFFSET,
                                                        .options = opa_local_options,
                                                        .count = COUNT(opa_local_options)};
#undef AT

#define AT(field) offsetof(struct opa_file, field)
static const struct config_option opa_options[] = {
    {"local", CONFIG_BLOCK, CONFIG_READY, AT(local), NULL, "A policy in local files.", &opa_local_section},
};
static const struct config_section opa_section = {.title = "auth_opa_policy_engine",
                                                  .size = sizeof(struct opa_file),
                                                  .given = AT(given),
                                                  .unknown = CONFIG_NO_OFFSET,
                                                  .options = opa_options,
                                                  .count = COUNT(opa_options)};
#undef AT

#define AT(field) offsetof(struct server_experimental_file, field)
static const struct config_option experimental_options[] = {
    {"agent_spiffe_id_as_selector", CONFIG_BOOL, CONFIG_READY, AT(agent_spiffe_id_as_selector), "false",
     "Adds an agent's SPIFFE ID to its selectors.", NULL},
    {"auth_opa_policy_engine", CONFIG_BLOCK, CONFIG_LATER, AT(auth_opa_policy_engine), NULL,
     "Own rules for who may call what.", &opa_section},
    {"cache_reload_interval", CONFIG_STRING, CONFIG_READY, AT(cache_reload_interval), "5s",
     "Of no effect: changes are seen at once, those of other servers on the same database within 5 s.", NULL},
    {"event_timeout", CONFIG_STRING, CONFIG_READY, AT(event_timeout), "15m",
     "Of no effect: the entry cache does not depend on event numbers.", NULL},
    {"events_based_cache", CONFIG_BOOL, CONFIG_READY, AT(events_based_cache), "false",
     "Read changes from the event tables. The entry cache always works that way here, so both values are "
     "fine.",
     NULL},
    {"feature_flags", CONFIG_STRINGS, CONFIG_READY, AT(feature_flags), NULL,
     "Developer switches. The known one, `wit-svid`, is not supported yet.", NULL},
    {"full_cache_reload_interval", CONFIG_STRING, CONFIG_READY, AT(full_cache_reload_interval), "24h",
     "Of no effect: the entry cache is never rebuilt.", NULL},
    {"named_pipe_name", CONFIG_STRING, CONFIG_LATER, AT(named_pipe_name), NULL, "Windows only; refused.",
     NULL},
    {"prune_events_older_than", CONFIG_STRING, CONFIG_READY, AT(prune_events_older_than), "12h",
     "How long event rows are kept.", NULL},
    {"require_pq_kem", CONFIG_BOOL, CONFIG_LATER, AT(require_pq_kem), "false",
     "Only post-quantum key exchange in TLS.", NULL},
    {"sql_transaction_timeout", CONFIG_STRING, CONFIG_READY, AT(sql_transaction_timeout), NULL,
     "Older name of `event_timeout`; of no effect either.", NULL},
    {"wit_issuer", CONFIG_STRING, CONFIG_READY, AT(wit_issuer), NULL,
     "Issuer of WIT-SVIDs. Of no effect without the `wit-svid` flag.", NULL},
    {"wit_key_type", CONFIG_STRING, CONFIG_READY, AT(wit_key_type), NULL,
     "Key type for WIT-SVIDs. Of no effect without the `wit-svid` flag.", NULL},
};
const struct config_section server_experimental_section = {.title = "experimental",
                                                           .size = sizeof(struct server_experimental_file),
                                                           .given = CONFIG_NO_OFFSET,
                                                           .unknown = AT(unknown),
                                                           .options = experimental_options,
                                                           .count = COUNT(experimental_options)};
#undef AT

#define AT(field) offsetof(struct server_section_file, field)
static const struct config_option server_options[] = {
    {"admin_ids", CONFIG_STRINGS, CONFIG_READY, AT(admin_ids), NULL,
     "SPIFFE IDs whose callers are administrators without an entry saying so.", NULL},
    {"agent_ttl", CONFIG_STRING, CONFIG_READY, AT(agent_ttl), NULL,
     "Lifetime of agents' SVIDs. Default: that of `default_x509_svid_ttl`.", NULL},
    {"audit_log_enabled", CONFIG_BOOL, CONFIG_READY, AT(audit_log_enabled), "false",
     "Logs each API call with who made it and what came of it.", NULL},
    {"bind_address", CONFIG_STRING, CONFIG_READY, AT(bind_address), "0.0.0.0",
     "Address or name agents connect to.", NULL},
    {"bind_port", CONFIG_INT, CONFIG_READY, AT(bind_port), "8081", "Port agents connect to.", NULL},
    {"ca_key_type", CONFIG_STRING, CONFIG_READY, AT(ca_key_type), "ec-p256",
     "Key type of the X.509 authority, and of the JWT authority unless `jwt_key_type` is set: rsa-2048, "
     "rsa-4096, "
     "ec-p256 or ec-p384.",
     NULL},
    {"ca_subject", CONFIG_BLOCK, CONFIG_READY, AT(ca_subject), NULL,
     "Subject of CA certificates. Default: C=US, O=SPIFFE.", &ca_subject_section},
    {"ca_ttl", CONFIG_STRING, CONFIG_READY, AT(ca_ttl), "24h", "Lifetime of CA certificates and JWT keys.",
     NULL},
    {"data_dir", CONFIG_STRING, CONFIG_READY, AT(data_dir), NULL, "Folder for what the server keeps. Needed.",
     NULL},
    {"default_jwt_svid_ttl", CONFIG_STRING, CONFIG_READY, AT(default_jwt_svid_ttl), "5m",
     "Lifetime of JWT-SVIDs whose entry names none.", NULL},
    {"default_x509_svid_ttl", CONFIG_STRING, CONFIG_READY, AT(default_x509_svid_ttl), "1h",
     "Lifetime of X509-SVIDs whose entry names none.", NULL},
    {"disable_jwt_svids", CONFIG_BOOL, CONFIG_READY, AT(disable_jwt_svids), "false", "No JWT-SVIDs at all.",
     NULL},
    {"experimental", CONFIG_BLOCK, CONFIG_READY, AT(experimental), NULL, "Options that may change.",
     &server_experimental_section},
    {"federation", CONFIG_BLOCK, CONFIG_READY, AT(federation), NULL,
     "Exchange of bundles with other trust domains.", &federation_section},
    {"jwt_issuer", CONFIG_STRING, CONFIG_READY, AT(jwt_issuer), NULL, "The `iss` claim of JWT-SVIDs.", NULL},
    {"jwt_key_type", CONFIG_STRING, CONFIG_READY, AT(jwt_key_type), NULL,
     "Key type of the JWT authority. Default: that of `ca_key_type`.", NULL},
    {"log_file", CONFIG_STRING, CONFIG_READY, AT(log_file), NULL, "File to log to. Default: standard output.",
     NULL},
    {"log_format", CONFIG_STRING, CONFIG_READY, AT(log_format), "text", "text or json.", NULL},
    {"log_level", CONFIG_STRING, CONFIG_READY, AT(log_level), "INFO",
     "panic, fatal, error, warn, info, debug or trace.", NULL},
    {"log_source_location", CONFIG_BOOL, CONFIG_READY, AT(log_source_location), "false",
     "Adds file, line and function to log lines.", NULL},
    {"max_attested_node_info_staleness", CONFIG_STRING, CONFIG_READY, AT(max_attested_node_info_staleness),
     "0s", "Of no effect: what is known about agents is kept in memory and is current.", NULL},
    {"profiling_enabled", CONFIG_BOOL, CONFIG_LATER, AT(profiling_enabled), "false",
     "Go's profiling endpoint.", NULL},
    {"profiling_freq", CONFIG_INT, CONFIG_READY, AT(profiling_freq), NULL,
     "Of no effect while `profiling_enabled` is false, as the next two.", NULL},
    {"profiling_names", CONFIG_STRINGS, CONFIG_READY, AT(profiling_names), NULL, "Profiles to write.", NULL},
    {"profiling_port", CONFIG_INT, CONFIG_READY, AT(profiling_port), NULL, "Port of the profiling endpoint.",
     NULL},
    {"proxy_protocol_trusted_cidrs", CONFIG_STRINGS, CONFIG_LATER, AT(proxy_protocol_trusted_cidrs), NULL,
     "Networks of proxies whose PROXY protocol header is believed.", NULL},
    {"prune_attested_nodes_batch_size", CONFIG_INT, CONFIG_READY, AT(prune_attested_nodes_batch_size), NULL,
     "How many agents are pruned at once.", NULL},
    {"prune_attested_nodes_expired_for", CONFIG_STRING, CONFIG_READY, AT(prune_attested_nodes_expired_for),
     NULL, "Removes agents whose SVID ended longer ago than this. Default: none are removed.", NULL},
    {"prune_tofu_nodes", CONFIG_BOOL, CONFIG_READY, AT(prune_tofu_nodes), "false",
     "Prunes agents that cannot attest again, too.", NULL},
    {"ratelimit", CONFIG_BLOCK, CONFIG_READY, AT(ratelimit), NULL, "Limits per caller.", &ratelimit_section},
    {"socket_path", CONFIG_STRING, CONFIG_READY, AT(socket_path), SERVER_CONFIG_DEFAULT_SOCKET,
     "Unix socket of the server's API.", NULL},
    {"trust_domain", CONFIG_STRING, CONFIG_READY, AT(trust_domain), NULL, "The trust domain served. Needed.",
     NULL},
    {"default_svid_ttl", CONFIG_STRING, CONFIG_REMOVED, 0, NULL,
     "Now `default_x509_svid_ttl` and `default_jwt_svid_ttl`.", NULL},
    {"omit_x509svid_uid", CONFIG_BOOL, CONFIG_REMOVED, 0, NULL,
     "Now the CredentialComposer plugin `uniqueid`.", NULL},
    {"registration_uds_path", CONFIG_STRING, CONFIG_REMOVED, 0, NULL, "Now `socket_path`.", NULL},
    {"svid_ttl", CONFIG_STRING, CONFIG_REMOVED, 0, NULL, "Now `default_x509_svid_ttl`.", NULL},
    {"upstream_bundle", CONFIG_BOOL, CONFIG_REMOVED, 0, NULL, "The upstream's bundle is always used.", NULL},
};
static const struct config_section server_section = {.title = "server",
                                                     .strict = true,
                                                     .size = sizeof(struct server_section_file),
                                                     .given = CONFIG_NO_OFFSET,
                                                     .unknown = AT(unknown),
                                                     .options = server_options,
                                                     .count = COUNT(server_options)};
#undef AT

#define AT(field) offsetof(struct server_file, field)
static const struct config_option top_options[] = {
    {"server", CONFIG_BLOCK, CONFIG_READY, AT(server), NULL, "The server itself.", &server_section},
    {"plugins", CONFIG_TREE, CONFIG_READY, AT(plugins), NULL,
     "One block per plugin: `KeyManager \"disk\" { ... }`.", NULL},
    {"telemetry", CONFIG_BLOCK, CONFIG_READY, AT(telemetry), NULL, "Metrics.", &config_telemetry_section},
    {"health_checks", CONFIG_BLOCK, CONFIG_READY, AT(health_checks), NULL, "Health over HTTP.",
     &config_health_section},
};
const struct config_section server_config_section = {.title = "top-level",
                                                     .strict = true,
                                                     .size = sizeof(struct server_file),
                                                     .given = CONFIG_NO_OFFSET,
                                                     .unknown = AT(unknown),
                                                     .options = top_options,
                                                     .count = COUNT(top_options)};
