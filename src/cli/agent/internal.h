/* SPDX-License-Identifier: Apache-2.0
 *
 * What the agent's commands share. Not for other folders.
 */
#ifndef CS_CLI_AGENT_INTERNAL_H
#define CS_CLI_AGENT_INTERNAL_H

#include "cli/session.h"
#include "crypto/key.h"
#include "spiffe/x509svid.h"
#include "workload.pb-c.h"

#define WORKLOAD_SERVICE "/SpiffeWorkloadAPI/"
#define MSG(m) (&(m).base)

/* A session that sends the Workload API's security header, each call limited to timeout_ns. */
CS_CHECKED cs_code agt_session_open(const struct cli_common *common, int64_t timeout_ns,
                                    struct cli_session **out, struct cs_err *e);
/* The first message of a server stream, into the session's arena. */
CS_CHECKED cs_code agt_first(struct cli_session *s, const char *method, const ProtobufCMessage *request,
                             const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **reply,
                             struct cs_err *e);

/* One identity as a workload receives it, parsed and verified against its bundle. */
struct agt_svid {
    const char *id, *hint; /* in the reply */
    struct x509_chain chain, bundle;
    struct crypto_key *key;
};
struct agt_federated {
    const char *id; /* "spiffe://far.test", in the reply */
    struct x509_chain bundle;
};
struct agt_svids {
    struct agt_svid *svid;
    size_t count;
    struct agt_federated *federated; /* sorted by trust domain */
    size_t federated_count;
};
/* Zero-initialise; free also after an error. The reply must outlive it. */
CS_CHECKED cs_code agt_svids_parse(const Workload__X509SVIDResponse *reply, struct agt_svids *out,
                                   struct cs_err *e);
void agt_svids_free(struct agt_svids *s);

/* How `api fetch x509` and `api watch` print; watch has no hints and bare trust domain names. */
enum agt_style { AGT_FETCH, AGT_WATCH };
CS_CHECKED cs_code agt_svids_print(struct cli_env *env, const struct agt_svids *s, int64_t took_ns,
                                   enum agt_style style, struct cs_err *e);

extern const struct cli_command agt_fetch, agt_fetch_jwt, agt_fetch_x509, agt_validate_jwt, agt_watch;
extern const struct cli_command agt_healthcheck, agt_run, agt_validate;

#endif
