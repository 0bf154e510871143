/* SPDX-License-Identifier: Apache-2.0
 *
 * Which container, and which Kubernetes pod, a process runs in, read from its cgroups
 * (pkg/common/containerinfo of SPIRE, and the patterns its k8s attestor had before).
 */
#ifndef CS_SHARED_CONTAINERS_LOCATE_H
#define CS_SHARED_CONTAINERS_LOCATE_H

#include "base/log.h"
#include "plugins/shared/containers/proc.h"

#define CONTAINER_ID_LEN 64 /* hex digits, by convention of all runtimes */
#define CONTAINER_POD_LEN 36

/* Empty texts: not in a container, not in a pod (or in one whose cgroup does not say which). */
struct container_place {
    char pod_uid[CONTAINER_POD_LEN + 4]; /* 2c48913c-b29f-11e7-9350-020968147796 */
    char id[CONTAINER_ID_LEN + 1];
};

/* What one cgroup path or mount root says. `pods`: look for the pod, too. */
void container_place_of_path(struct cs_slice path, bool pods, struct container_place *out);
/* Adds what the next path says to what earlier ones did: one that names a pod counts more than those that
 * do not. CS_PRECONDITION: they contradict each other; texts are SPIRE's. */
CS_CHECKED cs_code container_place_add(struct container_place *sum, const struct container_place *next,
                                       struct cs_err *e);

/* From /proc/PID/cgroup, and only if that knows of no container from /proc/PID/mountinfo, which a workload
 * can forge. No such files, or no container: empty texts and CS_OK. `verbose`: each line is logged at debug
 * level; NULL: not. CS_PRECONDITION, CS_INTERNAL. Any thread. */
CS_CHECKED cs_code container_locate(const char *proc, pid_t pid, bool pods, const struct cs_log *verbose,
                                    struct container_place *out, struct cs_err *e);

/* As SPIRE's k8s attestor did before 1.10 (`use_new_container_locator = false`). False: no container. */
bool container_place_of_path_legacy(struct cs_slice path, struct container_place *out);
CS_CHECKED cs_code container_locate_legacy(const char *proc, pid_t pid, struct container_place *out,
                                           struct cs_err *e);

#endif
