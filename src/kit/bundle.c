/* SPDX-License-Identifier: Apache-2.0
 *
 * Trust bundles as plugins see them.
 */
#include "kit/kit.h"

const struct cspire_bundle *kit_bundle(struct cspire_call *c, const Sdktypes__Bundle *from)
{
    static const Sdktypes__Bundle empty = SDKTYPES__BUNDLE__INIT;
    if (from == NULL)
        from = &empty;
    struct cspire_bundle *b = cs_arena_zalloc(c->arena, sizeof *b);
    struct cspire_authority *x509 = cs_arena_zalloc(c->arena, (from->n_x509_authorities + 1) * sizeof *x509);
    struct cspire_jwt_key *jwt = cs_arena_zalloc(c->arena, (from->n_jwt_authorities + 1) * sizeof *jwt);
    if (b == NULL || x509 == NULL || jwt == NULL)
        return NULL;
    for (size_t i = 0; i < from->n_x509_authorities; i++) {
        x509[i].der = KIT_PB_BYTES(from->x509_authorities[i]->asn1);
        x509[i].tainted = from->x509_authorities[i]->tainted;
    }
    for (size_t i = 0; i < from->n_jwt_authorities; i++) {
        const Sdktypes__JWTKey *k = from->jwt_authorities[i];
        jwt[i] = (struct cspire_jwt_key){.pkix = KIT_PB_BYTES(k->public_key),
                                         .key_id = k->key_id,
                                         .expires_at = k->expires_at,
                                         .tainted = k->tainted};
    }
    *b = (struct cspire_bundle){.size = sizeof *b,
                                .trust_domain = from->trust_domain,
                                .x509_authorities = x509,
                                .x509_authority_count = from->n_x509_authorities,
                                .jwt_authorities = jwt,
                                .jwt_authority_count = from->n_jwt_authorities,
                                .refresh_hint = from->refresh_hint,
                                .sequence_number = from->sequence_number};
    return b;
}
