/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fakes/http_server.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define CONNS_MAX 256

struct test_conn {
    struct test_server *server;
    int fd;
    SSL *ssl;
    pthread_t thread;
};
struct test_server {
    struct test_server_options o;
    int listener;
    SSL_CTX *ctx;
    pthread_t thread;
    atomic_bool stopping;
    atomic_size_t count;
    struct test_conn conns[CONNS_MAX];
    char url[64];
};

/* --- Bytes --- */

static ssize_t read_some(struct test_conn *c, void *p, size_t n)
{
    if (c->ssl != NULL)
        return SSL_read(c->ssl, p, (int)n);
    return read(c->fd, p, n);
}

bool test_write(struct test_conn *c, const void *p, size_t n)
{
    const char *at = p;
    while (n > 0) {
        ssize_t w = c->ssl != NULL ? SSL_write(c->ssl, at, (int)n) : send(c->fd, at, n, MSG_NOSIGNAL);
        if (w <= 0)
            return false;
        at += w;
        n -= (size_t)w;
    }
    return true;
}

bool test_reply(struct test_conn *c, int status, const char *headers, const char *body)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_buf_printf(&b, "HTTP/1.1 %d Said\r\n%sContent-Length: %zu\r\n\r\n%s", status, headers, strlen(body),
                  body);
    return test_write(c, b.data, b.len);
}

bool test_stopping(struct test_conn *c)
{
    return c->server->stopping;
}

/* --- Requests --- */

static bool parse_head(struct cs_buf *raw, struct test_request *r, size_t *length)
{
    char *text = (char *)cs_buf_cstr(raw), *end = strstr(text, "\r\n\r\n");
    *length = 0;
    if (end == NULL || sscanf(text, "%15s %2047s", r->method, r->target) != 2)
        return false;
    char *lines = strstr(text, "\r\n") + 2;
    cs_buf_add(&r->head, lines, (size_t)(end + 2 - lines));
    for (char *l = lines; l < end; l = strstr(l, "\r\n") + 2)
        if (strncasecmp(l, "content-length:", 15) == 0)
            *length = (size_t)strtoul(l + 15, NULL, 10);
    size_t used = (size_t)(end + 4 - text);
    cs_buf_add(&r->body, text + used, raw->len - used);
    return true;
}

static bool read_request(struct test_conn *c, struct test_request *r)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf raw = {0};
    char piece[4096];
    size_t length = 0;
    while (raw.len < 4 || strstr(cs_buf_cstr(&raw), "\r\n\r\n") == NULL) {
        ssize_t n = read_some(c, piece, sizeof piece);
        if (n <= 0)
            return false;
        cs_buf_add(&raw, piece, (size_t)n);
    }
    if (!parse_head(&raw, r, &length))
        return false;
    while (r->body.len < length) {
        ssize_t n = read_some(c, piece, sizeof piece);
        if (n <= 0)
            return false;
        cs_buf_add(&r->body, piece, (size_t)n);
    }
    (void)cs_buf_cstr(&r->head); /* handlers may read both as C strings */
    (void)cs_buf_cstr(&r->body);
    return cs_buf_ok(&r->head) && cs_buf_ok(&r->body);
}

static void serve(struct test_conn *c)
{
    char client[256] = "";
    X509 *peer = c->ssl != NULL ? SSL_get1_peer_certificate(c->ssl) : NULL;
    if (peer != NULL)
        X509_NAME_oneline(X509_get_subject_name(peer), client, sizeof client);
    X509_free(peer);
    for (bool on = true; on;) {
        struct test_request r = {.client = client[0] != '\0' ? client : NULL};
        on = read_request(c, &r) && c->server->o.handler(c->server->o.arg, &r, c);
        cs_buf_free(&r.head);
        cs_buf_free(&r.body);
    }
}

static void *conn_main(void *arg)
{
    struct test_conn *c = arg;
    bool ok = true;
    if (c->server->ctx != NULL) {
        c->ssl = SSL_new(c->server->ctx);
        SSL_set_fd(c->ssl, c->fd);
        ok = SSL_accept(c->ssl) == 1;
    }
    if (ok)
        serve(c);
    if (c->ssl != NULL && ok)
        SSL_shutdown(c->ssl);
    shutdown(c->fd, SHUT_RDWR);
    SSL_free(c->ssl);
    return NULL;
}

/* --- The server --- */

static void *accept_main(void *arg)
{
    struct test_server *s = arg;
    while (!s->stopping) {
        struct pollfd p = {.fd = s->listener, .events = POLLIN};
        if (poll(&p, 1, 20) != 1)
            continue;
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        if (s->count == CONNS_MAX)
            abort();
        struct test_conn *c = &s->conns[s->count++];
        *c = (struct test_conn){.server = s, .fd = fd};
        if (pthread_create(&c->thread, NULL, conn_main, c) != 0)
            abort();
    }
    return NULL;
}

static void listen_somewhere(struct test_server *s)
{
    if (s->o.unix_path != NULL) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path, sizeof a.sun_path, "%s", s->o.unix_path);
        s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
        snprintf(s->url, sizeof s->url, "http://localhost");
    } else {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof a;
        s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
        assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &len), 0);
        snprintf(s->url, sizeof s->url, "%s://127.0.0.1:%u", s->o.cert != NULL ? "https" : "http",
                 ntohs(a.sin_port));
    }
    assert_int_equal(listen(s->listener, 64), 0);
}

static BIO *memory(const char *text)
{
    return BIO_new_mem_buf(text, (int)strlen(text));
}

static void set_tls(struct test_server *s)
{
    BIO *c = memory(s->o.cert), *k = memory(s->o.key);
    X509 *cert = PEM_read_bio_X509(c, NULL, NULL, NULL);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(k, NULL, NULL, NULL);
    s->ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(s->ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(s->ctx, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    BIO_free(c);
    BIO_free(k);
    if (s->o.client_ca == NULL)
        return;
    c = memory(s->o.client_ca);
    cert = PEM_read_bio_X509(c, NULL, NULL, NULL);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(s->ctx), cert);
    SSL_CTX_set_verify(s->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    X509_free(cert);
    BIO_free(c);
}

struct test_server *test_server_start(const struct test_server_options *o)
{
    struct test_server *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->o = *o;
    if (o->cert != NULL)
        set_tls(s);
    listen_somewhere(s);
    assert_int_equal(pthread_create(&s->thread, NULL, accept_main, s), 0);
    return s;
}

const char *test_server_url(const struct test_server *s)
{
    return s->url;
}

size_t test_server_connections(struct test_server *s)
{
    return s->count;
}

void test_server_stop(struct test_server *s)
{
    if (s == NULL)
        return;
    s->stopping = true;
    pthread_join(s->thread, NULL);
    for (size_t i = 0; i < s->count; i++)
        shutdown(s->conns[i].fd, SHUT_RDWR);
    for (size_t i = 0; i < s->count; i++) {
        pthread_join(s->conns[i].thread, NULL);
        close(s->conns[i].fd);
    }
    close(s->listener);
    if (s->o.unix_path != NULL)
        unlink(s->o.unix_path);
    SSL_CTX_free(s->ctx);
    free(s);
}

/* --- Certificates --- */

static char *to_text(BIO *b)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    char *text = strndup(p, (size_t)n);
    BIO_free(b);
    assert_non_null(text);
    return text;
}

static void add_ext(X509 *c, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, c, c, NULL, NULL, 0);
    X509_EXTENSION *x = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(x);
    X509_add_ext(c, x, -1);
    X509_EXTENSION_free(x);
}

static X509 *make_cert(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, const char *san)
{
    static atomic_long serial = 1;
    X509 *c = X509_new();
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), serial++);
    X509_gmtime_adj(X509_getm_notBefore(c), -3600);
    X509_gmtime_adj(X509_getm_notAfter(c), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_UTF8, (const uint8_t *)name, -1, -1,
                               0);
    X509_set_issuer_name(c, X509_get_subject_name(issuer != NULL ? issuer : c));
    X509_set_pubkey(c, key);
    if (issuer == NULL) {
        add_ext(c, NID_basic_constraints, "critical,CA:TRUE");
        add_ext(c, NID_key_usage, "critical,keyCertSign");
    } else {
        add_ext(c, NID_subject_alt_name, san);
    }
    assert_true(X509_sign(c, issuer_key, EVP_sha256()) > 0);
    return c;
}

void test_pki_new(struct test_pki *p)
{
    p->ca_key = EVP_EC_gen("P-256");
    p->ca = make_cert("test CA", p->ca_key, NULL, p->ca_key, NULL);
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(b, p->ca);
    p->ca_cert = to_text(b);
}

void test_pki_issue(struct test_pki *p, const char *common_name, const char *dns, char **cert, char **key)
{
    char san[128];
    EVP_PKEY *k = EVP_EC_gen("P-256");
    snprintf(san, sizeof san, dns != NULL ? "DNS:%s" : "IP:127.0.0.1%s", dns != NULL ? dns : "");
    X509 *c = make_cert(common_name, k, p->ca, p->ca_key, san);
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(b, c);
    *cert = to_text(b);
    b = BIO_new(BIO_s_mem());
    PEM_write_bio_PKCS8PrivateKey(b, k, NULL, NULL, 0, NULL, NULL);
    *key = to_text(b);
    X509_free(c);
    EVP_PKEY_free(k);
}

void test_pki_free(struct test_pki *p)
{
    X509_free(p->ca);
    EVP_PKEY_free(p->ca_key);
    free(p->ca_cert);
}
