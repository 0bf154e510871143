/* SPDX-License-Identifier: Apache-2.0
 *
 * node-attestor: obtains a client certificate for this node from its Kubernetes cluster, by a certificate
 * signing request (docs/kubernetes.md). Flags and files are those of the program of 2018 in spire-k8s.
 */
#include "base/mem.h"
#include "base/text.h"
#include "cli/flag.h"
#include "plugins/modules/k8s_csr/obtain.h"
#include "plugins/shared/k8s_csr/k8s_csr.h"

#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define ID_DIR "/tmp/spire-agent-id"

struct options {
    const char *kubeconfig, *agent_name, *ca_cert, *client_cert, *client_key, *id_dir;
    int64_t timeout;
};
#define AT(field) offsetof(struct options, field)
static const struct cli_flag flags[] = {
    {"agent-name", CLI_STRING, AT(agent_name),
     "Agent name, the node's name in the certificate. Default: the host name, in lower case", NULL},
    {"ca-cert", CLI_STRING, AT(ca_cert),
     "CA certificate of the Kubernetes API server, or its own certificate", NULL},
    {"client-cert", CLI_STRING, AT(client_cert), "Client certificate for the Kubernetes API server", NULL},
    {"client-key", CLI_STRING, AT(client_key), "Private key of the client certificate", NULL},
    {"id-dir", CLI_STRING, AT(id_dir), "Folder where the private key and the certificate are written",
     ID_DIR},
    {"kubeconfig", CLI_STRING, AT(kubeconfig),
     "Kubeconfig file that names the API server. Default: $KUBECONFIG, else $HOME/.kube/config", NULL},
    {"timeout", CLI_DURATION, AT(timeout), "How long to wait for the certificate", "10m"},
    {0},
};
#undef AT

static void say(void *arg, const char *text)
{
    (void)arg;
    fprintf(stderr, "%s\n", text);
}

static const char *or_empty(const char *s)
{
    return s != NULL ? s : "";
}

/* $KUBECONFIG as one file, as far as it goes. */
static char *kubeconfig_path(const struct options *o)
{
    const char *from_env = getenv("KUBECONFIG"), *home = getenv("HOME");
    if (*or_empty(o->kubeconfig) != '\0')
        return cs_strdup(o->kubeconfig);
    if (from_env != NULL && *from_env != '\0')
        return cs_strdup(from_env);
    return cs_asprintf("%s/.kube/config", or_empty(home));
}

static int fail(const struct cs_err *e)
{
    fprintf(stderr, "node-attestor: %s\n", e->text);
    return 1;
}

static int run(const struct options *o)
{
    char host[K8S_CSR_HOST_SIZE] = "";
    struct cs_err e = {0};
    CS_CLEANUP(cs_freep) char *kubeconfig = kubeconfig_path(o);
    if (kubeconfig == NULL)
        return cs_nomem(&e), fail(&e);
    if (*or_empty(o->agent_name) == '\0' && !k8s_csr_host_name(host))
        return fputs("node-attestor: the host name is not known; use -agent-name\n", stderr), 1;
    const char *name = *or_empty(o->agent_name) != '\0' ? o->agent_name : host;
    if (!k8s_csr_node_name_ok(cs_slice_str(name)))
        return cs_fail(&e, CS_INVALID, "\"%.128s\" is no node's name", name), fail(&e);
    const struct k8s_csr_request r = {
        .kubeconfig = kubeconfig,
        .ca_file = o->ca_cert,
        .client_cert_file = o->client_cert,
        .client_key_file = o->client_key,
        .node_name = name,
        .id_dir = o->id_dir,
        .timeout_ns = o->timeout,
        .tell = say,
    };
    fprintf(stderr, "Using kubeconfig file %s\n", kubeconfig);
    return k8s_csr_obtain(&r, &e) == CS_OK ? 0 : fail(&e);
}

static int usage(const char *fault)
{
    if (fault != NULL)
        fprintf(stderr, "%s\n", fault);
    cli_flags_usage(flags, "node-attestor", stderr);
    return fault != NULL ? 2 : 0;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct cs_err e = {0};
    cs_mem_tune();
    signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_DUMPABLE, 0);
    umask(022 | umask(0));
    if (cli_flags_defaults(flags, &o, &e) != CS_OK)
        return fail(&e);
    switch (cli_flags_parse(flags, &o, argc - 1, argv + 1, NULL, &e)) {
    case CLI_FLAGS_HELP:
        return usage(NULL);
    case CLI_FLAGS_BAD:
        return usage(e.text);
    case CLI_FLAGS_OK:
        break;
    }
    if (*or_empty(o.ca_cert) == '\0' || *or_empty(o.client_cert) == '\0' || *or_empty(o.client_key) == '\0')
        return usage("-ca-cert, -client-cert and -client-key must be given");
    if (o.timeout <= 0)
        return usage("-timeout must be positive");
    return run(&o);
}
