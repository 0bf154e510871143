/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as an attestation document. The root is the one the document brings, and the time its own, so
 * that every rule behind these is met; with any other root it is refused. What is taken is taken again when
 * the chain is remembered, and its parts lie inside.
 */
#include "base/clock.h"
#include "crypto/cbor.h"
#include "crypto/cose.h"
#include "plugins/server/nodeattestor/nitro_path.h"
#include "plugins/shared/nitro/document.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* As a careless reader would look for them. */
static void own_root_and_time(struct cs_slice doc, struct x509_cert **root, uint64_t *ms)
{
    struct cose_sign1 cose;
    struct cbor_map m;
    struct cs_slice key, der;
    size_t n;
    if (cose_sign1_parse(doc, &cose, NULL) != CS_OK)
        return;
    struct cs_rd r = cs_rd_of(cose.payload);
    if (!cbor_map_begin(&r, &m, true))
        return;
    while (cbor_map_more(&r, &m) && cbor_read_text(&r, &key)) {
        struct cs_rd value = r;
        if (cs_slice_is(key, "timestamp"))
            (void)cbor_read_uint(&value, ms);
        else if (*root == NULL && cs_slice_is(key, "cabundle") && cbor_read_array(&value, &n) &&
                 cbor_read_bytes(&value, &der))
            (void)!x509_cert_parse(der, root, NULL);
        if (!cbor_skip(&r))
            return;
    }
}

static void inside(struct cs_slice part, struct cs_slice whole)
{
    must(part.len == 0 || (part.data >= whole.data && part.data + part.len <= whole.data + whole.len));
}

static void check_parts(const struct nitro_document *d, struct cs_slice in)
{
    struct cs_slice instance, enclave;
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    for (size_t i = 0; i < NITRO_PCR_COUNT; i++) {
        inside(d->pcrs[i], in);
        must(d->pcrs[i].len == 0 || d->pcrs[i].len == 32 || d->pcrs[i].len == 48 || d->pcrs[i].len == 64);
    }
    must(d->pcrs[0].len > 0 && d->module_id.len > 0 && d->timestamp_ms > 0);
    inside(d->module_id, in);
    inside(d->public_key, d->payload);
    inside(d->user_data, d->payload);
    inside(d->nonce, d->payload);
    if (nitro_module_id_split(d->module_id, &instance, &enclave))
        must(instance.len + enclave.len + 1 == d->module_id.len);
    must(nitro_path_render("/nitro-enclave/{{ .PCR0 }}", d, &path, NULL) == CS_OK);
    must(path.len == strlen("/nitro-enclave/") + 2 * d->pcrs[0].len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cs_slice in = cs_slice_of(data, size);
    CS_AUTO(x509_cert) root = NULL;
    CS_AUTO(nitro_memory) chains = nitro_memory_new(16);
    uint64_t ms = 0;
    struct nitro_document d;
    own_root_and_time(in, &root, &ms);
    const struct x509_cert *roots[] = {root};
    struct nitro_policy p = {.now_ns = ms <= INT64_MAX / CS_NS_PER_MS ? (int64_t)ms * CS_NS_PER_MS : 0,
                             .max_age_ns = 300 * CS_NS_PER_S,
                             .allow_debug = true,
                             .chains = chains};
    must(nitro_document_verify(in, &p, &d, NULL) != CS_OK); /* no root at all */
    if (root == NULL || chains == NULL)
        return 0;
    p.roots = roots;
    p.root_count = 1;
    const cs_code code = nitro_document_verify(in, &p, &d, NULL);
    if (code == CS_OK)
        check_parts(&d, in);
    else
        must(code == CS_INVALID || code == CS_DENIED);
    must(nitro_document_verify(in, &p, &d, NULL) == code); /* the chain is remembered now */
    return 0;
}
