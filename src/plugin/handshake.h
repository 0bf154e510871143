/* SPDX-License-Identifier: Apache-2.0
 *
 * The one line a plugin prints when it is ready (hashicorp go-plugin, docs/internals.md):
 * CORE|PROTOCOL|NETWORK|ADDRESS|KIND|CERTIFICATE|...
 */
#ifndef CS_PLUGIN_HANDSHAKE_H
#define CS_PLUGIN_HANDSHAKE_H

#include "base/buf.h"

/* Longest line that is looked at. */
#define PLUGIN_HANDSHAKE_MAX 4096
#define PLUGIN_ADDRESS_MAX 256

struct plugin_handshake {
    bool tcp; /* otherwise a Unix socket */
    char address[PLUGIN_ADDRESS_MAX];
};
/* One line without its end; space around it is passed over. Versions must be 1 and 1, the kind "grpc".
 * A TCP address must be on the loopback. CS_INVALID with the text go-plugin has for it. */
CS_CHECKED cs_code plugin_handshake_parse(struct cs_slice line, struct plugin_handshake *out,
                                          struct cs_err *e);

#endif
