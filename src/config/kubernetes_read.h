/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: what the readers of the plugins for Kubernetes share.
 */
#ifndef CS_CONFIG_KUBERNETES_READ_H
#define CS_CONFIG_KUBERNETES_READ_H

#include "config/kubernetes_config.h"

#include <stdarg.h>
#include <stdio.h>

/* Adds a remark; the first fault becomes *e. Fails only when memory is out. */
CS_PRINTF(5, 6)
CS_CHECKED cs_code config_remark(struct config_remarks *r, struct cs_arena *a, bool fault, struct cs_err *e,
                                 const char *fmt, ...);
CS_CHECKED cs_code config_read_section(struct cs_slice text, const struct config_section *s,
                                       struct cs_arena *a, void *out, struct cs_err *e);
/* `plugin configuration is malformed: ...` as fault and error; passes other codes on. */
CS_CHECKED cs_code config_malformed(struct config_remarks *r, struct cs_arena *a, cs_code rc,
                                    struct cs_err *e);

#endif
