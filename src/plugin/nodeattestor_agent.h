/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor plugins, agent half (spire.plugin.agent.nodeattestor.v1 of SPIRE's plugin SDK): say who
 * this node is, and answer the server's challenges.
 */
#ifndef CS_PLUGIN_NODEATTESTOR_AGENT_H
#define CS_PLUGIN_NODEATTESTOR_AGENT_H

#include "plugin/plugin.h"

/* The way to the server, for the time of one attestation. */
struct nodeattestor_agent_stream {
    /* Send the first payload or a response to a challenge and wait for what comes back: *done, or
     * another challenge (reset first). Blocking. */
    CS_CHECKED cs_code (*exchange)(void *arg, struct cs_slice payload, struct cs_buf *challenge, bool *done,
                                   struct cs_err *e);
    void *arg;
    /* The SubjectPublicKeyInfo that the SVID is asked for, DER; borrowed. For attestors that bind their
     * evidence to it; external plugins are not given it. */
    struct cs_slice spki;
};

struct nodeattestor_agent_ops {
    /* CS_OK only after an exchange that was done. Blocking, one at a time. */
    CS_CHECKED cs_code (*attest)(void *self, const struct nodeattestor_agent_stream *stream,
                                 struct cs_err *e);
};

#endif
