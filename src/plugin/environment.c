/* SPDX-License-Identifier: Apache-2.0
 *
 * What plugins see of our environment: the names below, because programs and the libraries of the clouds
 * read them, and nothing else. What else is in it (tokens, passwords of a database) is none of theirs.
 */
#include "base/mem.h"
#include "plugin/spawn.h"

/* A star stands for any rest. */
static const char *const allowed[] = {
    "PATH",         "HOME",          "USER",          "LOGNAME",      "SHELL",           "TMPDIR",
    "TZ",           "LANG",          "LANGUAGE",      "LC_*",         "XDG_*",           "HOSTNAME",
    "HTTP_PROXY",   "HTTPS_PROXY",   "NO_PROXY",      "ALL_PROXY",    "http_proxy",      "https_proxy",
    "no_proxy",     "all_proxy",     "SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_*",           "AZURE_*",
    "MSI_*",        "IDENTITY_*",    "GOOGLE_*",      "GCE_*",        "GCLOUD_*",        "CLOUDSDK_*",
    "VAULT_*",      "KUBERNETES_*",  "KUBECONFIG",    "OTEL_*",       "GRPC_*",          "GODEBUG",
    "GOMAXPROCS",   "GOMEMLIMIT",    "GOGC",          "GOTRACEBACK",  "RUST_LOG",        "RUST_BACKTRACE",
    "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS",  "TSAN_OPTIONS", "LD_LIBRARY_PATH", "NODE_NAME",
};

static bool fits(const char *pattern, size_t pattern_len, const char *name, size_t name_len)
{
    if (pattern_len > 1 && pattern[pattern_len - 1] == '*')
        return name_len >= pattern_len - 1 && memcmp(name, pattern, pattern_len - 1) == 0;
    return name_len == pattern_len && memcmp(name, pattern, name_len) == 0;
}

/* `list` is separated by commas or spaces. */
static bool listed(const char *list, const char *name, size_t name_len)
{
    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ", ");
        if (n > 0 && fits(list, n, name, name_len))
            return true;
        list += n + (list[n] != '\0');
    }
    return false;
}

static bool wanted(const char *variable, const char *extra)
{
    const char *equals = strchr(variable, '=');
    if (equals == NULL)
        return false;
    size_t len = (size_t)(equals - variable);
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
        if (fits(allowed[i], strlen(allowed[i]), variable, len))
            return true;
    return listed(extra, variable, len);
}

static const char *find(char *const *env, const char *name)
{
    size_t n = strlen(name);
    for (; *env != NULL; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
            return *env + n + 1;
    return NULL;
}

char **plugin_environment(const char *type, const char *socket_folder, char *const *ours)
{
    static const char *const fixed[] = {"PLUGIN_MIN_PORT=10000", "PLUGIN_MAX_PORT=25000",
                                        "PLUGIN_PROTOCOL_VERSIONS=1"};
    static const char folder[] = "PLUGIN_UNIX_SOCKET_DIR=";
    enum { FIXED = sizeof fixed / sizeof fixed[0] };
    const char *extra = find(ours, PLUGIN_ENV_EXTRA);
    size_t count = FIXED + 2, bytes = 2 * strlen(type) + 2;
    if (socket_folder != NULL)
        bytes += sizeof folder + strlen(socket_folder);
    for (char *const *v = ours; *v != NULL; v++)
        if (wanted(*v, extra)) {
            count++;
            bytes += strlen(*v) + 1;
        }
    for (size_t i = 0; i < FIXED; i++)
        bytes += strlen(fixed[i]) + 1;
    char **list = cs_malloc((count + 1) * sizeof *list + bytes);
    if (list == NULL)
        return NULL;
    char *text = (char *)(list + count + 1);
    size_t n = 0;
    for (char *const *v = ours; *v != NULL; v++)
        if (wanted(*v, extra)) {
            list[n++] = text;
            text = stpcpy(text, *v) + 1;
        }
    for (size_t i = 0; i < FIXED; i++) {
        list[n++] = text;
        text = stpcpy(text, fixed[i]) + 1;
    }
    if (socket_folder != NULL) {
        list[n++] = text;
        text = stpcpy(stpcpy(text, folder), socket_folder) + 1;
    }
    list[n++] = text;
    text = stpcpy(stpcpy(stpcpy(text, type), "="), type);
    list[n] = NULL;
    return list;
}
