/* SPDX-License-Identifier: Apache-2.0
 *
 * What is kept in the folder: the identity, and beside it a request that is not answered yet, with its key. A
 * request is written down before it is sent, so that whoever is interrupted goes on with it.
 */
#include "base/file.h"
#include "plugins/modules/k8s_csr/internal.h"
#include "plugins/shared/k8s_csr/k8s_csr.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PENDING_FILE "id-doc.pending"
#define PENDING_MAX ((size_t)8 * 1024)
#define HEAD_MAX 512

void csr_request_free(struct csr_request *q)
{
    cs_free(q->name);
    cs_free(q->node);
    crypto_key_unref(q->key);
    *q = (struct csr_request){0};
}

static char *join(const char *folder, const char *file)
{
    return cs_asprintf("%s/%s", folder, file);
}

cs_code csr_folder_open(const char *id_dir, int *fd, struct cs_err *e)
{
    struct stat st;
    *fd = -1;
    CS_TRY(cs_mkdir_all(id_dir, 0700, e));
    int opened = open(id_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "open %s", id_dir);
    cs_code rc = CS_OK;
    if (fstat(opened, &st) != 0)
        rc = cs_fail_errno(e, CS_INTERNAL, errno, "stat %s", id_dir);
    else if (st.st_uid != geteuid() &&
             st.st_uid != 0) /* who made it first in /tmp could put other keys there */
        rc = cs_fail(e, CS_DENIED, "%s belongs to another user", id_dir);
    else if (flock(opened, LOCK_EX | LOCK_NB) != 0)
        rc = cs_fail(e, CS_UNAVAILABLE, "another process is obtaining a certificate in %s", id_dir);
    if (rc != CS_OK) {
        close(opened);
        return rc;
    }
    *fd = opened;
    return CS_OK;
}

/* "name NAME\nnode NODE\n" and the key's PEM. */
cs_code csr_pending_write(const char *id_dir, const struct csr_request *q, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    CS_CLEANUP(cs_freep) char *path = join(id_dir, PENDING_FILE);
    if (path == NULL || !cs_buf_reserve(&text, PENDING_MAX))
        return cs_nomem(e);
    cs_buf_printf(&text, "name %s\nnode %s\n", q->name, q->node);
    CS_TRY(csr_key_pem(q->key, &text, e));
    return cs_file_write_atomic(path, cs_buf_slice(&text), 0600, e);
}

void csr_pending_remove(const char *id_dir)
{
    CS_CLEANUP(cs_freep) char *path = join(id_dir, PENDING_FILE);
    if (path != NULL)
        (void)unlink(path);
}

static bool take_word(struct cs_rd *r, const char *key, char **out)
{
    const size_t n = strlen(key);
    const uint8_t *nl = memchr(r->p, '\n', cs_rd_left(r));
    if (nl == NULL || (size_t)(nl - r->p) <= n || memcmp(r->p, key, n) != 0)
        return false;
    *out = cs_strndup((const char *)r->p + n, (size_t)(nl - r->p) - n);
    r->p = nl + 1;
    return *out != NULL;
}

cs_code csr_pending_read(const char *id_dir, const char *node, struct csr_request *q, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    CS_CLEANUP(cs_freep) char *path = join(id_dir, PENDING_FILE);
    if (path == NULL || !cs_buf_reserve(&text, PENDING_MAX))
        return cs_nomem(e);
    cs_code rc = cs_file_read(path, PENDING_MAX - 1, &text, e);
    if (rc != CS_OK)
        return rc == CS_NOT_FOUND ? CS_OK : rc;
    struct cs_rd r = cs_rd_of(cs_buf_slice(&text));
    const bool good = take_word(&r, "name ", &q->name) && take_word(&r, "node ", &q->node) &&
                      strcmp(q->node, node) == 0 &&
                      crypto_key_parse_pem(cs_slice_of(r.p, cs_rd_left(&r)), &q->key, NULL) == CS_OK &&
                      crypto_key_type_of(q->key) == CRYPTO_EC_P256;
    if (!good) /* another node's, or damaged: a new request does no harm */
        csr_request_free(q);
    return CS_OK;
}

static cs_code write_key(const char *id_dir, const struct csr_request *q, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf key = {0};
    CS_CLEANUP(cs_freep) char *path = join(id_dir, K8S_CSR_KEY_FILE);
    if (path == NULL)
        return cs_nomem(e);
    CS_TRY(csr_key_pem(q->key, &key, e));
    return cs_file_write_atomic(path, cs_buf_slice(&key), 0600, e);
}

cs_code csr_key_show(const char *id_dir, const struct csr_request *q, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *cert = join(id_dir, K8S_CSR_CERT_FILE);
    if (cert == NULL)
        return cs_nomem(e);
    return access(cert, F_OK) == 0 ? CS_OK : write_key(id_dir, q, e);
}

cs_code csr_identity_write(const char *id_dir, const struct csr_request *q, struct cs_slice cert, char **path,
                           struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *cert_path = join(id_dir, K8S_CSR_CERT_FILE);
    *path = NULL;
    if (cert_path == NULL)
        return cs_nomem(e);
    CS_TRY(write_key(id_dir, q, e));
    CS_TRY(cs_file_write_atomic(cert_path, cert, 0644, e));
    *path = CS_MOVE(cert_path);
    return CS_OK;
}
