/* SPDX-License-Identifier: Apache-2.0
 *
 * What the agent keeps over restarts: its SVID, the trust bundle and the state of bootstrapping, in
 * agent-data.json of the data folder, in SPIRE's form (pkg/agent/storage). The key is the KeyManager's.
 * Single owner, one thread.
 */
#ifndef CS_AGENT_STORAGE_H
#define CS_AGENT_STORAGE_H

#include "crypto/x509_cert.h"

#define AGENT_STORAGE_FILE "agent-data.json"

enum agent_bootstrap_use { AGENT_USE_UNSPECIFIED, AGENT_USE_BOOTSTRAP, AGENT_USE_REBOOTSTRAP };

struct agent_storage {
    char *path;
    struct x509_chain svid;   /* count 0: none */
    struct x509_chain bundle; /* count 0: none */
    bool reattestable;
    int64_t bootstrap_use;   /* enum agent_bootstrap_use, or what the file says */
    int64_t bootstrap_start; /* unix seconds; 0: not running */
    int64_t connection_attempts;
};

/* Reads the file if it is there. Errors: "failed to read data: ...", "failed to unmarshal data: ...". */
CS_CHECKED cs_code agent_storage_open(const char *dir, struct agent_storage **out, struct cs_err *e);
void agent_storage_free(struct agent_storage *s);
static inline void agent_storage_drop(struct agent_storage **s)
{
    agent_storage_free(*s);
    *s = NULL;
}

/* Each replaces the file (mode 0600) and then what is above; on failure both stay as they were. NULL or
 * an empty chain: none. */
CS_CHECKED cs_code agent_storage_set_svid(struct agent_storage *s, const struct x509_chain *svid,
                                          bool reattestable, struct cs_err *e);
CS_CHECKED cs_code agent_storage_set_bundle(struct agent_storage *s, const struct x509_chain *bundle,
                                            struct cs_err *e);
CS_CHECKED cs_code agent_storage_set_bootstrap(struct agent_storage *s, int64_t use, int64_t start,
                                               int64_t attempts, struct cs_err *e);

/* The two directions alone, for tests and fuzzing. agent_storage_parse fills an empty *s. */
CS_CHECKED cs_code agent_storage_parse(struct cs_slice json, struct agent_storage *s, struct cs_err *e);
CS_CHECKED cs_code agent_storage_print(const struct agent_storage *s, struct cs_buf *out, struct cs_err *e);

#endif
