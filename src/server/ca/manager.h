/* SPDX-License-Identifier: Apache-2.0
 *
 * The CA manager: makes the authorities that the CA signs with, keeps them in the journal and the bundle,
 * and replaces them in time (SPIRE's pkg/server/ca/manager and ca/rotator).
 *
 * One thread at a time calls the functions that may block; the others are for any thread.
 */
#ifndef CS_SERVER_CA_MANAGER_H
#define CS_SERVER_CA_MANAGER_H

#include "base/clock.h"
#include "base/log.h"
#include "crypto/key.h"
#include "plugin/catalog.h"
#include "server/bundlestore.h"
#include "server/ca/ca.h"

struct ca_manager;

/* Everything borrowed; it must outlive the manager. */
struct ca_manager_config {
    struct ca *ca;
    struct ds *ds;
    struct bundlestore *bundles;
    const struct catalog_plugin *keymanager;
    const struct catalog_plugin *upstream; /* UpstreamAuthority; NULL: the CA is self-signed */
    const char *trust_domain;              /* name */
    enum crypto_key_type x509_key_type, jwt_key_type;
    const struct cs_clock *clock;
    struct cs_log log; /* the field subsystem_name=ca_manager is added */
};

/* Reads the journal, and lets the CA sign with what is current and not due for replacement. */
CS_CHECKED cs_code ca_manager_new(const struct ca_manager_config *cfg, struct ca_manager **out,
                                  struct cs_err *e);
void ca_manager_free(struct ca_manager *m);
static inline void ca_manager_drop(struct ca_manager **m)
{
    ca_manager_free(*m);
    *m = NULL;
}

/* Prepare and activate whatever is due. Blocking (key generation, datastore, upstream). Failures are logged
 * and returned; what was in use stays in use. */
CS_CHECKED cs_code ca_manager_rotate(struct ca_manager *m, struct cs_err *e);
/* When something is due next, in unix nanoseconds. */
int64_t ca_manager_due(struct ca_manager *m);
/* How often to look anyway (the clock may have been set), and how long to wait after a failure. */
#define CA_MANAGER_INTERVAL_NS (10 * CS_NS_PER_S)

/* Drop authorities from our bundle a day after they expired, and journals of servers that are gone for two
 * weeks. Blocking. */
CS_CHECKED cs_code ca_manager_prune_bundle(struct ca_manager *m, struct cs_err *e);
#define CA_MANAGER_PRUNE_BUNDLE_NS (6 * 3600 * CS_NS_PER_S)
CS_CHECKED cs_code ca_manager_prune_journals(struct ca_manager *m, struct cs_err *e);
#define CA_MANAGER_PRUNE_JOURNALS_NS (8 * 3600 * CS_NS_PER_S)

/* Health: CS_INTERNAL `rotations exceed the threshold number of failures` after more than ten. */
CS_CHECKED cs_code ca_manager_health(struct ca_manager *m, struct cs_err *e);

#endif
