/* SPDX-License-Identifier: Apache-2.0
 *
 * A small HTTP/1.1 server for tests: a thread for each connection, and a handler that writes what it likes.
 */
#ifndef CS_TESTS_FAKES_HTTP_SERVER_H
#define CS_TESTS_FAKES_HTTP_SERVER_H

#include "base/buf.h"

struct test_conn;
struct test_request {
    char method[16], target[2048];
    struct cs_buf head; /* the header lines, CRLF each; with a NUL behind it, as the body */
    struct cs_buf body;
    const char *client; /* subject of the client's certificate; NULL: none */
};
/* Writes the response; false: the connection ends. One thread for each connection. */
typedef bool (*test_handler)(void *arg, const struct test_request *r, struct test_conn *c);

struct test_server_options {
    test_handler handler;
    void *arg;
    const char *unix_path; /* listen there; NULL: on a free port of 127.0.0.1 */
    /* PEM; NULL: no TLS. */
    const char *cert, *key;
    const char *client_ca; /* a client certificate is demanded; NULL: not */
};
struct test_server;
struct test_server *test_server_start(const struct test_server_options *o);
/* "https://127.0.0.1:PORT" */
const char *test_server_url(const struct test_server *s);
size_t test_server_connections(struct test_server *s); /* so far */
void test_server_stop(struct test_server *s);

bool test_write(struct test_conn *c, const void *p, size_t n);
/* Status line, Content-Length and body; `headers` are whole lines or "". */
bool test_reply(struct test_conn *c, int status, const char *headers, const char *body);
/* True once the server is being stopped: for handlers that hang. */
bool test_stopping(struct test_conn *c);

/* PEM of a CA and of what it issued; malloc'ed strings. `ip` is the certificate's one name (127.0.0.1 when
 * NULL), unless `dns` is given. */
struct test_pki {
    char *ca_cert;
    void *ca_key, *ca; /* OpenSSL's */
};
void test_pki_new(struct test_pki *p);
void test_pki_issue(struct test_pki *p, const char *common_name, const char *dns, char **cert, char **key);
void test_pki_free(struct test_pki *p);

#endif
