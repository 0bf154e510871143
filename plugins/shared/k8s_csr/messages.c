/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages, in JSON.
 */
#include "base/text.h"
#include "plugins/shared/k8s_csr/k8s_csr.h"

#include <jansson.h>

#define SIGNATURE_MAX ((size_t)1024) /* RSA 8192 */

static void json_drop(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}

static cs_code read_object(struct cs_slice in, const char *what, json_t **out, struct cs_err *e)
{
    json_error_t fault;
    *out = NULL;
    if (in.len > K8S_CSR_PAYLOAD_MAX)
        return cs_fail(e, CS_INVALID, "%s has %zu bytes, more than %zu", what, in.len, K8S_CSR_PAYLOAD_MAX);
    *out = json_loadb((const char *)(in.len > 0 ? in.data : (const uint8_t *)""), in.len,
                      JSON_REJECT_DUPLICATES, &fault);
    if (!json_is_object(*out)) {
        json_drop(out);
        return cs_fail(e, CS_INVALID, "%s is not a JSON object", what);
    }
    return CS_OK;
}

/* base64 into memory of the arena; no empty ones. */
static cs_code read_bytes(const json_t *j, const char *what, size_t max, struct cs_arena *a,
                          struct cs_slice *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf bytes = {0};
    const struct cs_slice text = cs_slice_of(json_string_value(j), json_string_length(j));
    if (text.len == 0)
        return cs_fail(e, CS_INVALID, "%s is missing", what);
    if (text.len > max * 2 || cs_b64_decode(&bytes, text, CS_B64_STD, NULL) != CS_OK || bytes.len > max)
        return cs_fail(e, CS_INVALID, "%s is not base64 of at most %zu bytes", what, max);
    *out = cs_slice_of(cs_arena_memdup(a, bytes.data, bytes.len), bytes.len);
    return out->data != NULL ? CS_OK : cs_nomem(e);
}

static cs_code read_nonce(const json_t *j, uint8_t nonce[K8S_CSR_NONCE_LEN], struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf bytes = {0};
    const struct cs_slice text = cs_slice_of(json_string_value(j), json_string_length(j));
    if (text.len == 0 || text.len > (size_t)K8S_CSR_NONCE_LEN * 2 ||
        cs_b64_decode(&bytes, text, CS_B64_STD, NULL) != CS_OK || bytes.len != K8S_CSR_NONCE_LEN)
        return cs_fail(e, CS_INVALID, "nonce is not base64 of %d bytes", K8S_CSR_NONCE_LEN);
    memcpy(nonce, bytes.data, K8S_CSR_NONCE_LEN);
    return CS_OK;
}

static void add_b64(struct cs_buf *out, struct cs_slice bytes)
{
    cs_buf_add_byte(out, '"');
    cs_b64_encode(out, bytes, CS_B64_STD);
    cs_buf_add_byte(out, '"');
}

void k8s_csr_hello_write(struct cs_buf *out, const char *cluster, const struct x509_chain *chain)
{
    cs_buf_add_str(out, "{\"cluster\":");
    cs_quote_json(out, cs_slice_str(cluster));
    cs_buf_add_str(out, ",\"certificates\":[");
    for (size_t i = 0; i < chain->count; i++) {
        cs_buf_add_str(out, i > 0 ? "," : "");
        add_b64(out, chain->at[i]->der);
    }
    cs_buf_add_str(out, "]}");
}

cs_code k8s_csr_hello_read(struct cs_slice in, struct cs_arena *a, struct k8s_csr_hello *out,
                           struct cs_err *e)
{
    CS_CLEANUP(json_drop) json_t *root = NULL;
    *out = (struct k8s_csr_hello){0};
    CS_TRY(read_object(in, "payload", &root, e));
    const json_t *cluster = json_object_get(root, "cluster"), *certs = json_object_get(root, "certificates");
    if (json_string_length(cluster) == 0)
        return cs_fail(e, CS_INVALID, "payload: cluster is missing");
    const size_t count = json_array_size(certs);
    if (count == 0 || count > K8S_CSR_CHAIN_MAX)
        return cs_fail(e, CS_INVALID, "payload: %zu certificates, not 1 to %d", count, K8S_CSR_CHAIN_MAX);
    for (size_t i = 0; i < count; i++)
        CS_TRY(read_bytes(json_array_get(certs, i), "payload: certificate", X509_CERT_MAX, a, &out->certs[i],
                          e));
    out->count = count;
    out->cluster = cs_arena_strdup(a, json_string_value(cluster));
    return out->cluster != NULL ? CS_OK : cs_nomem(e);
}

void k8s_csr_challenge_write(struct cs_buf *out, const uint8_t nonce[K8S_CSR_NONCE_LEN])
{
    cs_buf_add_str(out, "{\"nonce\":");
    add_b64(out, cs_slice_of(nonce, K8S_CSR_NONCE_LEN));
    cs_buf_add_byte(out, '}');
}

cs_code k8s_csr_challenge_read(struct cs_slice in, uint8_t nonce[K8S_CSR_NONCE_LEN], struct cs_err *e)
{
    CS_CLEANUP(json_drop) json_t *root = NULL;
    CS_TRY(read_object(in, "challenge", &root, e));
    return read_nonce(json_object_get(root, "nonce"), nonce, e) == CS_OK ? CS_OK : cs_wrap(e, "challenge");
}

void k8s_csr_response_write(struct cs_buf *out, const struct k8s_csr_response *r)
{
    cs_buf_add_str(out, "{\"nonce\":");
    add_b64(out, cs_slice_of(r->nonce, sizeof r->nonce));
    cs_buf_add_str(out, ",\"signature\":");
    add_b64(out, r->signature);
    cs_buf_add_byte(out, '}');
}

cs_code k8s_csr_response_read(struct cs_slice in, struct cs_arena *a, struct k8s_csr_response *out,
                              struct cs_err *e)
{
    CS_CLEANUP(json_drop) json_t *root = NULL;
    *out = (struct k8s_csr_response){0};
    CS_TRY(read_object(in, "response", &root, e));
    if (read_nonce(json_object_get(root, "nonce"), out->nonce, e) != CS_OK)
        return cs_wrap(e, "response");
    return read_bytes(json_object_get(root, "signature"), "response: signature", SIGNATURE_MAX, a,
                      &out->signature, e);
}
