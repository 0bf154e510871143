/* SPDX-License-Identifier: Apache-2.0
 *
 * Asking systemd about a process.
 */
#ifndef CS_MODULES_WORKLOAD_SYSTEMD_SYSTEMD_H
#define CS_MODULES_WORKLOAD_SYSTEMD_SYSTEMD_H

#include "plugin/workloadattestor.h"

#define SYSTEMD_LIMIT_US (UINT64_C(10) * 1000 * 1000)

/* The values `id` and `fragment_path` of the unit of pid. limit_us: until the system bus has taken us, and
 * then for each of three answers. Any thread. CS_INTERNAL, with SPIRE's texts: `failed to open dbus
 * connection: ...`, `failed to get unit by pid 7: ...`, `error getting value for Id: ...`. */
CS_CHECKED cs_code systemd_attest(pid_t pid, uint64_t limit_us, struct workloadattestor_values *out,
                                  struct cs_err *e);

#endif
