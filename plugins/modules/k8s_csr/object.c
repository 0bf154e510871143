/* SPDX-License-Identifier: Apache-2.0
 *
 * CertificateSigningRequest objects (certificates.k8s.io/v1, and v1beta1 of clusters before 1.19).
 */
#include "base/text.h"
#include "plugins/modules/k8s_csr/internal.h"

#define SIGNER "kubernetes.io/kube-apiserver-client-kubelet"
#define CALL_NS (30 * CS_NS_PER_S)

const char csr_path_v1[] = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const char csr_path_v1beta1[] = "/apis/certificates.k8s.io/v1beta1/certificatesigningrequests";

/* The user, and the groups in v1, are put in by the server. v1beta1 knows the signer by the subject. */
static json_t *make(const char *path, const char *name, const char *request_b64)
{
    if (path == csr_path_v1)
        return json_pack("{s:s, s:s, s:{s:s}, s:{s:s, s:s, s:[s, s, s]}}", "apiVersion",
                         "certificates.k8s.io/v1", "kind", "CertificateSigningRequest", "metadata", "name",
                         name, "spec", "request", request_b64, "signerName", SIGNER, "usages",
                         "digital signature", "key encipherment", "client auth");
    return json_pack("{s:s, s:s, s:{s:s}, s:{s:s, s:[s, s, s], s:[s]}}", "apiVersion",
                     "certificates.k8s.io/v1beta1", "kind", "CertificateSigningRequest", "metadata", "name",
                     name, "spec", "request", request_b64, "usages", "digital signature", "key encipherment",
                     "client auth", "groups", "system:authenticated");
}

cs_code csr_object_create(struct kube_client *api, const char *path, const struct csr_request *q,
                          const struct crypto_stop *stop, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf b64 = {0};
    CS_CLEANUP(kube_json_drop) json_t *object = NULL;
    CS_TRY(csr_make(q->key, q->node, &pem, e));
    cs_b64_encode(&b64, cs_buf_slice(&pem), CS_B64_STD);
    if (!cs_buf_ok(&b64) || (object = make(path, q->name, cs_buf_cstr(&b64))) == NULL)
        return cs_nomem(e);
    /* the name makes it one and the same, however often it is sent */
    const struct kube_call call = {.method = "POST",
                                   .path = path,
                                   .body = object,
                                   .stop = stop,
                                   .timeout_ns = CALL_NS,
                                   .repeatable = true};
    return kube_call(api, &call, NULL, e);
}

/* The first condition of this type that holds; v1beta1 has no "status" in them. */
static const json_t *condition(const json_t *object, const char *type)
{
    const json_t *list = json_object_get(json_object_get(object, "status"), "conditions"), *c;
    for (size_t i = 0; i < json_array_size(list); i++) {
        c = json_array_get(list, i);
        const char *status = kube_text(c, "status");
        if (strcmp(kube_text(c, "type"), type) == 0 && (status[0] == '\0' || strcmp(status, "True") == 0))
            return c;
    }
    return NULL;
}

enum csr_state csr_object_state(const json_t *object, const json_t **out)
{
    static const struct {
        const char *type;
        enum csr_state state;
    } ends[] = {{"Denied", CSR_DENIED}, {"Failed", CSR_FAILED}};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if ((*out = condition(object, ends[i].type)) != NULL)
            return ends[i].state;
    *out = condition(object, "Approved");
    if (*out == NULL)
        return CSR_PENDING;
    return kube_text(json_object_get(object, "status"), "certificate")[0] != '\0' ? CSR_ISSUED : CSR_APPROVED;
}

cs_code csr_object_cert(const json_t *object, struct cs_buf *pem, struct cs_err *e)
{
    const char *text = kube_text(json_object_get(object, "status"), "certificate");
    if (cs_b64_decode(pem, cs_slice_str(text), CS_B64_STD, e) != CS_OK)
        return cs_wrap(e, "the certificate that was issued");
    return CS_OK;
}
