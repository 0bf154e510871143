/* SPDX-License-Identifier: Apache-2.0
 *
 * Slots: each kind of authority (X.509 CA, JWT key) has two, A and B, that take turns in being current
 * and next. Inside src/server/ca only; guarded by the CA manager's lock.
 */
#ifndef CS_SERVER_CA_SLOT_H
#define CS_SERVER_CA_SLOT_H

#include "server/ca/authority.h"
#include "server/ca/journal.h"
#include "spiffe/bundle.h"

struct ca_slot {
    char id[2]; /* "A" or "B" */
    Journal__Status status;
    int64_t issued_at, not_after; /* unix seconds */
    /* Kept when the authority goes, for the journal. */
    char authority_id[CA_ID_MAX], upstream_authority_id[CA_ID_MAX];
    struct ca_x509_authority *x509; /* one of these, by the kind; NULL: the slot is empty */
    struct ca_jwt_authority *jwt;
};
struct ca_slots {
    struct ca_slot current, next;
};
void ca_slots_free(struct ca_slots *s);
static inline bool ca_slot_has_authority(const struct ca_slot *s)
{
    return s->x509 != NULL || s->jwt != NULL;
}
static inline bool ca_slot_empty(const struct ca_slot *s)
{
    return !ca_slot_has_authority(s) || s->status == JOURNAL__STATUS__OLD;
}
/* Drops the authority; the IDs stay. */
void ca_slot_reset(struct ca_slot *s);
/* Current becomes next, and is emptied. */
void ca_slots_swap(struct ca_slots *s);
void ca_slot_set_id(char out[CA_ID_MAX], const char *id);
/* Hex of a key identifier, "" for an empty one. */
void ca_slot_set_hex_id(char out[CA_ID_MAX], struct cs_slice key_id);

/* When the next authority must be ready (half of the lifetime before the end, at most 30 days) and when it
 * must be in use (a sixth, at most 7 days); due strictly after these. Unix nanoseconds. */
int64_t ca_slot_prepare_at(const struct ca_slot *s);
int64_t ca_slot_activate_at(const struct ca_slot *s);

struct ca_slot_loader {
    const struct catalog_plugin *keymanager;
    const struct spiffe_bundle *bundle; /* our own as stored; NULL: none yet */
    bool has_upstream;                  /* then our CA is not in the bundle */
    int64_t now;                        /* unix seconds */
    struct cs_log log;
};
/* Which authorities of the journal can still be used, and which of them is current: the active one, else
 * the newest. Authorities that expired, whose key is gone, or that are not in the bundle (a restored
 * database) are passed over. */
CS_CHECKED cs_code ca_slots_load_x509(const struct ca_slot_loader *l, const Journal__Entries *entries,
                                      struct ca_slots *out, struct cs_err *e);
CS_CHECKED cs_code ca_slots_load_jwt(const struct ca_slot_loader *l, const Journal__Entries *entries,
                                     struct ca_slots *out, struct cs_err *e);

/* Names of the keys in the KeyManager. */
#define CA_X509_KEY_PREFIX "x509-CA-"
#define CA_JWT_KEY_PREFIX "JWT-Signer-"

#endif
