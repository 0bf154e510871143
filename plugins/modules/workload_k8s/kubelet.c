/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/modules/workload_k8s/kubelet.h"

#include "base/file.h"

#include <stdatomic.h>
#include <stdio.h>

#define FILE_MAX ((size_t)1 << 20)
#define FILE_USUAL ((size_t)16 * 1024)
#define REFUSAL_MAX ((size_t)64 * 1024) /* bytes of a response that is no list */

/* What connections are made with; shared by those that differ in nothing but the token. */
struct transport {
    atomic_uint refs;
    struct http_client *http;
    struct cs_buf ca, cert, key; /* PEM, as they were read */
    bool insecure, any_name;
};

struct k8s_kubelet {
    atomic_uint refs;
    struct transport *transport;
    char *url;
    struct cs_buf authorization; /* "Bearer ..."; empty: none */
};

static void transport_unref(struct transport *t)
{
    if (t == NULL || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return;
    http_client_free(t->http);
    cs_buf_free(&t->ca);
    cs_buf_free(&t->cert);
    cs_buf_wipe(&t->key);
    cs_free(t);
}
static inline void transport_drop(struct transport **t)
{
    transport_unref(*t);
    *t = NULL;
}

struct k8s_kubelet *k8s_kubelet_ref(struct k8s_kubelet *k)
{
    atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
    return k;
}

void k8s_kubelet_unref(struct k8s_kubelet *k)
{
    if (k == NULL || atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) != 1)
        return;
    transport_unref(k->transport);
    cs_buf_wipe(&k->authorization);
    cs_free(k->url);
    cs_free(k);
}

/* --- Files --- */

static cs_code load(const char *path, const char *what, struct cs_buf *out, struct cs_err *e)
{
    struct cs_err fault;
    if (!cs_buf_reserve(out, FILE_USUAL)) /* growing would leave a copy behind */
        return cs_nomem(e);
    cs_code rc = cs_file_read(path, FILE_MAX, out, &fault);
    return rc == CS_OK ? CS_OK : cs_fail(e, rc, "unable to load %s: %.400s", what, fault.text);
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The header's value from the token's file. An empty one sends no header, as SPIRE does. */
static cs_code load_token(const char *path, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf file = {0};
    CS_TRY(load(path, "token", &file, e));
    size_t from = 0;
    while (file.len > 0 && is_blank(file.data[file.len - 1]))
        file.len--;
    while (from < file.len && is_blank(file.data[from]))
        from++;
    for (size_t i = from; i < file.len; i++)
        if (file.data[i] <= ' ' || file.data[i] >= 0x7f)
            return cs_fail(e, CS_INVALID, "unable to load token: %s is not one word of text", path);
    if (from == file.len)
        return CS_OK;
    if (!cs_buf_reserve(out, file.len + sizeof "Bearer "))
        return cs_nomem(e);
    cs_buf_add_str(out, "Bearer ");
    cs_buf_add(out, file.data + from, file.len - from);
    (void)cs_buf_cstr(out); /* ends it, as it is shared from here on */
    return CS_OK;
}

/* All that a secure connection needs. */
static cs_code load_all(const struct config_k8s *c, struct transport *t, struct cs_buf *authorization,
                        struct cs_err *e)
{
    bool cert = c->certificate_path[0] != '\0', key = c->private_key_path[0] != '\0';
    if (!c->secure)
        return CS_OK;
    if (!c->skip_kubelet_verification)
        CS_TRY(load(c->kubelet_ca_path, "kubelet CA", &t->ca, e));
    if (c->use_anonymous_authentication)
        return CS_OK;
    if (cert && key) {
        CS_TRY(load(c->certificate_path, "certificate", &t->cert, e));
        return load(c->private_key_path, "private key", &t->key, e);
    }
    if (cert)
        return cs_fail(e, CS_INVALID, "the private key path is required with the certificate path");
    if (key)
        return cs_fail(e, CS_INVALID, "the certificate path is required with the private key path");
    return load_token(c->token_path, authorization, e);
}

/* --- The client --- */

static cs_code check_material(const struct config_k8s *c, const struct transport *t, struct cs_err *e)
{
    if (!c->secure)
        return CS_OK;
    if (!c->skip_kubelet_verification &&
        memmem(t->ca.data, t->ca.len, "-----BEGIN CERTIFICATE-----", 27) == NULL)
        return cs_fail(e, CS_INVALID, "unable to parse kubelet CA: no PEM blocks");
    if (c->certificate_path[0] != '\0' && !c->use_anonymous_authentication &&
        (t->cert.len == 0 || t->key.len == 0))
        return cs_fail(e, CS_INVALID, "unable to load keypair: no PEM blocks");
    return CS_OK;
}

static cs_code connect_with(const struct config_k8s *c, struct transport *t, struct cs_err *e)
{
    const struct http_client_options o = {
        .ca = cs_buf_slice(&t->ca),
        .client_cert = cs_buf_slice(&t->cert),
        .client_key = cs_buf_slice(&t->key),
        .insecure = t->insecure,
        .any_name = t->any_name,
    };
    CS_TRY(check_material(c, t, e));
    return http_client_new(&o, &t->http, e);
}

static char *url_of(const struct config_k8s *c)
{
    if (!c->secure)
        return cs_asprintf("http://127.0.0.1:%d/pods", c->port);
    const char *host = c->node_name[0] != '\0' ? c->node_name : "127.0.0.1";
    return cs_asprintf(strchr(host, ':') != NULL ? "https://[%s]:%d/pods" : "https://%s:%d/pods", host,
                       c->port);
}

static bool same(const struct cs_buf *a, const struct cs_buf *b)
{
    return cs_slice_eq(cs_buf_slice(a), cs_buf_slice(b));
}

static bool can_lend(const struct k8s_kubelet *before, const struct k8s_kubelet *k, const struct transport *t)
{
    return before != NULL && strcmp(before->url, k->url) == 0 && before->transport->insecure == t->insecure &&
           before->transport->any_name == t->any_name && same(&before->transport->ca, &t->ca) &&
           same(&before->transport->cert, &t->cert) && same(&before->transport->key, &t->key);
}

cs_code k8s_kubelet_new(const struct config_k8s *c, struct k8s_kubelet *before, struct k8s_kubelet **out,
                        struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(k8s_kubelet) k = cs_calloc(1, sizeof *k);
    if (k == NULL)
        return cs_nomem(e);
    atomic_init(&k->refs, 1);
    k->url = url_of(c);
    CS_AUTO(transport) t = cs_calloc(1, sizeof *t);
    if (t == NULL || k->url == NULL)
        return cs_nomem(e);
    atomic_init(&t->refs, 1);
    t->insecure = c->skip_kubelet_verification;
    t->any_name = c->node_name[0] == '\0';
    CS_TRY(load_all(c, t, &k->authorization, e));
    if (can_lend(before, k, t)) {
        k->transport = before->transport;
        atomic_fetch_add_explicit(&k->transport->refs, 1, memory_order_relaxed);
    } else {
        CS_TRY(connect_with(c, t, e));
        k->transport = CS_MOVE(t);
    }
    *out = CS_MOVE(k);
    return CS_OK;
}

/* What the reader says goes up as it is, without the request in front of it. */
struct intake {
    struct k8s_reader *reader;
    struct cs_err fault;
    cs_code rc;
};

static cs_code on_piece(void *arg, struct cs_slice piece, struct cs_err *e)
{
    struct intake *in = arg;
    (void)e;
    in->rc = k8s_reader_add(in->reader, piece, &in->fault);
    return in->rc;
}

static cs_code judge(const struct intake *in, cs_code rc, const struct http_response *r,
                     const struct cs_err *fault, struct cs_err *e)
{
    if (in->rc != CS_OK)
        return cs_fail(e, in->rc, "%s", in->fault.text);
    if (rc != CS_OK)
        return cs_fail(e, rc, "%s: %.440s",
                       r->status == 0 ? "unable to perform request" : "unable to read pods response",
                       fault->text);
    if (r->status != 200)
        return cs_fail(e, CS_UNAVAILABLE, "unexpected status code on pods response: %d %.*s", r->status,
                       (int)(r->body.len < 400 ? r->body.len : 400),
                       r->body.len > 0 ? (const char *)r->body.data : "");
    return CS_OK;
}

cs_code k8s_kubelet_pods(struct k8s_kubelet *k, const struct crypto_stop *stop, struct k8s_pods **out,
                         struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(k8s_reader) reader = NULL;
    CS_TRY(k8s_reader_new(&reader, e));
    struct intake in = {.reader = reader};
    const struct http_header bearer = {"Authorization", (const char *)k->authorization.data};
    const struct http_request q = {.method = "GET",
                                   .url = k->url,
                                   .headers = &bearer,
                                   .header_count = k->authorization.len > 0,
                                   .timeout_ns = K8S_KUBELET_TIMEOUT_NS,
                                   .max_body = REFUSAL_MAX,
                                   .stop = stop,
                                   .on_body = on_piece,
                                   .on_body_arg = &in};
    CS_CLEANUP(http_response_free) struct http_response r = {0};
    struct cs_err fault = {0};
    cs_code rc = http_call(k->transport->http, &q, &r, &fault);
    CS_TRY(judge(&in, rc, &r, &fault, e));
    return k8s_reader_end(reader, out, e);
}
