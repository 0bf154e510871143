/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the HTTP client: a client, and the TLS part, the only one that knows OpenSSL.
 */
#ifndef CS_MODULES_HTTP_INTERNAL_H
#define CS_MODULES_HTTP_INTERNAL_H

#include "base/mem.h"
#include "plugins/modules/http/http.h"

#include <curl/curl.h>
#include <pthread.h>

struct http_client {
    struct http_client_options o; /* with copies of our own */
    struct cs_arena *arena;       /* of them, but for the key */
    struct cs_secret *client_key;
    pthread_mutex_t lock; /* over the handles */
    CURL *idle[HTTP_IDLE_MAX];
    size_t idle_count;
};

/* One call under way. */
struct http_transfer {
    const struct http_client *client;
    const struct http_request *request;
    struct http_response *response;
    CURL *curl;
    struct curl_slist *headers; /* wiped when freed: tokens */
    char error[CURL_ERROR_SIZE];
    /* What one of our callbacks ended the call for; outranks what libcurl makes of it. */
    struct cs_err fault;
};

/* tls.c: TLS options of a transfer; false when libcurl refuses one. */
bool http_tls_setup(struct http_transfer *t);

#endif
