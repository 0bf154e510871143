/* SPDX-License-Identifier: Apache-2.0
 *
 * External plugins without a process: a test that links plugin_external.c in place of the real thing is
 * itself what bridges talk to. Answers are bytes, and unpacked as those of a plugin are.
 */
#ifndef CS_FAKES_PLUGIN_EXTERNAL_H
#define CS_FAKES_PLUGIN_EXTERNAL_H

#include "plugin/external.h"

struct plugin_external {
    const char *name;
    void *arg;
    /* A unary call: append the packed answer, or fail. */
    cs_code (*unary)(void *arg, const char *path, struct cs_slice request, struct cs_buf *answer,
                     struct cs_err *e);
    /* Streams; NULL members do nothing. `n` counts the streams opened. */
    cs_code (*open)(void *arg, unsigned n, const char *path, const struct rpc_metadata *md, size_t md_count,
                    struct cs_err *e);
    cs_code (*send)(void *arg, unsigned n, struct cs_slice message, struct cs_err *e);
    /* The next message: append it, or set *end, or fail. CS_DEADLINE: nothing yet; asked again until the wait
     * is over or the stream was cancelled. May be called on several threads for several streams. */
    cs_code (*recv)(void *arg, unsigned n, struct cs_buf *message, bool *end, struct cs_err *e);
    /* Kept by the fake. */
    _Atomic unsigned opened, freed;
    int64_t last_deadline_ns;
};

#endif
