/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CS_AGENT_LOOPBACK_H
#define CS_AGENT_LOOPBACK_H

#include "base/log.h"

/* Enclaves are started with their loopback interface down, and nobody but us to bring it up; then 127.0.0.1
 * and ::1 are there. Nothing is done when it is up. A failure is logged: what needs the interface says so
 * again. */
void agent_loopback_up(const struct cs_log *log);

#endif
