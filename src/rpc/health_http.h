/* SPDX-License-Identifier: Apache-2.0
 *
 * The health listener of server and agent: two HTTP/1.1 paths that answer with a JSON document, 200
 * when things are well and 500 when they are not (doc/spire_server.md, "Health check configuration").
 */
#ifndef CS_RPC_HEALTH_HTTP_H
#define CS_RPC_HEALTH_HTTP_H

#include "base/buf.h"
#include "loop/loop.h"

struct rpc_health_http;

struct rpc_health_http_config {
    const char *address;                /* host or address, without brackets around IPv6 */
    const char *port;                   /* decimal; "0": any free one */
    const char *live_path, *ready_path; /* "/live", "/ready" */
    /* Append the JSON document (a newline is added) and say whether to answer 200. On the loop's
     * thread; must not block. */
    bool (*live)(void *arg, struct cs_buf *json);
    bool (*ready)(void *arg, struct cs_buf *json);
    void *arg;
};

/* Bind and serve on the loop; strings are copied. Any method is answered (HEAD without body); other
 * paths are 404. Connections, header and body sizes and idle time are limited. On the loop's thread, or
 * before it runs. CS_INVALID for a bad port; CS_UNAVAILABLE with Go's text
 * (`listen tcp 127.0.0.1:80: bind: permission denied`). */
CS_CHECKED cs_code rpc_health_http_start(struct loop *l, const struct rpc_health_http_config *cfg,
                                         struct rpc_health_http **out, struct cs_err *e);
/* The port it listens on. */
int rpc_health_http_port(const struct rpc_health_http *h);
/* On the loop's thread or when the loop runs no more, before loop_free. NULL is fine. */
void rpc_health_http_free(struct rpc_health_http *h);

#endif
