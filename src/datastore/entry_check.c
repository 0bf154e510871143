/* SPDX-License-Identifier: Apache-2.0
 *
 * Rules of registration entries that the datastore itself holds.
 */
#include "datastore/entries.h"

#define ENTRY_ID_MAX 255

static cs_code invalid(struct cs_err *e, const char *why)
{
    return cs_fail(e, CS_INVALID, "datastore-validation: invalid registration entry: %s", why);
}

bool ds_selectors_one_type(const struct ds_selector *s, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (strcmp(ds_text(s[0].type), ds_text(s[i].type)) != 0)
            return false;
    return true;
}

static cs_code check_entry_id(const char *id, struct cs_err *e)
{
    static const char allowed[] = "-._0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if (strlen(id) > ENTRY_ID_MAX)
        return invalid(e, "entry ID too long");
    if (id[strspn(id, allowed)] != '\0')
        return invalid(e, "entry ID contains invalid characters");
    return CS_OK;
}

cs_code ds_entry_check_new(const struct ds_entry *in, struct cs_err *e)
{
    if (in->n_selectors == 0)
        return invalid(e, "missing selector list");
    if (in->store_svid && in->has_attributes && in->disable_x509_svid_prefetch)
        return cs_fail(
            e, CS_INVALID,
            "datastore-validation: specifying cache behaviour is incompatible with storable SVIDs");
    if (in->store_svid && !ds_selectors_one_type(in->selectors, in->n_selectors))
        return invalid(e, "selector types must be the same when store SVID is enabled");
    CS_TRY(check_entry_id(ds_text(in->entry_id), e));
    if (ds_text(in->spiffe_id)[0] == '\0')
        return invalid(e, "missing SPIFFE ID");
    if (in->x509_svid_ttl < 0)
        return invalid(e, "X509SvidTtl is not set");
    if (in->jwt_svid_ttl < 0)
        return invalid(e, "JwtSvidTtl is not set");
    return CS_OK;
}

cs_code ds_entry_check_update(const struct ds_entry *in, const struct ds_entry_mask *mask, struct cs_err *e)
{
    if ((!mask || mask->selectors) && in->n_selectors == 0)
        return invalid(e, "missing selector list");
    if ((!mask || mask->spiffe_id) && ds_text(in->spiffe_id)[0] == '\0')
        return invalid(e, "missing SPIFFE ID");
    if ((!mask || mask->x509_svid_ttl) && in->x509_svid_ttl < 0)
        return invalid(e, "X509SvidTtl is not set");
    if ((!mask || mask->jwt_svid_ttl) && in->jwt_svid_ttl < 0)
        return invalid(e, "JwtSvidTtl is not set");
    return CS_OK;
}
