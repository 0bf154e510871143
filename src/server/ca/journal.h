/* SPDX-License-Identifier: Apache-2.0
 *
 * The CA journal: which authorities this server prepared, activated and retired, so that a restart goes
 * on with the same ones. Kept in the datastore in SPIRE's encoding (proto/journal.proto), one row per
 * server, found by the subject key identifiers of the server's own keys.
 *
 * Not thread-safe: the CA manager's lock guards it.
 */
#ifndef CS_SERVER_CA_JOURNAL_H
#define CS_SERVER_CA_JOURNAL_H

#include "base/log.h"
#include "base/mem.h"
#include "crypto/x509_cert.h"
#include "datastore/datastore.h"
#include "journal.pb-c.h"
#include "plugin/catalog.h"

/* Authority IDs: hex of a subject key identifier, or a JWT key id; with the NUL. */
#define CA_ID_MAX 129
/* Most entries kept of each kind; the oldest go first. */
#define CA_JOURNAL_CAP 10

struct ca_journal;

/* Finds and reads this server's journal; an empty one when there is none. Everything is borrowed. */
CS_CHECKED cs_code ca_journal_load(struct ds *ds, const struct catalog_plugin *keymanager, struct cs_log log,
                                   struct ca_journal **out, struct cs_err *e);
void ca_journal_free(struct ca_journal *j);
static inline void ca_journal_drop(struct ca_journal **j)
{
    ca_journal_free(*j);
    *j = NULL;
}

/* What is in it, oldest first, in the arena. */
CS_CHECKED cs_code ca_journal_entries(const struct ca_journal *j, struct cs_arena *a, Journal__Entries **out,
                                      struct cs_err *e);

/* A new authority, status PREPARED. Each change is stored at once, except that nothing is stored before
 * there was an active X.509 authority (its ID names the row). When storing fails the change is kept and
 * goes along with the next one. */
CS_CHECKED cs_code ca_journal_append_x509(struct ca_journal *j, const char *slot_id, int64_t issued_at,
                                          const struct x509_cert *ca, const struct x509_chain *upstream_chain,
                                          struct cs_err *e);
CS_CHECKED cs_code ca_journal_append_jwt(struct ca_journal *j, const char *slot_id, int64_t issued_at,
                                         const char *kid, struct cs_slice spki, int64_t not_after,
                                         struct cs_err *e);
/* CS_NOT_FOUND `no journal entry found with authority ID "x"`. */
CS_CHECKED cs_code ca_journal_set_x509_status(struct ca_journal *j, const char *authority_id,
                                              Journal__Status status, struct cs_err *e);
CS_CHECKED cs_code ca_journal_set_jwt_status(struct ca_journal *j, const char *authority_id,
                                             Journal__Status status, struct cs_err *e);

#endif
