/* SPDX-License-Identifier: Apache-2.0
 *
 * What plugins say on standard error, put into our log: hclog's JSON lines with their level and fields,
 * other lines by the marks go-plugin knows (hashicorp go-plugin, client.go; SPIRE's pkg/common/log). It is
 * bounded, and cannot be taken for what we say ourselves.
 */
#ifndef CS_PLUGIN_HCLOG_H
#define CS_PLUGIN_HCLOG_H

#include "base/buf.h"
#include "base/log.h"

/* A longer line is cut here. */
#define PLUGIN_HCLOG_LINE_MAX ((size_t)64 * 1024)
/* More fields of a line are dropped. */
#define PLUGIN_HCLOG_FIELDS 16
#define PLUGIN_HCLOG_KEY_MAX 64
/* Lines of a plugin, and bytes of them, that are logged per second; the other lines are counted, and the
 * count is told. Lines below our level do not count, but no more than so many are looked at. */
#define PLUGIN_HCLOG_RATE 200
#define PLUGIN_HCLOG_BYTES ((size_t)256 * 1024)
#define PLUGIN_HCLOG_LOOKED_AT 5000

/* Zero-initialise with log and subsystem set; both borrowed. One thread. */
struct plugin_hclog {
    const struct cs_log *log;
    const char *subsystem; /* "NAME.PROGRAM", as SPIRE has it */
    int64_t second;        /* the one that is counted, monotonic */
    unsigned looked_at, lines;
    size_t bytes;
    uint32_t held; /* lines that were not logged */
    bool in_panic; /* a Go panic was begun: what follows belongs to it */
};
/* One line, without its end. */
void plugin_hclog_line(struct plugin_hclog *h, struct cs_slice line);
/* Tells how many lines were held back, when there are any. */
void plugin_hclog_end(struct plugin_hclog *h);

#endif
