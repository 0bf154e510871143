/* SPDX-License-Identifier: Apache-2.0
 *
 * The trust bundles as this process sees them: an immutable snapshot per trust domain, replaced
 * whenever somebody here changed it. Verifying a peer and answering GetBundle never touch the
 * datastore.
 *
 * Writers go through the datastore and then tell the store which trust domain changed
 * (bundlestore_changed); bundlestore_append does both for authorities of our own trust domain.
 */
#ifndef CS_SERVER_BUNDLESTORE_H
#define CS_SERVER_BUNDLESTORE_H

#include "base/log.h"
#include "datastore/datastore.h"
#include "spiffe/bundle.h"

struct bundlestore;

/* Loads all bundles of the datastore (borrowed). */
CS_CHECKED cs_code bundlestore_new(struct ds *ds, const char *trust_domain, struct cs_log log,
                                   struct bundlestore **out, struct cs_err *e);
void bundlestore_free(struct bundlestore *b);

/* New reference to the bundle of a trust domain (name without spiffe://); NULL when there is none
 * and the datastore has none. Any thread, no I/O. */
struct spiffe_bundle *bundlestore_get(struct bundlestore *b, const char *trust_domain);
/* The same for our own trust domain; NULL only before the first authority was made. */
struct spiffe_bundle *bundlestore_own(struct bundlestore *b);
/* Grows with each change of any bundle: a cheap "has anything changed". */
uint64_t bundlestore_revision(const struct bundlestore *b);

/* Somebody wrote or deleted the bundle of this trust domain in the datastore: read it again, swap the
 * snapshot, call the hooks. On failure the older snapshot stays and the error is returned. Any
 * thread that may block. */
CS_CHECKED cs_code bundlestore_changed(struct bundlestore *b, const char *trust_domain, struct cs_err *e);
/* Read every bundle again (another server may have written to a shared database). */
CS_CHECKED cs_code bundlestore_reload(struct bundlestore *b, struct cs_err *e);

/* Append to our own bundle what is not there yet (creating it), in one transaction; then as
 * bundlestore_changed. Of `add` only roots and keys count. */
CS_CHECKED cs_code bundlestore_append(struct bundlestore *b, const struct ds_bundle *add, struct cs_err *e);

/* fn(arg, trust domain name) after each change, on the thread that made it; it must not block and not
 * call back into the store's writers. Register before threads start. */
CS_CHECKED cs_code bundlestore_on_change(struct bundlestore *b,
                                         void (*fn)(void *arg, const char *trust_domain), void *arg,
                                         struct cs_err *e);

#endif
