/* SPDX-License-Identifier: Apache-2.0 */
#include "config/attestor_config.h"

#include "base/text.h"

#include <stdlib.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"

static const char *or_else(const char *text, const char *fallback)
{
    return text != NULL && *text != '\0' ? text : fallback;
}

static cs_code read_section(struct cs_slice text, const struct config_section *s, struct cs_arena *a,
                            void *out, struct cs_err *e)
{
    struct hcl_items items;
    cs_code rc = hcl_parse(text, a, &items, e);
    if (rc == CS_OK)
        rc = config_decode(s, items, "root", a, out, e);
    return rc == CS_INVALID ? cs_wrap(e, "unable to decode configuration") : rc;
}

#define SIGSTORE_DOC "Verifying image signatures. Not supported yet."

/* --- docker --- */

struct docker_file {
    const char *docker_socket_path, *docker_version, *podman_socket_path, *podman_socket_path_template;
    struct config_strings container_id_cgroup_matchers, unknown;
    struct config_bool use_new_container_locator, verbose_container_locator_logs;
    struct config_tree sigstore;
};
#define DOCKER_SOCKET "unix:///var/run/docker.sock"
#define PODMAN_SOCKET "unix:///run/podman/podman.sock"
#define PODMAN_TEMPLATE "unix:///run/user/%d/podman/podman.sock"
#define AT(field) offsetof(struct docker_file, field)
static const struct config_option docker_options[] = {
    {"docker_socket_path", CONFIG_STRING, CONFIG_READY, AT(docker_socket_path), DOCKER_SOCKET,
     "Where the Docker engine listens: `unix:///path` or `tcp://host:port`.", NULL},
    {"docker_version", CONFIG_STRING, CONFIG_READY, AT(docker_version), NULL,
     "Version of the engine's API, such as `1.41`. Not given: the engine's own.", NULL},
    {"container_id_cgroup_matchers", CONFIG_STRINGS, CONFIG_READY, AT(container_id_cgroup_matchers), NULL,
     "Patterns for cgroup paths, with `use_new_container_locator = false` only: `*` stands for a segment, "
     "`<id>`, once, for the container's ID.",
     NULL},
    {"use_new_container_locator", CONFIG_BOOL, CONFIG_READY, AT(use_new_container_locator), "true",
     "Find containers by their ID, wherever in the cgroup's path it is.", NULL},
    {"verbose_container_locator_logs", CONFIG_BOOL, CONFIG_READY, AT(verbose_container_locator_logs), "false",
     "Log all cgroups and mounts of processes, at debug level.", NULL},
    {"podman_socket_path", CONFIG_STRING, CONFIG_READY, AT(podman_socket_path), PODMAN_SOCKET,
     "Where Podman listens for containers of root.", NULL},
    {"podman_socket_path_template", CONFIG_STRING, CONFIG_READY, AT(podman_socket_path_template),
     PODMAN_TEMPLATE, "Where Podman listens for containers of a user, whose ID `%d` stands for.", NULL},
    {"sigstore", CONFIG_TREE, CONFIG_LATER, AT(sigstore), NULL, SIGSTORE_DOC, NULL},
};
#undef AT
const struct config_section config_docker_section = {.title = "docker",
                                                     .strict = true,
                                                     .size = sizeof(struct docker_file),
                                                     .given = CONFIG_NO_OFFSET,
                                                     .unknown = offsetof(struct docker_file, unknown),
                                                     .options = docker_options,
                                                     .count = COUNT(docker_options)};

static cs_code check_template(const char *text, struct cs_err *e)
{
    const char *why = NULL;
    size_t numbers = 0;
    for (const char *p = text; *p != '\0' && why == NULL; p++) {
        if (*p != '%')
            continue;
        p++;
        numbers += *p == 'd';
        if (*p == '\0') {
            why = "trailing % at end of template";
            break;
        }
        if (*p != 'd' && *p != '%')
            why = "template only supports escaped %% or the %d UID placeholder";
    }
    if (why == NULL && numbers != 1)
        why = "template must contain exactly one %d UID placeholder";
    return why == NULL ? CS_OK : cs_fail(e, CS_INVALID, "invalid podman_socket_path_template: %s", why);
}

static cs_code check_socket(const char *text, struct cs_err *e)
{
    if (strncmp(text, "unix://", 7) == 0 || strncmp(text, "tcp://", 6) == 0)
        return CS_OK;
    return strstr(text, "://") == NULL
               ? cs_fail(e, CS_INVALID, "unable to parse docker host `%.300s`", text)
               : cs_fail(e, CS_INVALID, "docker host `%.300s` is neither unix:// nor tcp://", text);
}

#define LOCATOR_OR_MATCHERS                                                                                  \
    "the new container locator and custom cgroup matchers cannot both be used; please open an issue if the " \
    "new container locator fails to locate workload containers in your environment; to continue using "      \
    "custom matchers set use_new_container_locator=false"

cs_code config_read_docker(struct cs_slice text, struct cs_arena *a, struct config_docker *out,
                           struct cs_err *e)
{
    struct docker_file f = {0};
    *out = (struct config_docker){0};
    CS_TRY(read_section(text, &config_docker_section, a, &f, e));
    CS_TRY(config_refuse_unknown(&f.unknown, a, e));
    CS_TRY(config_check_later(&config_docker_section, &f, "", e));
    out->docker_socket_path = or_else(f.docker_socket_path, DOCKER_SOCKET);
    out->docker_version = or_else(f.docker_version, "");
    out->container_id_cgroup_matchers = f.container_id_cgroup_matchers;
    out->podman_socket_path = or_else(f.podman_socket_path, PODMAN_SOCKET);
    out->podman_socket_path_template = or_else(f.podman_socket_path_template, PODMAN_TEMPLATE);
    out->use_new_container_locator = !f.use_new_container_locator.given || f.use_new_container_locator.value;
    out->verbose_container_locator_logs = f.verbose_container_locator_logs.value;
    if (out->container_id_cgroup_matchers.len > 0 && out->use_new_container_locator)
        return cs_fail(e, CS_INVALID, LOCATOR_OR_MATCHERS);
    CS_TRY(check_template(out->podman_socket_path_template, e));
    return check_socket(out->docker_socket_path, e);
}

/* --- k8s --- */

struct k8s_cache_file {
    struct config_bool enabled;
    struct config_strings unknown;
};
struct k8s_api_server_file {
    struct k8s_cache_file cache;
    struct config_strings unknown;
};
struct k8s_experimental_file {
    struct k8s_api_server_file api_server;
    struct config_tree broker;
    struct config_strings unknown;
};
struct k8s_file {
    struct config_int kubelet_read_only_port, kubelet_secure_port, max_poll_attempts;
    struct config_bool disable_kubelet_client, skip_kubelet_verification, use_anonymous_authentication;
    struct config_bool disable_container_selectors, use_new_container_locator, verbose_container_locator_logs;
    struct config_bool enable_namespace_labels;
    const char *poll_retry_interval, *kubelet_ca_path, *token_path, *certificate_path, *private_key_path;
    const char *node_name_env, *node_name, *reload_interval;
    struct config_tree sigstore;
    struct k8s_experimental_file experimental;
    struct config_strings unknown;
};
static const struct config_option k8s_cache_options[] = {
    {"enabled", CONFIG_BOOL, CONFIG_READY, offsetof(struct k8s_cache_file, enabled), "false",
     "Of no effect: a namespace's labels are asked for at each attestation.", NULL},
};
static const struct config_section k8s_cache_section = {.title = "cache",
                                                        .strict = true,
                                                        .size = sizeof(struct k8s_cache_file),
                                                        .given = CONFIG_NO_OFFSET,
                                                        .unknown = offsetof(struct k8s_cache_file, unknown),
                                                        .options = k8s_cache_options,
                                                        .count = COUNT(k8s_cache_options)};
static const struct config_option k8s_api_server_options[] = {
    {"cache", CONFIG_BLOCK, CONFIG_READY, offsetof(struct k8s_api_server_file, cache), NULL,
     "What is kept of its answers.", &k8s_cache_section},
};
static const struct config_section k8s_api_server_section = {
    .title = "api_server",
    .strict = true,
    .size = sizeof(struct k8s_api_server_file),
    .given = CONFIG_NO_OFFSET,
    .unknown = offsetof(struct k8s_api_server_file, unknown),
    .options = k8s_api_server_options,
    .count = COUNT(k8s_api_server_options)};
static const struct config_option k8s_experimental_options[] = {
    {"api_server", CONFIG_BLOCK, CONFIG_READY, offsetof(struct k8s_experimental_file, api_server), NULL,
     "The Kubernetes API server.", &k8s_api_server_section},
    {"broker", CONFIG_TREE, CONFIG_LATER, offsetof(struct k8s_experimental_file, broker), NULL,
     "The SPIFFE Broker API. Not supported yet.", NULL},
};
static const struct config_section k8s_experimental_section = {
    .title = "experimental",
    .strict = true,
    .size = sizeof(struct k8s_experimental_file),
    .given = CONFIG_NO_OFFSET,
    .unknown = offsetof(struct k8s_experimental_file, unknown),
    .options = k8s_experimental_options,
    .count = COUNT(k8s_experimental_options)};

#define AT(field) offsetof(struct k8s_file, field)
static const struct config_option k8s_options[] = {
    {"disable_container_selectors", CONFIG_BOOL, CONFIG_READY, AT(disable_container_selectors), "false",
     "Make no selectors of the container. Then a pod is enough that is known while its container is not yet.",
     NULL},
    {"kubelet_read_only_port", CONFIG_INT, CONFIG_READY, AT(kubelet_read_only_port), NULL,
     "The kubelet's port without TLS, commonly 10255, on 127.0.0.1. Instead of `kubelet_secure_port`.", NULL},
    {"kubelet_secure_port", CONFIG_INT, CONFIG_READY, AT(kubelet_secure_port), "10250",
     "The kubelet's port with TLS.", NULL},
    {"disable_kubelet_client", CONFIG_BOOL, CONFIG_READY, AT(disable_kubelet_client), "false",
     "Ask no kubelet. Then no process can be attested.", NULL},
    {"kubelet_ca_path", CONFIG_STRING, CONFIG_READY, AT(kubelet_ca_path), SERVICE_ACCOUNT "/ca.crt",
     "PEM file with the authorities of the kubelet's certificate.", NULL},
    {"skip_kubelet_verification", CONFIG_BOOL, CONFIG_READY, AT(skip_kubelet_verification), "false",
     "Take any certificate for the kubelet's.", NULL},
    {"token_path", CONFIG_STRING, CONFIG_READY, AT(token_path), SERVICE_ACCOUNT "/token",
     "File with the token that is shown to the kubelet.", NULL},
    {"certificate_path", CONFIG_STRING, CONFIG_READY, AT(certificate_path), NULL,
     "PEM file with a client certificate that is shown to the kubelet instead of a token.", NULL},
    {"private_key_path", CONFIG_STRING, CONFIG_READY, AT(private_key_path), NULL, "Its private key.", NULL},
    {"use_anonymous_authentication", CONFIG_BOOL, CONFIG_READY, AT(use_anonymous_authentication), "false",
     "Show the kubelet neither.", NULL},
    {"node_name_env", CONFIG_STRING, CONFIG_READY, AT(node_name_env), "MY_NODE_NAME",
     "Environment variable with the node's name.", NULL},
    {"node_name", CONFIG_STRING, CONFIG_READY, AT(node_name), NULL,
     "The node's name, where the kubelet is reached and which its certificate must have. Neither given: "
     "127.0.0.1, and the name in the certificate does not count.",
     NULL},
    {"max_poll_attempts", CONFIG_INT, CONFIG_READY, AT(max_poll_attempts), "60",
     "How many lists of pods are looked through for a container.", NULL},
    {"poll_retry_interval", CONFIG_STRING, CONFIG_READY, AT(poll_retry_interval), "500ms",
     "How long a list is good for; the time between two requests to the kubelet.", NULL},
    {"reload_interval", CONFIG_STRING, CONFIG_READY, AT(reload_interval), "1m",
     "How often token, certificates and authorities are read again.", NULL},
    {"use_new_container_locator", CONFIG_BOOL, CONFIG_READY, AT(use_new_container_locator), "true",
     "Find containers by their ID, wherever in the cgroup's path it is; else by the patterns of older "
     "releases.",
     NULL},
    {"verbose_container_locator_logs", CONFIG_BOOL, CONFIG_READY, AT(verbose_container_locator_logs), "false",
     "Log all cgroups and mounts of processes, at debug level.", NULL},
    {"enable_namespace_labels", CONFIG_BOOL, CONFIG_READY, AT(enable_namespace_labels), "false",
     "Make the selectors `k8s:ns-label`, for which the API server is asked.", NULL},
    {"sigstore", CONFIG_TREE, CONFIG_LATER, AT(sigstore), NULL, SIGSTORE_DOC, NULL},
    {"experimental", CONFIG_BLOCK, CONFIG_READY, AT(experimental), NULL, "What SPIRE may change.",
     &k8s_experimental_section},
};
#undef AT
const struct config_section config_k8s_section = {.title = "k8s",
                                                  .strict = true,
                                                  .size = sizeof(struct k8s_file),
                                                  .given = CONFIG_NO_OFFSET,
                                                  .unknown = offsetof(struct k8s_file, unknown),
                                                  .options = k8s_options,
                                                  .count = COUNT(k8s_options)};

/* Options that say how the kubelet is asked, with disable_kubelet_client. */
static cs_code check_disabled(const struct k8s_file *f, struct cs_err *e)
{
    const struct {
        const char *name;
        bool set;
    } conflicts[] = {
        {"kubelet_read_only_port", f->kubelet_read_only_port.value > 0},
        {"kubelet_secure_port", f->kubelet_secure_port.value > 0},
        {"kubelet_ca_path", *or_else(f->kubelet_ca_path, "") != '\0'},
        {"skip_kubelet_verification", f->skip_kubelet_verification.value},
        {"token_path", *or_else(f->token_path, "") != '\0'},
        {"certificate_path", *or_else(f->certificate_path, "") != '\0'},
        {"private_key_path", *or_else(f->private_key_path, "") != '\0'},
        {"use_anonymous_authentication", f->use_anonymous_authentication.value},
        {"node_name_env", *or_else(f->node_name_env, "") != '\0'},
        {"node_name", *or_else(f->node_name, "") != '\0'},
        {"reload_interval", *or_else(f->reload_interval, "") != '\0'},
    };
    for (size_t i = 0; f->disable_kubelet_client.value && i < COUNT(conflicts); i++)
        if (conflicts[i].set)
            return cs_fail(e, CS_INVALID, "disable_kubelet_client cannot be used with %s", conflicts[i].name);
    return CS_OK;
}

/* Not given, zero and negative: the default. */
static cs_code read_interval(const char *text, const char *what, int64_t fallback, int64_t *out,
                             struct cs_err *e)
{
    *out = fallback;
    if (text == NULL || *text == '\0')
        return CS_OK;
    if (cs_duration_parse(cs_slice_str(text), out, e) != CS_OK)
        return cs_wrap(e, "unable to parse %s", what);
    if (*out <= 0)
        *out = fallback;
    return CS_OK;
}

static cs_code read_port(const struct k8s_file *f, struct config_k8s *out, struct cs_err *e)
{
    enum { SECURE_PORT = 10250, PORT_MAX = 65535 };
    int64_t plain = f->kubelet_read_only_port.value, secure = f->kubelet_secure_port.value;
    if (plain > 0 && secure > 0)
        return cs_fail(e, CS_INVALID, "cannot use both the read-only and secure port");
    int64_t port = plain > 0 ? plain : secure > 0 ? secure : SECURE_PORT;
    if (port > PORT_MAX)
        return cs_fail(e, CS_INVALID, "%s: %lld is no port",
                       plain > 0 ? "kubelet_read_only_port" : "kubelet_secure_port", (long long)port);
    out->secure = plain <= 0;
    out->port = (int)port;
    return CS_OK;
}

static cs_code read_node_name(const struct k8s_file *f, struct cs_arena *a, const char **out,
                              struct cs_err *e)
{
    *out = or_else(f->node_name, "");
    if (**out != '\0')
        return CS_OK;
    *out = cs_arena_strdup(a, or_else(getenv(or_else(f->node_name_env, "MY_NODE_NAME")), ""));
    return *out != NULL ? CS_OK : cs_nomem(e);
}

static void read_plain(const struct k8s_file *f, struct config_k8s *out)
{
    enum { ATTEMPTS = 60 };
    out->disable_kubelet_client = f->disable_kubelet_client.value;
    out->skip_kubelet_verification = f->skip_kubelet_verification.value;
    out->use_anonymous_authentication = f->use_anonymous_authentication.value;
    out->disable_container_selectors = f->disable_container_selectors.value;
    out->use_new_container_locator =
        !f->use_new_container_locator.given || f->use_new_container_locator.value;
    out->verbose_container_locator_logs = f->verbose_container_locator_logs.value;
    out->enable_namespace_labels = f->enable_namespace_labels.value;
    out->max_poll_attempts = f->max_poll_attempts.value > 0 ? f->max_poll_attempts.value : ATTEMPTS;
    out->kubelet_ca_path = or_else(f->kubelet_ca_path, SERVICE_ACCOUNT "/ca.crt");
    out->token_path = or_else(f->token_path, SERVICE_ACCOUNT "/token");
    out->certificate_path = or_else(f->certificate_path, "");
    out->private_key_path = or_else(f->private_key_path, "");
}

cs_code config_read_k8s(struct cs_slice text, struct cs_arena *a, struct config_k8s *out, struct cs_err *e)
{
    struct k8s_file f = {0};
    *out = (struct config_k8s){0};
    CS_TRY(read_section(text, &config_k8s_section, a, &f, e));
    CS_TRY(config_refuse_unknown(&f.unknown, a, e));
    CS_TRY(config_refuse_unknown(&f.experimental.unknown, a, e));
    CS_TRY(config_refuse_unknown(&f.experimental.api_server.unknown, a, e));
    CS_TRY(config_refuse_unknown(&f.experimental.api_server.cache.unknown, a, e));
    CS_TRY(config_check_later(&config_k8s_section, &f, "", e));
    CS_TRY(check_disabled(&f, e));
    read_plain(&f, out);
    CS_TRY(read_interval(f.poll_retry_interval, "poll retry interval", INT64_C(500000000),
                         &out->poll_retry_interval_ns, e));
    CS_TRY(read_interval(f.reload_interval, "reload interval", INT64_C(60000000000), &out->reload_interval_ns,
                         e));
    CS_TRY(read_port(&f, out, e));
    return read_node_name(&f, a, &out->node_name, e);
}
