/* SPDX-License-Identifier: Apache-2.0
 *
 * Health of the server: named checks, run on a worker, their outcome served from memory by the health
 * listener and the health service (SPIRE's pkg/common/health).
 */
#ifndef CS_SERVER_HEALTH_H
#define CS_SERVER_HEALTH_H

#include "base/buf.h"
#include "base/log.h"

/* One check. A failure means neither live nor ready, and its text is shown as `detail`. */
struct server_health_check {
    const char *name;   /* "server.ca" */
    const char *detail; /* "sign_x509_svid_err" */
    cs_code (*run)(void *arg, struct cs_err *e);
    void *arg;
};

struct server_health;
/* `checks` are borrowed, in the order of their names. Until the first run nothing is healthy. */
CS_CHECKED cs_code server_health_new(const struct server_health_check *checks, size_t count,
                                     struct cs_log log, struct server_health **out, struct cs_err *e);
void server_health_free(struct server_health *h);

/* Run all of them; may block. One thread at a time. True: all is well. */
bool server_health_run(struct server_health *h);
/* How often: while something is wrong at the start, and later. */
#define SERVER_HEALTH_FIRST_NS (1 * CS_NS_PER_S)
#define SERVER_HEALTH_NS (60 * CS_NS_PER_S)

/* The outcome as JSON, `{"server":{},"server.ca":{}}`; true: well. For rpc_health_http_config; arg is the
 * health. Any thread. */
bool server_health_json(void *health, struct cs_buf *json);

#endif
