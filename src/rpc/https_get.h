/* SPDX-License-Identifier: Apache-2.0
 *
 * One GET of a small document: over TLS with the system's trust store, or in the clear over a Unix socket.
 * For bootstrapping an agent from a URL; everything else that speaks HTTP is a loadable module's business.
 */
#ifndef CS_RPC_HTTPS_GET_H
#define CS_RPC_HTTPS_GET_H

#include "base/buf.h"
#include "base/clock.h"

struct rpc_https_get {
    const char *url;       /* "https://host[:port]/path"; "http://..." only with unix_path */
    const char *unix_path; /* connect there instead of to the URL's host; or NULL */
    const char *ca_file;   /* PEM roots instead of the system's (tests); or NULL */
    size_t max_body;       /* bytes */
    int64_t timeout_ns;    /* for all of it, redirects included */
};
/* Appends the body. Redirects (301, 302, 303, 307, 308) to other https URLs are followed, ten at most; any
 * other status is handed out with its body. Blocking. CS_INVALID for a URL that is not one;
 * CS_UNAUTHENTICATED when the certificate is not good for the host; CS_DEADLINE; CS_EXHAUSTED past max_body;
 * CS_UNAVAILABLE. */
CS_CHECKED cs_code rpc_https_get(const struct rpc_https_get *req, int *status, struct cs_buf *body,
                                 struct cs_err *e);

/* A whole HTTP/1 response, read until its end: for tests and fuzzing. Appends the decoded body (chunked, by
 * length or until the end); *location views `raw` and is empty when there is none. CS_INVALID. */
CS_CHECKED cs_code rpc_http_response_parse(struct cs_slice raw, size_t max_body, int *status,
                                           struct cs_slice *location, struct cs_buf *body, struct cs_err *e);

#endif
