/* SPDX-License-Identifier: Apache-2.0
 *
 * PEM: every block found, written and read again, is itself.
 */
#include "crypto/key.h"
#include "crypto/pem.h"
#include "crypto/x509_cert.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf scratch = {0};
    struct cs_rd r = cs_rd_of(cs_slice_of(data, size));
    struct pem_block b, again;
    while (pem_next(&r, &scratch, &b)) {
        CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
        CS_CLEANUP(cs_buf_free) struct cs_buf back = {0};
        char type[64];
        if (b.type.len >= sizeof type || (b.type.len > 0 && memchr(b.type.data, 0, b.type.len) != NULL))
            continue;
        memcpy(type, b.type.data, b.type.len);
        type[b.type.len] = '\0';
        pem_write(&text, type, b.der);
        struct cs_rd t = cs_rd_of(cs_buf_slice(&text));
        if (!pem_next(&t, &back, &again) || !cs_slice_eq(again.der, b.der) ||
            !cs_slice_eq(again.type, b.type) || cs_rd_left(&t) != 0)
            abort();
    }
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    CS_AUTO(crypto_key) key = NULL;
    (void)!x509_chain_parse_pem(cs_slice_of(data, size), 16, &chain, NULL);
    (void)!crypto_key_parse_pem(cs_slice_of(data, size), &key, NULL);
    return 0;
}
