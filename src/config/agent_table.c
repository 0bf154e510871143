/* SPDX-License-Identifier: Apache-2.0
 *
 * Every option of agent.conf (SPIRE 1.15, doc/spire_agent.md), in alphabetical order per block.
 */
#include "config/agent_config.h"
#include "config/agent_file.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define AT(field) offsetof(struct sds_file, field)
static const struct config_option sds_options[] = {
    {"default_all_bundles_name", CONFIG_STRING, CONFIG_READY, AT(default_all_bundles_name), "ALL",
     "Name Envoy asks all bundles by.", NULL},
    {"default_bundle_name", CONFIG_STRING, CONFIG_READY, AT(default_bundle_name), "ROOTCA",
     "Name Envoy asks the trust domain's bundle by.", NULL},
    {"default_svid_name", CONFIG_STRING, CONFIG_READY, AT(default_svid_name), "default",
     "Name Envoy asks the first X509-SVID by.", NULL},
    {"disable_spiffe_cert_validation", CONFIG_BOOL, CONFIG_READY, AT(disable_spiffe_cert_validation), "false",
     "Hands Envoy plain authorities, without its SPIFFE validator.", NULL},
};
static const struct config_section sds_section = {.title = "sds",
                                                  .size = sizeof(struct sds_file),
                                                  .given = CONFIG_NO_OFFSET,
                                                  .unknown = CONFIG_NO_OFFSET,
                                                  .options = sds_options,
                                                  .count = COUNT(sds_options)};
#undef AT

#define AT(field) offsetof(struct workload_ratelimit_file, field)
#define RATE(name, doc)                                                                                      \
    {                                                                                                        \
#name, CONFIG_INT, CONFIG_READY, AT(name), "0", doc, NULL                                            \
    }
static const struct config_option ratelimit_options[] = {
    RATE(fetch_jwt_bundles, "FetchJWTBundles streams opened per second and selector set; 0: no limit."),
    RATE(fetch_jwt_svid, "The same for FetchJWTSVID calls."),
    RATE(fetch_secrets, "The same for Envoy's FetchSecrets calls."),
    RATE(fetch_x509_bundles, "The same for FetchX509Bundles streams."),
    RATE(fetch_x509_svid, "The same for FetchX509SVID streams."),
    RATE(stream_secrets, "The same for Envoy's StreamSecrets streams."),
};
static const struct config_section ratelimit_section = {.title = "ratelimit",
                                                        .strict = true,
                                                        .size = sizeof(struct workload_ratelimit_file),
                                                        .given = CONFIG_NO_OFFSET,
                                                        .unknown = AT(unknown),
                                                        .options = ratelimit_options,
                                                        .count = COUNT(ratelimit_options)};
#undef AT

#define AT(field) offsetof(struct broker_type_file, field)
static const struct config_option broker_type_options[] = {
    {"allow_over_tcp", CONFIG_BOOL, CONFIG_READY, AT(allow_over_tcp), "false", "Also over TCP.", NULL},
    {"type_url", CONFIG_STRING, CONFIG_READY, AT(type_url), NULL, "Type of the reference; `*` for any.",
     NULL},
};
static const struct config_section broker_type_section = {.title = "allowed_reference_types",
                                                          .strict = true,
                                                          .size = sizeof(struct broker_type_file),
                                                          .given = CONFIG_NO_OFFSET,
                                                          .unknown = AT(unknown),
                                                          .options = broker_type_options,
                                                          .count = COUNT(broker_type_options)};
#undef AT

#define AT(field) offsetof(struct broker_entry_file, field)
static const struct config_option broker_entry_options[] = {
    {"allowed_reference_types", CONFIG_BLOCKS, CONFIG_READY, AT(allowed_reference_types), NULL,
     "What the broker may refer to workloads by.", &broker_type_section},
    {"id", CONFIG_STRING, CONFIG_READY, AT(id), NULL, "SPIFFE ID of the broker.", NULL},
};
static const struct config_section broker_entry_section = {.title = "brokers",
                                                           .strict = true,
                                                           .size = sizeof(struct broker_entry_file),
                                                           .given = CONFIG_NO_OFFSET,
                                                           .unknown = AT(unknown),
                                                           .options = broker_entry_options,
                                                           .count = COUNT(broker_entry_options)};
#undef AT

#define AT(field) offsetof(struct broker_file, field)
static const struct config_option broker_options[] = {
    {"bind_address", CONFIG_STRING, CONFIG_READY, AT(bind_address), NULL, "host:port to listen on.", NULL},
    {"brokers", CONFIG_BLOCKS, CONFIG_READY, AT(brokers), NULL, "Who may call.", &broker_entry_section},
    {"socket_path", CONFIG_STRING, CONFIG_READY, AT(socket_path), NULL, "Unix socket to listen on.", NULL},
};
static const struct config_section broker_section = {.title = "experimental.broker",
                                                     .strict = true,
                                                     .size = sizeof(struct broker_file),
                                                     .given = AT(given),
                                                     .unknown = AT(unknown),
                                                     .options = broker_options,
                                                     .count = COUNT(broker_options)};
#undef AT

#define AT(field) offsetof(struct agent_experimental_file, field)
static const struct config_option experimental_options[] = {
    {"admin_named_pipe_name", CONFIG_STRING, CONFIG_LATER, AT(admin_named_pipe_name), NULL,
     "Windows only; refused.", NULL},
    {"broker", CONFIG_BLOCK, CONFIG_LATER, AT(broker), NULL, "The SPIFFE Broker API.", &broker_section},
    {"feature_flags", CONFIG_STRINGS, CONFIG_READY, AT(feature_flags), NULL,
     "Developer switches. The known one, `wit-svid`, is not supported yet.", NULL},
    {"jwt_svid_cache_hit_timeout", CONFIG_STRING, CONFIG_READY, AT(jwt_svid_cache_hit_timeout), "30s",
     "How long the server is waited for when a cached JWT-SVID could serve: 5s or more, less than 30s.",
     NULL},
    {"named_pipe_name", CONFIG_STRING, CONFIG_LATER, AT(named_pipe_name), NULL, "Windows only; refused.",
     NULL},
    {"ratelimit", CONFIG_BLOCK, CONFIG_READY, AT(ratelimit), NULL, "Limits per caller of the Workload API.",
     &ratelimit_section},
    {"require_pq_kem", CONFIG_BOOL, CONFIG_LATER, AT(require_pq_kem), "false",
     "Only post-quantum key exchange in TLS.", NULL},
    {"sync_interval", CONFIG_STRING, CONFIG_READY, AT(sync_interval), "5s",
     "How often entries are fetched from the server.", NULL},
    {"use_sync_authorized_entries", CONFIG_BOOL, CONFIG_READY, AT(use_sync_authorized_entries), "true",
     "Fetch only entries that changed. Deprecated.", NULL},
};
const struct config_section agent_experimental_section = {.title = "experimental",
                                                          .size = sizeof(struct agent_experimental_file),
                                                          .given = CONFIG_NO_OFFSET,
                                                          .unknown = CONFIG_NO_OFFSET,
                                                          .options = experimental_options,
                                                          .count = COUNT(experimental_options)};
#undef AT

#define AT(field) offsetof(struct enclave_file, field)
static const struct config_option enclave_options[] = {
    {"command", CONFIG_STRINGS, CONFIG_READY, AT(command), NULL,
     "The workload: a program (absolute path) and its arguments, started once there is an identity. Its end "
     "ends "
     "the agent, with the same status.",
     NULL},
    {"gid", CONFIG_INT, CONFIG_READY, AT(gid), NULL,
     "Group of the files and of `command`. Default: the agent's own.", NULL},
    {"hint", CONFIG_STRING, CONFIG_READY, AT(hint), NULL,
     "Hint of the entry whose identity is written to the files. Default: the first that the Workload API "
     "hands "
     "out.",
     NULL},
    {"server_proxy", CONFIG_STRING, CONFIG_READY, AT(server_proxy), NULL,
     "Way to the server: `http://HOST:PORT` (HTTP CONNECT), `vsock://CID:PORT` (somebody there passes on to "
     "the "
     "server), or `http+vsock://CID:PORT` (HTTP CONNECT over vsock). Default: directly.",
     NULL},
    {"svid_bundle_file_name", CONFIG_STRING, CONFIG_READY, AT(svid_bundle_file_name), "svid_bundle.pem",
     "Authorities of the trust domain.", NULL},
    {"svid_dir", CONFIG_STRING, CONFIG_READY, AT(svid_dir), "/var/run/spiffe",
     "Folder for the files; made when it is missing. `\"\"`: no files.", NULL},
    {"svid_file_name", CONFIG_STRING, CONFIG_READY, AT(svid_file_name), "svid.pem",
     "The X509-SVID, then its intermediates.", NULL},
    {"svid_key_file_name", CONFIG_STRING, CONFIG_READY, AT(svid_key_file_name), "svid_key.pem",
     "Its private key, PKCS #8.", NULL},
    {"uid", CONFIG_INT, CONFIG_READY, AT(uid), NULL,
     "User of the files and of `command`. Default: the agent's own.", NULL},
    {"workload_api_addr", CONFIG_STRING, CONFIG_READY, AT(workload_api_addr), "127.0.0.1:5000",
     "Loopback address for the Workload API without encryption. `\"\"`: only the Unix socket, if "
     "`socket_path` "
     "is given.",
     NULL},
};
static const struct config_section enclave_section = {.title = "enclave",
                                                      .strict = true,
                                                      .size = sizeof(struct enclave_file),
                                                      .given = AT(given),
                                                      .unknown = AT(unknown),
                                                      .options = enclave_options,
                                                      .count = COUNT(enclave_options)};
#undef AT

#define AT(field) offsetof(struct agent_section_file, field)
static const struct config_option agent_options[] = {
    {"admin_socket_path", CONFIG_STRING, CONFIG_READY, AT(admin_socket_path), NULL,
     "Unix socket of the admin API. Default: none.", NULL},
    {"allow_unauthenticated_verifiers", CONFIG_BOOL, CONFIG_READY, AT(allow_unauthenticated_verifiers),
     "false", "Hands bundles to callers without an identity.", NULL},
    {"allowed_foreign_jwt_claims", CONFIG_STRINGS, CONFIG_READY, AT(allowed_foreign_jwt_claims), NULL,
     "Claims shown when a JWT-SVID of another trust domain is validated.", NULL},
    {"authorized_delegates", CONFIG_STRINGS, CONFIG_LATER, AT(authorized_delegates), NULL,
     "SPIFFE IDs that may use the Delegated Identity API.", NULL},
    {"availability_target", CONFIG_STRING, CONFIG_READY, AT(availability_target), NULL,
     "For how long SVIDs should outlast a server that is away: 24h or more.", NULL},
    {"data_dir", CONFIG_STRING, CONFIG_READY, AT(data_dir), ".", "Folder for what the agent keeps.", NULL},
    {"disable_sds_api", CONFIG_BOOL, CONFIG_READY, AT(disable_sds_api), "false", "No Envoy SDS API.", NULL},
    {"disable_workload_api", CONFIG_BOOL, CONFIG_READY, AT(disable_workload_api), "false", "No Workload API.",
     NULL},
    {"enclave", CONFIG_BLOCK, CONFIG_READY, AT(enclave), NULL,
     "Enclave mode, which SPIRE does not have: node and workload are one, see [enclaves.md](enclaves.md).",
     &enclave_section},
    {"experimental", CONFIG_BLOCK, CONFIG_READY, AT(experimental), NULL, "Options that may change.",
     &agent_experimental_section},
    {"insecure_bootstrap", CONFIG_BOOL, CONFIG_READY, AT(insecure_bootstrap), "false",
     "Believe the server at first contact. Not for production.", NULL},
    {"join_token", CONFIG_STRING, CONFIG_READY, AT(join_token), NULL,
     "Token from `spire-server token generate`.", NULL},
    {"join_token_file", CONFIG_STRING, CONFIG_READY, AT(join_token_file), NULL, "File with such a token.",
     NULL},
    {"jwt_svid_cache_max_size", CONFIG_INT, CONFIG_READY, AT(jwt_svid_cache_max_size), "1000",
     "Most JWT-SVIDs kept.", NULL},
    {"log_file", CONFIG_STRING, CONFIG_READY, AT(log_file), NULL, "File to log to. Default: standard output.",
     NULL},
    {"log_format", CONFIG_STRING, CONFIG_READY, AT(log_format), "text", "text or json.", NULL},
    {"log_level", CONFIG_STRING, CONFIG_READY, AT(log_level), "INFO",
     "panic, fatal, error, warn, info, debug or trace.", NULL},
    {"log_selectors", CONFIG_STRINGS, CONFIG_READY, AT(log_selectors), NULL,
     "Selector prefixes whose values may be logged, such as `unix:user`.", NULL},
    {"log_source_location", CONFIG_BOOL, CONFIG_READY, AT(log_source_location), "false",
     "Adds file, line and function to log lines.", NULL},
    {"profiling_enabled", CONFIG_BOOL, CONFIG_LATER, AT(profiling_enabled), "false",
     "Go's profiling endpoint.", NULL},
    {"profiling_freq", CONFIG_INT, CONFIG_READY, AT(profiling_freq), NULL,
     "Of no effect while `profiling_enabled` is false, as the next two.", NULL},
    {"profiling_names", CONFIG_STRINGS, CONFIG_READY, AT(profiling_names), NULL, "Profiles to write.", NULL},
    {"profiling_port", CONFIG_INT, CONFIG_READY, AT(profiling_port), NULL, "Port of the profiling endpoint.",
     NULL},
    {"rebootstrap_delay", CONFIG_STRING, CONFIG_READY, AT(rebootstrap_delay), "10m",
     "How long a server that is not trusted is refused before bootstrapping again.", NULL},
    {"rebootstrap_mode", CONFIG_STRING, CONFIG_READY, AT(rebootstrap_mode), "never",
     "never, auto or always bootstrap again when the server is not trusted any more.", NULL},
    {"sds", CONFIG_BLOCK, CONFIG_READY, AT(sds), NULL, "The Envoy SDS API.", &sds_section},
    {"server_address", CONFIG_STRING, CONFIG_READY, AT(server_address), NULL,
     "Name or address of the server. Needed.", NULL},
    {"server_port", CONFIG_INT, CONFIG_READY, AT(server_port), NULL, "Port of the server. Needed.", NULL},
    {"socket_path", CONFIG_STRING, CONFIG_READY, AT(socket_path), AGENT_CONFIG_DEFAULT_SOCKET,
     "Unix socket of the Workload API.", NULL},
    {"trust_bundle_format", CONFIG_STRING, CONFIG_READY, AT(trust_bundle_format), "pem", "pem or spiffe.",
     NULL},
    {"trust_bundle_path", CONFIG_STRING, CONFIG_READY, AT(trust_bundle_path), NULL,
     "File with the server's bundle, for the first contact. One of the four ways is needed: this, "
     "`trust_bundle_url`, `trust_bundle_spiffe_workload_api` or `insecure_bootstrap`.",
     NULL},
    {"trust_bundle_spiffe_workload_api", CONFIG_STRING, CONFIG_LATER, AT(trust_bundle_spiffe_workload_api),
     NULL, "Workload API endpoint to take the bundle from.", NULL},
    {"trust_bundle_unix_socket", CONFIG_STRING, CONFIG_READY, AT(trust_bundle_unix_socket), NULL,
     "Fetch trust_bundle_url over this Unix socket (then the URL begins with http://).", NULL},
    {"trust_bundle_url", CONFIG_STRING, CONFIG_READY, AT(trust_bundle_url), NULL,
     "URL of the server's bundle, https.", NULL},
    {"trust_domain", CONFIG_STRING, CONFIG_READY, AT(trust_domain), NULL, "The agent's trust domain. Needed.",
     NULL},
    {"workload_x509_svid_key_type", CONFIG_STRING, CONFIG_READY, AT(workload_x509_svid_key_type), "ec-p256",
     "Key type of workloads' X509-SVIDs: ec-p256, ec-p384 or rsa-2048.", NULL},
    {"x509_svid_cache_max_size", CONFIG_INT, CONFIG_READY, AT(x509_svid_cache_max_size), "1000",
     "How many X509-SVIDs nobody asks for are kept, about.", NULL},
    {"enable_sds", CONFIG_BOOL, CONFIG_REMOVED, 0, NULL, "The SDS API is on unless `disable_sds_api`.", NULL},
    {"retry_bootstrap", CONFIG_BOOL, CONFIG_REMOVED, 0, NULL, "The agent always tries again.", NULL},
};
static const struct config_section agent_section = {.title = "agent",
                                                    .strict = true,
                                                    .size = sizeof(struct agent_section_file),
                                                    .given = CONFIG_NO_OFFSET,
                                                    .unknown = AT(unknown),
                                                    .options = agent_options,
                                                    .count = COUNT(agent_options)};
#undef AT

#define AT(field) offsetof(struct agent_file, field)
static const struct config_option top_options[] = {
    {"agent", CONFIG_BLOCK, CONFIG_READY, AT(agent), NULL, "The agent itself.", &agent_section},
    {"plugins", CONFIG_TREE, CONFIG_READY, AT(plugins), NULL,
     "One block per plugin: `KeyManager \"disk\" { ... }`.", NULL},
    {"telemetry", CONFIG_BLOCK, CONFIG_READY, AT(telemetry), NULL, "Metrics.", &config_telemetry_section},
    {"health_checks", CONFIG_BLOCK, CONFIG_READY, AT(health_checks), NULL, "Health over HTTP.",
     &config_health_section},
};
const struct config_section agent_config_section = {.title = "top-level",
                                                    .strict = true,
                                                    .size = sizeof(struct agent_file),
                                                    .given = CONFIG_NO_OFFSET,
                                                    .unknown = AT(unknown),
                                                    .options = top_options,
                                                    .count = COUNT(top_options)};
