/* SPDX-License-Identifier: Apache-2.0
 *
 * The start of a plugin as go-plugin has it: what the environment asks for, and a socket of our own.
 */
#ifndef CS_KIT_START_H
#define CS_KIT_START_H

#include "base/err.h"

/* Does PLUGIN_PROTOCOL_VERSIONS ("1,2") name this version? Unset or empty: yes, the host is an old one and
 * will say so itself. Items that are no numbers are passed over, as go-plugin does. */
bool kit_versions_have(const char *list, unsigned version);

/* A folder that only we may enter, and the path of a socket in it. Longer ones do not fit into a socket's
 * address. */
#define KIT_PATH_MAX 108
struct kit_socket {
    char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];
};
/* Below `dir`; NULL or "": TMPDIR, then /tmp. group: name or number of a group that may enter too
 * (go-plugin's PLUGIN_UNIX_SOCKET_GROUP); NULL or "": none. CS_INVALID, CS_INTERNAL. */
CS_CHECKED cs_code kit_socket_new(const char *dir, const char *group, struct kit_socket *out,
                                  struct cs_err *e);
/* The socket is there: lets the group write to it. */
CS_CHECKED cs_code kit_socket_share(const struct kit_socket *s, const char *group, struct cs_err *e);
void kit_socket_remove(const struct kit_socket *s);

#endif
