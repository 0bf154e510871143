/* SPDX-License-Identifier: Apache-2.0
 *
 * UpstreamAuthority plugins: a CA above ours that signs the server's X.509 CA
 * (spire.plugin.server.upstreamauthority.v1 of SPIRE's plugin SDK).
 */
#ifndef CS_PLUGIN_UPSTREAMAUTHORITY_H
#define CS_PLUGIN_UPSTREAMAUTHORITY_H

#include "plugin/plugin.h"

/* What a mint gave; all owned by the result, release with upstreamauthority_result_free. */
struct upstreamauthority_result {
    struct cs_buf *chain; /* our CA certificate first, then intermediates; DER each */
    size_t chain_count;
    struct cs_buf *roots; /* roots of the upstream trust; DER each */
    bool *roots_tainted;
    size_t root_count;
};
void upstreamauthority_result_free(struct upstreamauthority_result *r);
/* Append a copy. CS_INTERNAL when memory is out. */
CS_CHECKED cs_code upstreamauthority_result_add_cert(struct upstreamauthority_result *r, struct cs_slice der);
CS_CHECKED cs_code upstreamauthority_result_add_root(struct upstreamauthority_result *r, struct cs_slice der,
                                                     bool tainted);

/* A JWT authority as it travels upstream. */
struct upstreamauthority_jwt_key {
    struct cs_slice pkix;
    const char *kid;
    int64_t not_after;
};

/* What an upstream says later, of itself. Called on any thread, one call at a time, borrowed. These may not
 * call the plugin. */
struct upstreamauthority_listener {
    void (*x509_roots)(void *arg, const struct upstreamauthority_result *roots); /* all of them; no chain */
    void (*jwt_keys)(void *arg, const struct upstreamauthority_jwt_key *keys, size_t count); /* all of them */
    void *arg;
};

struct upstreamauthority_ops {
    /* Where changes go that come after a mint or a publication was answered, and the whole bundle as the
     * upstream sees it where it offers that, until the plugin is destroyed; NULL as listener ends that and
     * waits for a call under way. NULL as operation: the plugin
     * never has any. */
    void (*listen)(void *self, const struct upstreamauthority_listener *listener);
    /* Sign the DER PKCS#10 request of a new CA. ttl_s is a wish, 0: the plugin's default. Blocking,
     * one call at a time. */
    CS_CHECKED cs_code (*mint_x509_ca)(void *self, struct cs_slice csr, int64_t ttl_s,
                                       struct upstreamauthority_result *out, struct cs_err *e);
    /* Publish a JWT authority upstream; `keys` is called for each authority the upstream has after
     * that. NULL or CS_UNIMPLEMENTED: not supported, the key goes to the local bundle only. */
    CS_CHECKED cs_code (*publish_jwt_key)(void *self, const struct upstreamauthority_jwt_key *key,
                                          cs_code (*keys)(void *arg,
                                                          const struct upstreamauthority_jwt_key *k),
                                          void *arg, struct cs_err *e);
};

#endif
