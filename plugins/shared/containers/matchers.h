/* SPDX-License-Identifier: Apache-2.0
 *
 * Patterns for cgroup paths, as the option container_id_cgroup_matchers of the docker attestor has them
 * (pkg/agent/plugin/workloadattestor/docker/cgroup of SPIRE): segments between slashes, of which `*` stands
 * for any one, and `<id>`, exactly once, for the one that is the container's ID.
 */
#ifndef CS_SHARED_CONTAINERS_MATCHERS_H
#define CS_SHARED_CONTAINERS_MATCHERS_H

#include "base/buf.h"

/* Are these patterns of which at most one can fit a path? Texts are SPIRE's. CS_INVALID. */
CS_CHECKED cs_code container_matchers_check(const char *const *patterns, size_t count, struct cs_err *e);

/* The ID that the path has by one of the patterns, viewing the path; it may be empty. False: none fits. */
bool container_matchers_find(const char *const *patterns, size_t count, struct cs_slice path,
                             struct cs_slice *id);

#endif
