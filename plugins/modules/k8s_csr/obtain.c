/* SPDX-License-Identifier: Apache-2.0
 *
 * Obtaining a certificate: take up the request that was made before, or make one; wait for the answer; leave
 * key and certificate.
 */
#include "plugins/modules/k8s_csr/obtain.h"

#include "base/text.h"
#include "plugins/modules/k8s_csr/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define NAMES_TRIED 16
#define TEXT_MAX 1024

struct work {
    const struct k8s_csr_request *r;
    struct kube_client *api;
    struct csr_request request;
    const char *path; /* csr_path_v1 or csr_path_v1beta1 */
    int64_t end;
    /* of the wait */
    enum csr_state told; /* the last state that was told of */
    bool any_told, listed, gone;
    bool over;          /* nothing is left to wait for */
    struct cs_buf cert; /* PEM */
};

CS_PRINTF(2, 3) static void tell(const struct work *w, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    w->r->tell(w->r->arg, text);
}

static bool asked_to_stop(void *arg)
{
    const struct work *w = arg;
    const struct crypto_stop *stop = w->r->stop;
    return w->gone || (stop != NULL && stop->asked(stop->arg));
}

static int64_t time_left(const struct work *w)
{
    return w->end - cs_mono_ns(&cs_clock_system);
}

/* --- Making a request --- */

static cs_code get(const struct work *w, json_t **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    cs_buf_add_str(&path, w->path);
    CS_TRY(kube_path(&path, e, "/%s", w->request.name));
    return kube_get(w->api, cs_buf_cstr(&path), w->r->stop, out, e);
}

static bool is_ours(const struct work *w, const json_t *object)
{
    return csr_is_ours(kube_text(json_object_get(object, "spec"), "request"), w->request.key);
}

/* In v1, else in v1beta1. */
static cs_code create(struct work *w, struct cs_err *e)
{
    w->path = csr_path_v1;
    cs_code rc = csr_object_create(w->api, w->path, &w->request, w->r->stop, e);
    if (rc != CS_NOT_FOUND)
        return rc;
    w->path = csr_path_v1beta1;
    struct cs_err fault;
    rc = csr_object_create(w->api, w->path, &w->request, w->r->stop, &fault);
    if (rc == CS_NOT_FOUND)
        return cs_fail(e, CS_UNIMPLEMENTED, "the API server has no certificates.k8s.io/v1 and v1beta1: %s",
                       fault.text);
    return rc == CS_OK ? rc : cs_fail(e, rc, "%s", fault.text);
}

/* NAME-UNIXSECONDS, and another suffix where somebody has that already. */
static cs_code submit_named(struct work *w, int64_t now, unsigned n, struct cs_err *e)
{
    CS_CLEANUP(kube_json_drop) json_t *there = NULL;
    char suffix[16] = "";
    if (n > 0)
        (void)snprintf(suffix, sizeof suffix, "-%u", n);
    cs_free(w->request.name);
    w->request.name = cs_asprintf("%s-%" PRId64 "%s", w->request.node, now, suffix);
    if (w->request.name == NULL)
        return cs_nomem(e);
    CS_TRY(csr_pending_write(w->r->id_dir, &w->request, e));
    cs_code rc = create(w, e);
    if (rc != CS_EXISTS)
        return rc;
    /* a first answer may have been lost */
    CS_TRY(get(w, &there, e));
    return is_ours(w, there)
               ? CS_OK
               : cs_fail(e, CS_EXISTS, "certificate signing request %s is another's", w->request.name);
}

static cs_code submit(struct work *w, struct cs_err *e)
{
    const int64_t now = cs_now_s(&cs_clock_system);
    cs_code rc = CS_EXISTS;
    csr_request_free(&w->request);
    w->request.node = cs_strdup(w->r->node_name);
    if (w->request.node == NULL)
        return cs_nomem(e);
    CS_TRY(crypto_key_generate(CRYPTO_EC_P256, &w->request.key, e));
    CS_TRY(csr_key_show(w->r->id_dir, &w->request, e));
    for (unsigned n = 0; n < NAMES_TRIED && rc == CS_EXISTS; n++)
        rc = submit_named(w, now, n, e);
    if (rc != CS_OK) {
        /* what may have arrived is kept */
        if (!cs_code_retryable(rc) && rc != CS_DEADLINE && rc != CS_CANCELLED)
            csr_pending_remove(w->r->id_dir);
        return cs_wrap(e, "unable to create a certificate signing request");
    }
    tell(w, "Created certificate signing request %s", w->request.name);
    return CS_OK;
}

/* The request in the folder, where the server still has it. w->request.key stays NULL otherwise. */
static cs_code resume(struct work *w, struct cs_err *e)
{
    static const char *const paths[] = {csr_path_v1, csr_path_v1beta1};
    CS_TRY(csr_pending_read(w->r->id_dir, w->r->node_name, &w->request, e));
    for (size_t i = 0; i < 2 && w->request.key != NULL; i++) {
        CS_CLEANUP(kube_json_drop) json_t *object = NULL;
        w->path = paths[i];
        cs_code rc = get(w, &object, e);
        if (rc == CS_OK && is_ours(w, object)) {
            tell(w, "Resuming certificate signing request %s", w->request.name);
            return CS_OK;
        }
        if (rc != CS_OK && rc != CS_NOT_FOUND)
            return cs_wrap(e, "unable to look for certificate signing request %s", w->request.name);
    }
    csr_request_free(&w->request);
    return CS_OK;
}

/* --- Waiting --- */

static void tell_state(struct work *w, enum csr_state state)
{
    if (w->any_told && w->told == state)
        return;
    w->any_told = true;
    w->told = state;
    if (state == CSR_PENDING)
        tell(w, "Waiting for the approval of certificate signing request %s (kubectl certificate approve %s)",
             w->request.name, w->request.name);
    else if (state == CSR_APPROVED)
        tell(w, "Certificate signing request %s is approved, waiting for the certificate", w->request.name);
}

static cs_code refused(const struct work *w, const char *how, const json_t *condition, struct cs_err *e)
{
    const char *reason = kube_text(condition, "reason"), *message = kube_text(condition, "message");
    return cs_fail(e, CS_DENIED, "certificate signing request %s %s: %.128s%s%.256s", w->request.name, how,
                   reason, reason[0] != '\0' && message[0] != '\0' ? ": " : "", message);
}

/* What an object of our name says; an error ends it all. */
static cs_code judge(struct work *w, enum kube_event type, const json_t *object, bool *done, struct cs_err *e)
{
    const json_t *condition;
    if (type == KUBE_DELETED)
        return cs_fail(e, CS_ABORTED, "certificate signing request %s was deleted", w->request.name);
    w->listed = true;
    if (!is_ours(w, object))
        return cs_fail(e, CS_ABORTED, "certificate signing request %s is of another key", w->request.name);
    switch (csr_object_state(object, &condition)) {
    case CSR_DENIED:
        return refused(w, "was denied", condition, e);
    case CSR_FAILED:
        return refused(w, "failed", condition, e);
    case CSR_ISSUED:
        cs_buf_reset(&w->cert);
        CS_TRY(csr_object_cert(object, &w->cert, e));
        CS_TRY(csr_check_cert(cs_buf_slice(&w->cert), w->request.key, e));
        *done = true;
        return CS_OK;
    case CSR_APPROVED:
        tell_state(w, CSR_APPROVED);
        return CS_OK;
    case CSR_PENDING:
        break;
    }
    tell_state(w, CSR_PENDING);
    return CS_OK;
}

static cs_code on_event(void *arg, enum kube_event type, const json_t *object, bool *done, struct cs_err *e)
{
    struct work *w = arg;
    if (strcmp(kube_name(object), w->request.name) != 0) /* of a server that knows no field selectors */
        return CS_OK;
    w->over = true;
    CS_TRY(judge(w, type, object, done, e));
    w->over = *done;
    return CS_OK;
}

static void on_listed(void *arg, const struct cs_err *fault)
{
    struct work *w = arg;
    if (fault != NULL)
        tell(w, "Unable to ask for certificate signing request %s: %s", w->request.name, fault->text);
    else if (!w->listed)
        w->gone = w->over = true; /* ends the watch, which would wait for ever */
    w->listed = false;
}

static cs_code wait(struct work *w, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf selector = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf limit = {0};
    const struct crypto_stop stop = {asked_to_stop, w};
    const int64_t left = time_left(w);
    cs_buf_printf(&selector, "metadata.name=%s", w->request.name);
    cs_duration_format(&limit, w->r->timeout_ns);
    if (!cs_buf_ok(&selector) || !cs_buf_ok(&limit))
        return cs_nomem(e);
    const struct kube_watch watch = {.path = w->path,
                                     .field_selector = cs_buf_cstr(&selector),
                                     .stop = &stop,
                                     .timeout_ns = left > 0 ? left : 1,
                                     .event = on_event,
                                     .listed = on_listed,
                                     .arg = w};
    cs_code rc = kube_watch(w->api, &watch, e);
    if (rc == CS_OK)
        return CS_OK;
    if (w->gone)
        return cs_fail(e, CS_ABORTED, "certificate signing request %s is gone", w->request.name);
    if (w->over || rc == CS_CANCELLED || time_left(w) > 0)
        return rc;
    return cs_fail(
        e, CS_DEADLINE,
        "certificate signing request %s was not answered within %s; it is waited for again next time",
        w->request.name, cs_buf_cstr(&limit));
}

/* --- All of it --- */

static cs_code work_in_folder(struct work *w, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *path = NULL;
    CS_TRY(resume(w, e));
    if (w->request.key == NULL)
        CS_TRY(submit(w, e));
    cs_code rc = wait(w, e);
    if (w->over)
        csr_pending_remove(w->r->id_dir);
    CS_TRY(rc);
    CS_TRY(csr_identity_write(w->r->id_dir, &w->request, cs_buf_slice(&w->cert), &path, e));
    csr_pending_remove(w->r->id_dir);
    tell(w, "Wrote identity document to %s", path);
    return CS_OK;
}

static const char *or_null(const char *s)
{
    return s != NULL && s[0] != '\0' ? s : NULL;
}

static cs_code work(struct work *w, struct cs_err *e)
{
    const struct kube_options o = {.kubeconfig = or_null(w->r->kubeconfig),
                                   .ca_file = or_null(w->r->ca_file),
                                   .client_cert_file = or_null(w->r->client_cert_file),
                                   .client_key_file = or_null(w->r->client_key_file),
                                   .user_agent = "node-attestor"};
    CS_TRY(kube_client_new(&o, &w->api, e));
    cs_code rc = work_in_folder(w, e);
    kube_client_free(w->api);
    return rc;
}

cs_code k8s_csr_obtain(const struct k8s_csr_request *r, struct cs_err *e)
{
    struct cs_err local;
    struct work w = {.r = r, .end = cs_mono_ns(&cs_clock_system) + r->timeout_ns};
    int folder;
    e = e != NULL ? e : &local;
    CS_TRY(csr_folder_open(r->id_dir, &folder, e));
    cs_code rc = work(&w, e);
    csr_request_free(&w.request);
    cs_buf_free(&w.cert);
    close(folder);
    return rc;
}
