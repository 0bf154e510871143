/* SPDX-License-Identifier: Apache-2.0
 *
 * What plugins say on standard error, put into our log: hclog's JSON lines with their level and fields,
 * other lines by the marks go-plugin knows.
 */
#ifndef CS_PLUGIN_HCLOG_H
#define CS_PLUGIN_HCLOG_H

#include "base/buf.h"
#include "base/log.h"

/* A longer line is cut here. */
#define PLUGIN_HCLOG_LINE_MAX ((size_t)64 * 1024)
/* More fields of a line are dropped. */
#define PLUGIN_HCLOG_FIELDS 16
/* Lines of a plugin that are logged per second; the others are counted, and the count is told. */
#define PLUGIN_HCLOG_RATE 200

/* Zero-initialise with log and subsystem set; both borrowed. One thread. */
struct plugin_hclog {
    const struct cs_log *log;
    const char *subsystem; /* "NAME.PROGRAM", as SPIRE has it */
    struct cs_log_limit limit;
    bool in_panic; /* a Go panic was begun: what follows belongs to it */
};
/* One line, without its end. */
void plugin_hclog_line(struct plugin_hclog *h, struct cs_slice line);

#endif
