/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of the sections both programs have: health_checks and telemetry.
 */
#include "config/common.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define AT(field) offsetof(struct health_file, field)

static const struct config_option health_options[] = {
    {"listener_enabled", CONFIG_BOOL, CONFIG_READY, AT(listener_enabled), "false",
     "Whether to listen for health checks over HTTP.", NULL},
    {"bind_address", CONFIG_STRING, CONFIG_READY, AT(bind_address), "localhost",
     "Address or name to listen on.", NULL},
    {"bind_port", CONFIG_STRING, CONFIG_READY, AT(bind_port), "80", "Port to listen on.", NULL},
    {"live_path", CONFIG_STRING, CONFIG_READY, AT(live_path), "/live",
     "HTTP path that says whether the process is alive.", NULL},
    {"ready_path", CONFIG_STRING, CONFIG_READY, AT(ready_path), "/ready",
     "HTTP path that says whether the process can serve.", NULL},
};
const struct config_section config_health_section = {.title = "health check",
                                                     .strict = true,
                                                     .size = sizeof(struct health_file),
                                                     .given = CONFIG_NO_OFFSET,
                                                     .unknown = AT(unknown),
                                                     .options = health_options,
                                                     .count = COUNT(health_options)};
#undef AT

#define AT(field) offsetof(struct sink_file, field)
static const struct config_option statsd_options[] = {
    {"address", CONFIG_STRING, CONFIG_READY, AT(address), NULL, "Address of the collector, host:port.", NULL},
};
static const struct config_option m3_options[] = {
    {"address", CONFIG_STRING, CONFIG_READY, AT(address), NULL, "Address of the collector, host:port.", NULL},
    {"env", CONFIG_STRING, CONFIG_READY, AT(env), NULL, "Name of the environment, sent as a tag.", NULL},
};
#define SINK(name, label, rows, n)                                                                           \
    static const struct config_section name = {.title = (label),                                             \
                                               .strict = true,                                               \
                                               .size = sizeof(struct sink_file),                             \
                                               .given = AT(given),                                           \
                                               .unknown = AT(unknown),                                       \
                                               .options = (rows),                                            \
                                               .count = (n)}
SINK(dogstatsd_section, "DogStatsd", statsd_options, COUNT(statsd_options));
SINK(statsd_section, "Statsd", statsd_options, COUNT(statsd_options));
SINK(m3_section, "M3", m3_options, COUNT(m3_options));
SINK(inmem_section, "InMem", NULL, 0);
#undef AT

#define AT(field) offsetof(struct prometheus_tls_file, field)
static const struct config_option prometheus_tls_options[] = {
    {"cert_file", CONFIG_STRING, CONFIG_READY, AT(cert_file), NULL, "PEM file with the certificate to serve.",
     NULL},
    {"key_file", CONFIG_STRING, CONFIG_READY, AT(key_file), NULL, "PEM file with its private key.", NULL},
    {"client_ca_file", CONFIG_STRING, CONFIG_READY, AT(client_ca_file), NULL,
     "PEM file with the authorities of clients; asks clients for certificates.", NULL},
    {"use_spire_svid", CONFIG_BOOL, CONFIG_READY, AT(use_spire_svid), "false",
     "Serve with the program's own X509-SVID instead.", NULL},
    {"authorized_spiffe_ids", CONFIG_STRINGS, CONFIG_READY, AT(authorized_spiffe_ids), NULL,
     "SPIFFE IDs that may read, with use_spire_svid.", NULL},
};
static const struct config_section prometheus_tls_section = {.title = "Prometheus TLS",
                                                             .size = sizeof(struct prometheus_tls_file),
                                                             .given = AT(given),
                                                             .unknown = CONFIG_NO_OFFSET,
                                                             .options = prometheus_tls_options,
                                                             .count = COUNT(prometheus_tls_options)};
#undef AT

#define AT(field) offsetof(struct prometheus_file, field)
static const struct config_option prometheus_options[] = {
    {"host", CONFIG_STRING, CONFIG_READY, AT(host), NULL, "Address to listen on.", NULL},
    {"port", CONFIG_INT, CONFIG_READY, AT(port), NULL, "Port to listen on.", NULL},
    {"tls", CONFIG_BLOCK, CONFIG_READY, AT(tls), NULL, "Serve over TLS.", &prometheus_tls_section},
};
static const struct config_section prometheus_section = {.title = "Prometheus",
                                                         .strict = true,
                                                         .size = sizeof(struct prometheus_file),
                                                         .given = AT(given),
                                                         .unknown = AT(unknown),
                                                         .options = prometheus_options,
                                                         .count = COUNT(prometheus_options)};
#undef AT

#define AT(field) offsetof(struct telemetry_file, field)
static const struct config_option telemetry_options[] = {
    {"Prometheus", CONFIG_BLOCK, CONFIG_LATER, AT(prometheus), NULL, "Metrics for Prometheus to fetch.",
     &prometheus_section},
    {"DogStatsd", CONFIG_BLOCKS, CONFIG_LATER, AT(dogstatsd), NULL, "Collectors of Datadog's statsd.",
     &dogstatsd_section},
    {"Statsd", CONFIG_BLOCKS, CONFIG_LATER, AT(statsd), NULL, "Collectors of statsd.", &statsd_section},
    {"M3", CONFIG_BLOCKS, CONFIG_LATER, AT(m3), NULL, "Collectors of M3.", &m3_section},
    {"InMem", CONFIG_BLOCK, CONFIG_READY, AT(inmem), NULL, "Metrics in memory; nothing reads them.",
     &inmem_section},
    {"MetricPrefix", CONFIG_STRING, CONFIG_READY, AT(metric_prefix), NULL,
     "What metric names begin with. Of no effect without a sink, as the rest.", NULL},
    {"EnableTrustDomainLabel", CONFIG_BOOL, CONFIG_READY, AT(enable_trust_domain_label), "false",
     "Label metrics with the trust domain.", NULL},
    {"EnableHostnameLabel", CONFIG_BOOL, CONFIG_READY, AT(enable_hostname_label), "true",
     "Label metrics with the name of the machine.", NULL},
    {"AllowedPrefixes", CONFIG_STRINGS, CONFIG_READY, AT(allowed_prefixes), NULL, "Only these metrics.",
     NULL},
    {"BlockedPrefixes", CONFIG_STRINGS, CONFIG_READY, AT(blocked_prefixes), NULL, "Not these metrics.", NULL},
    {"AllowedLabels", CONFIG_STRINGS, CONFIG_READY, AT(allowed_labels), NULL, "Only these labels.", NULL},
    {"BlockedLabels", CONFIG_STRINGS, CONFIG_READY, AT(blocked_labels), NULL, "Not these labels.", NULL},
};
const struct config_section config_telemetry_section = {.title = "telemetry",
                                                        .size = sizeof(struct telemetry_file),
                                                        .given = CONFIG_NO_OFFSET,
                                                        .unknown = CONFIG_NO_OFFSET,
                                                        .options = telemetry_options,
                                                        .count = COUNT(telemetry_options)};
