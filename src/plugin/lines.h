/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of a pipe, cut into lines.
 */
#ifndef CS_PLUGIN_LINES_H
#define CS_PLUGIN_LINES_H

#include "base/buf.h"

/* Zero-initialise with `max` set; release with cs_buf_free(&l->held). Keeps no memory between whole lines.
 * One thread. */
struct plugin_lines {
    size_t max; /* bytes of a line; what is longer is cut, its rest passed over */
    struct cs_buf held;
    bool skipping;
};
/* Hands each whole line to `line`, without its end; borrowed for the time of the call. What does not fit into
 * memory is lost. */
void plugin_lines_feed(struct plugin_lines *l, struct cs_slice data,
                       void (*line)(void *arg, struct cs_slice line), void *arg);
/* The last line, when it has no end. */
void plugin_lines_end(struct plugin_lines *l, void (*line)(void *arg, struct cs_slice line), void *arg);

#endif
