/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/csr.h"

#include "crypto/x509_csr.h"

cs_code agent_csr_write(const struct crypto_signer *key, const char *spiffe_id, struct cs_buf *out,
                        struct cs_err *e)
{
    static const char *const country[] = {"US"};
    static const char *const organization[] = {"SPIRE"};
    const struct x509_name name = {.country = {country, 1}, .organization = {organization, 1}};
    uint8_t room[64];
    CS_CLEANUP(cs_buf_free) struct cs_buf subject = cs_buf_on(room, sizeof room);
    x509_name_write(&subject, &name);
    if (!cs_buf_ok(&subject))
        return cs_nomem(e);
    const struct x509_csr_params params = {
        .subject = cs_buf_slice(&subject),
        .uri = spiffe_id != NULL ? cs_slice_str(spiffe_id) : (struct cs_slice){0},
    };
    return x509_csr_write(&params, key, out, e);
}
