/* SPDX-License-Identifier: Apache-2.0
 *
 * Which module has which plugin. One row each, sorted.
 */
#include "plugin/module.h"

static const struct {
    const char *program, *type, *name, *module;
} rows[] = {
    {"agent", PLUGIN_TYPE_SVIDSTORE, "aws_secretsmanager", "aws"},
    {"agent", PLUGIN_TYPE_SVIDSTORE, "gcp_secretmanager", "gcp"},
    {"agent", PLUGIN_TYPE_SVIDSTORE, "sconecas_sessionmanager", "sconecas"},
    {"agent", PLUGIN_TYPE_WORKLOADATTESTOR, "docker", "workload_docker"},
    {"agent", PLUGIN_TYPE_WORKLOADATTESTOR, "k8s", "workload_k8s"},
    {"agent", PLUGIN_TYPE_WORKLOADATTESTOR, "systemd", "workload_systemd"},
    {"server", PLUGIN_TYPE_BUNDLEPUBLISHER, "k8s_configmap", "kubernetes"},
    {"server", PLUGIN_TYPE_NODEATTESTOR, "k8s_psat", "kubernetes"},
    {"server", PLUGIN_TYPE_NODEATTESTOR, "k8s_sat", "kubernetes"},
    {"server", PLUGIN_TYPE_NOTIFIER, "k8sbundle", "kubernetes"},
};

const char *plugin_module_name(const char *program, const char *type, const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].program, program) == 0 && strcmp(rows[i].type, type) == 0 &&
            strcmp(rows[i].name, name) == 0)
            return rows[i].module;
    return NULL;
}
