/* SPDX-License-Identifier: Apache-2.0
 *
 * What the server offers to its plugins (SPIRE's pkg/server/hostservice): its identity, and whether an agent
 * is known. Plugins may ask from their configuration on, and until they are unloaded: between
 * server_host_open and server_host_close they get an answer, before and after it an error.
 */
#ifndef CS_SERVER_HOST_H
#define CS_SERVER_HOST_H

#include "plugin/plugin.h"

struct bundlestore;
struct ds;
struct server_host;
struct server_svid;

CS_CHECKED cs_code server_host_new(struct server_host **out, struct cs_err *e);
void server_host_free(struct server_host *h); /* NULL is fine */
/* For plugin_env.host; belongs to the host. */
const struct plugin_host *server_host_services(const struct server_host *h);
/* Borrowed until the host is closed. */
void server_host_open(struct server_host *h, struct ds *ds, struct bundlestore *bundles,
                      struct server_svid *svid);
/* Waits for questions under way. */
void server_host_close(struct server_host *h); /* NULL is fine */

#endif
