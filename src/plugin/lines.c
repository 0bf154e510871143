/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/lines.h"

/* Adds to the line begun; a full one is handed out at once. */
static void hold(struct plugin_lines *l, struct cs_slice part, void (*line)(void *arg, struct cs_slice line),
                 void *arg)
{
    if (l->skipping)
        return;
    size_t room = l->max - l->held.len;
    cs_buf_add_slice(&l->held, cs_slice_of(part.data, part.len < room ? part.len : room));
    if (part.len <= room && cs_buf_ok(&l->held))
        return;
    if (cs_buf_ok(&l->held))
        line(arg, cs_buf_slice(&l->held));
    cs_buf_free(&l->held);
    l->skipping = true;
}

void plugin_lines_feed(struct plugin_lines *l, struct cs_slice data,
                       void (*line)(void *arg, struct cs_slice line), void *arg)
{
    while (data.len > 0) {
        const uint8_t *end = memchr(data.data, '\n', data.len);
        size_t n = end != NULL ? (size_t)(end - data.data) : data.len;
        struct cs_slice part = cs_slice_of(data.data, n);
        if (end == NULL) {
            hold(l, part, line, arg);
            return;
        }
        if (l->held.len == 0 && !l->skipping) {
            line(arg, cs_slice_of(part.data, part.len < l->max ? part.len : l->max));
        } else {
            hold(l, part, line, arg);
            plugin_lines_end(l, line, arg);
        }
        data = cs_slice_of(end + 1, data.len - n - 1);
    }
}

void plugin_lines_end(struct plugin_lines *l, void (*line)(void *arg, struct cs_slice line), void *arg)
{
    if (!l->skipping && l->held.len > 0)
        line(arg, cs_buf_slice(&l->held));
    cs_buf_free(&l->held);
    l->skipping = false;
}
