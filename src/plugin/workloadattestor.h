/* SPDX-License-Identifier: Apache-2.0
 *
 * WorkloadAttestor plugins: what kind of process is this? (spire.plugin.agent.workloadattestor.v1 of
 * SPIRE's plugin SDK).
 */
#ifndef CS_PLUGIN_WORKLOADATTESTOR_H
#define CS_PLUGIN_WORKLOADATTESTOR_H

#include "base/mem.h"
#include "plugin/plugin.h"

#include <sys/types.h>

/* Selector values without the type, which is the plugin's name. Text lives in the arena given. */
struct workloadattestor_values {
    struct cs_arena *arena;
    const char **at;
    size_t count, cap;
};
#define WORKLOADATTESTOR_VALUES_MAX 4096

/* Append KIND:VALUE. CS_EXHAUSTED past WORKLOADATTESTOR_VALUES_MAX. */
CS_CHECKED cs_code workloadattestor_add(struct workloadattestor_values *v, const char *kind,
                                        const char *value, struct cs_err *e);
/* Append a whole value; copied. */
CS_CHECKED cs_code workloadattestor_add_value(struct workloadattestor_values *v, const char *text,
                                              struct cs_err *e);

struct workloadattestor_ops {
    /* Selector values of the process, appended to `out`. The caller makes sure that `pid` stays the
     * same process meanwhile. Errors as the plugin of SPIRE words them. Blocking; any thread, several
     * at once. */
    CS_CHECKED cs_code (*attest)(void *self, pid_t pid, struct workloadattestor_values *out,
                                 struct cs_err *e);
};

#endif
