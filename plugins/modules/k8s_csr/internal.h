/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of obtaining a certificate: the request, what is kept of it in files, its object at the API server.
 */
#ifndef CS_MODULES_K8S_CSR_INTERNAL_H
#define CS_MODULES_K8S_CSR_INTERNAL_H

#include "crypto/key.h"
#include "plugins/modules/kube/kube.h"
#include "plugins/shared/k8s_csr/request.h"

/* A request of ours. Zero-initialise; csr_request_free. */
struct csr_request {
    char *name, *node; /* of the object, of the node */
    struct crypto_key *key;
};
void csr_request_free(struct csr_request *q);

/* --- material.c --- */

/* "EC PRIVATE KEY" PEM (RFC 5915) of a P-256 key; wipe it. */
CS_CHECKED cs_code csr_key_pem(const struct crypto_key *key, struct cs_buf *out, struct cs_err *e);
/* "CERTIFICATE REQUEST" PEM with the subject of a node. */
CS_CHECKED cs_code csr_make(const struct crypto_key *key, const char *node, struct cs_buf *out,
                            struct cs_err *e);
/* Is the first certificate of this PEM of this key? CS_INVALID. */
CS_CHECKED cs_code csr_check_cert(struct cs_slice pem, const struct crypto_key *key, struct cs_err *e);
/* Is this, spec.request of an object, a request by this key? */
bool csr_is_ours(const char *request_b64, const struct crypto_key *key);

/* --- files.c --- */

/* Makes the folder, and keeps others of us out for as long as *fd is open. CS_DENIED: it is somebody else's;
 * CS_UNAVAILABLE: somebody is at work in it. */
CS_CHECKED cs_code csr_folder_open(const char *id_dir, int *fd, struct cs_err *e);
/* The request that was made before, as far as it is for this node; q->key NULL: none, or not to be used. */
CS_CHECKED cs_code csr_pending_read(const char *id_dir, const char *node, struct csr_request *q,
                                    struct cs_err *e);
CS_CHECKED cs_code csr_pending_write(const char *id_dir, const struct csr_request *q, struct cs_err *e);
void csr_pending_remove(const char *id_dir);
/* The key, where there is no certificate yet that it would not fit. */
CS_CHECKED cs_code csr_key_show(const char *id_dir, const struct csr_request *q, struct cs_err *e);
/* Key and certificate, in the place of those before; *path (cs_free it) is the certificate's. */
CS_CHECKED cs_code csr_identity_write(const char *id_dir, const struct csr_request *q, struct cs_slice cert,
                                      char **path, struct cs_err *e);

/* --- object.c --- */

/* Where requests are: of version v1 or v1beta1. */
extern const char csr_path_v1[], csr_path_v1beta1[];

/* CS_NOT_FOUND: the server does not have this version; CS_EXISTS: there is one of that name. */
CS_CHECKED cs_code csr_object_create(struct kube_client *api, const char *path, const struct csr_request *q,
                                     const struct crypto_stop *stop, struct cs_err *e);

enum csr_state { CSR_PENDING, CSR_APPROVED, CSR_ISSUED, CSR_DENIED, CSR_FAILED };
/* What an object says. *condition is the one that decided, NULL when none; views the object. */
enum csr_state csr_object_state(const json_t *object, const json_t **condition);
/* status.certificate, decoded; CS_INVALID. */
CS_CHECKED cs_code csr_object_cert(const json_t *object, struct cs_buf *pem, struct cs_err *e);

#endif
