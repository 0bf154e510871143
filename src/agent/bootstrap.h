/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the first trust bundle comes from, and the state of bootstrapping that is kept over restarts
 * (pkg/agent/trustbundlesources of SPIRE). Manager's thread.
 */
#ifndef CS_AGENT_BOOTSTRAP_H
#define CS_AGENT_BOOTSTRAP_H

#include "agent/storage.h"
#include "base/clock.h"
#include "base/log.h"
#include "config/agent_config.h"

struct agent_bootstrap {
    const struct agent_config *cfg;
    const struct cs_clock *clock;
    struct cs_log log;
    struct agent_storage *storage;
    int64_t use, start, attempts; /* as in struct agent_storage */
    struct x509_chain last;       /* the bundle last read */
};

/* Takes over the state in storage. */
void agent_bootstrap_init(struct agent_bootstrap *b, const struct agent_config *cfg,
                          const struct cs_clock *clock, struct cs_log log, struct agent_storage *storage);
void agent_bootstrap_free(struct agent_bootstrap *b);

/* Reads the bundle from the configured place. *insecure: there is none, and none is wanted. Blocking, at most
 * a minute. */
CS_CHECKED cs_code agent_bootstrap_bundle(struct agent_bootstrap *b, struct x509_chain *out, bool *insecure,
                                          struct cs_err *e);
/* The server was reached in trust. */
CS_CHECKED cs_code agent_bootstrap_success(struct agent_bootstrap *b, struct cs_err *e);
/* The same, when an attempt was under way. */
CS_CHECKED cs_code agent_bootstrap_success_if_running(struct agent_bootstrap *b, struct cs_err *e);
/* Forget SVID and bundle: the next start bootstraps. */
CS_CHECKED cs_code agent_bootstrap_force(struct agent_bootstrap *b, struct cs_err *e);
/* How long (ns) until rebootstrapping is allowed, counted from the first call of a row; 0: now. */
CS_CHECKED cs_code agent_bootstrap_delay(struct agent_bootstrap *b, int64_t *left_ns, struct cs_err *e);

#endif
