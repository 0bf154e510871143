/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP for loadable modules, on libcurl: blocking calls with a deadline and limits. Its code becomes part of
 * each module that uses it (CMakeLists.txt: USES http). Nothing is retried here, and nothing logged.
 */
#ifndef CS_MODULES_HTTP_HTTP_H
#define CS_MODULES_HTTP_HTTP_H

#include "base/buf.h"
#include "crypto/key.h"

/* How a server is reached and known; copied by http_client_new. Zeroed: TLS with the system's roots, the
 * host's name checked, no client certificate, no proxy. */
struct http_client_options {
    const char *unix_path; /* connect there instead of to the URL's host; NULL: no */
    const char *proxy;     /* "http://host:port"; NULL: none, whatever the environment says */
    bool proxy_from_env;   /* HTTPS_PROXY, NO_PROXY and so on are heeded, but for this machine */
    bool https_only;       /* refuse http:// URLs, which are fine otherwise */

    /* Roots, PEM: in memory, else a file that is read at each new connection, else the system's. A
     * certificate that is not self-signed, even the server's own, may be one. */
    struct cs_slice ca;
    const char *ca_file;
    /* Client certificate (leaf first) and its key, PEM, in memory; both or none. The key is wiped at the
     * end. */
    struct cs_slice client_cert, client_key;
    const char *server_name; /* the name in the certificate and in SNI, when it is not the URL's host */
    bool any_name;           /* the chain is checked, the name is not */
    bool insecure;           /* nothing is checked */
    /* Checks the server instead of all the above: certificates in DER, leaf first. CS_OK: go on. Called in
     * the calling thread, for each new connection. */
    CS_CHECKED cs_code (*verify)(void *arg, const struct cs_slice *chain, size_t count, struct cs_err *e);
    void *verify_arg;
};

/* Keeps connections for the next call; at most `HTTP_IDLE_MAX`. Any thread, several calls at a time. */
struct http_client;
#define HTTP_IDLE_MAX 8
/* CS_INVALID: a client certificate without key, or the other way round. */
CS_CHECKED cs_code http_client_new(const struct http_client_options *o, struct http_client **out,
                                   struct cs_err *e);
void http_client_free(struct http_client *c); /* no call may be under way; NULL is fine */
static inline void http_client_drop(struct http_client **c)
{
    http_client_free(*c);
    *c = NULL;
}

struct http_header {
    const char *name, *value;
};

/* AWS signature, version 4 (the header x-amz-security-token is the caller's). */
struct http_sigv4 {
    const char *region, *service; /* "us-east-1", "secretsmanager" */
    const char *access_key_id, *secret_access_key;
};

struct http_request {
    const char *method; /* "GET" */
    const char *url;
    const struct http_header *headers;
    size_t header_count;
    struct cs_slice body; /* data NULL: none */
    int64_t timeout_ns;   /* for all of it; 0: 30 s */
    int64_t idle_ns;      /* no byte for so long ends it (whole seconds); 0: only timeout_ns counts */
    size_t max_body;      /* bytes; 0: 1 MiB */
    /* It must not be sent twice: goes over a new connection, since libcurl sends again what it sent over a
     * kept one that turns out to be closed. */
    bool once;
    bool last;                      /* the connection is not kept for other calls */
    unsigned max_redirects;         /* 0: a redirect is a response like others */
    const struct crypto_stop *stop; /* the call ends within a second of its asking; may be NULL */
    const struct http_sigv4 *sigv4; /* NULL: none */
    /* Takes the body of a 2xx response as it comes, instead of response.body; any code but CS_OK ends the
     * call with it. max_body does not count. NULL: none. */
    CS_CHECKED cs_code (*on_body)(void *arg, struct cs_slice piece, struct cs_err *e);
    void *on_body_arg;
};

/* Zero-initialise; http_response_free after success and failure. */
struct http_response {
    int status; /* 200; 0: none came */
    struct cs_buf body;
    int64_t retry_after_ns; /* -1: not said */
    struct cs_buf head;     /* header lines of the last response, "name: value\n" each */
};
/* Value of a header, any case, without surrounding blanks; views the response. False: not there. */
bool http_response_header(const struct http_response *r, const char *name, struct cs_slice *value);
void http_response_free(struct http_response *r); /* wipes the body */

/* CS_OK for every status. Texts begin with `GET "https://host/path": `, the query left out.
 * CS_INVALID: no good URL, or certificate material that cannot be read; CS_UNAVAILABLE: not reached, or
 * broken off; CS_DEADLINE; CS_UNAUTHENTICATED: the server is not who it should be; CS_EXHAUSTED: the
 * response is larger than max_body; CS_CANCELLED: `stop` asked for it. */
CS_CHECKED cs_code http_call(struct http_client *c, const struct http_request *r, struct http_response *out,
                             struct cs_err *e);

/* Sleeps, say until a call is made again; false: stop (may be NULL) asked for the end, which is seen within
 * 100 ms. */
bool http_pause(int64_t ns, const struct crypto_stop *stop);
/* The pause before the n-th repetition (0 first): 200 ms doubling to at most `max_ns`, of which a random
 * half. */
int64_t http_backoff(unsigned n, int64_t max_ns);

/* Appends a path segment or query value, percent-encoded (RFC 3986, all but unreserved characters). */
void http_escape(struct cs_buf *out, struct cs_slice text);

#endif
