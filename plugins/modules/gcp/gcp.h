/* SPDX-License-Identifier: Apache-2.0
 *
 * Google Cloud as SVIDStore "gcp_secretmanager" needs it: credentials, access tokens, calls.
 *
 * REST and not gRPC, which SPIRE's plugin speaks through Google's library: both are the same API
 * (google.cloud.secretmanager.v1, transcoded by its HTTP annotations), and tokens come over HTTP in any case.
 * So one client with proxies and the system's roots does for all; our own gRPC client has neither.
 */
#ifndef CS_MODULES_GCP_GCP_H
#define CS_MODULES_GCP_GCP_H

#include "base/clock.h"
#include "base/mem.h"
#include "crypto/key.h"
#include "plugins/modules/http/http.h"

#include <jansson.h>

static inline void gcp_json_drop(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}
/* Wipes the strings of an object before it is released: they may be keys or tokens. */
void gcp_json_wipe(json_t **j);
/* Appends a form's or query's NAME=VALUE, escaped, with & before it unless `out` is empty. */
void gcp_form_add(struct cs_buf *out, const char *name, struct cs_slice value);
/* May tokens and keys be sent there? https, or http to this machine (emulators, tests). CS_INVALID. */
CS_CHECKED cs_code gcp_url_check(const char *url, struct cs_err *e);

/* --- Credentials --- */

enum gcp_kind {
    GCP_METADATA, /* of the machine, from its metadata server */
    GCP_SERVICE_ACCOUNT,
    GCP_AUTHORIZED_USER,
};

/* Single owner; wiped when freed. What a kind does not have is NULL. */
struct gcp_credentials {
    enum gcp_kind kind;
    char *token_uri;                                 /* all but GCP_METADATA */
    char *email, *key_id;                            /* service account; key_id may be NULL */
    struct crypto_signer *signer;                    /* service account: RSA */
    char *client_id;                                 /* user */
    struct cs_secret *client_secret, *refresh_token; /* user */
    char *quota_project;                             /* NULL: none */
};
void gcp_credentials_free(struct gcp_credentials *c); /* NULL is fine */
static inline void gcp_credentials_drop(struct gcp_credentials **c)
{
    gcp_credentials_free(*c);
    *c = NULL;
}

#define GCP_FILE_MAX ((size_t)65536)
/* What a credentials file says (AIP-4112 for service accounts, AIP-4113 for users). CS_INVALID with texts of
 * Google's Go library where users know them: `credentials: unsupported filetype "x"`; CS_UNIMPLEMENTED
 * `credentials: type "external_account" is not supported`. */
CS_CHECKED cs_code gcp_credentials_parse(struct cs_slice text, struct gcp_credentials **out,
                                         struct cs_err *e);
/* From `file` unless it is "", else Application Default Credentials (AIP-4110): the file that
 * GOOGLE_APPLICATION_CREDENTIALS names, gcloud's file, the metadata server (GCE_METADATA_HOST); the last is
 * not looked for when NO_GCE_CHECK is "true". `metadata`: the client for it. */
CS_CHECKED cs_code gcp_credentials_find(const char *file, struct http_client *metadata,
                                        const struct crypto_stop *stop, struct gcp_credentials **out,
                                        struct cs_err *e);
/* Appends "http://HOST/" of the metadata server. CS_INVALID when GCE_METADATA_HOST is no HOST or HOST:PORT.
 */
CS_CHECKED cs_code gcp_metadata_url(struct cs_buf *out, struct cs_err *e);

/* --- Tokens --- */

struct gcp_token {
    struct cs_secret *value; /* NULL: none */
    int64_t expires;         /* unix seconds */
};
void gcp_token_free(struct gcp_token *t);

/* Appends the form to post to token_uri: a signed assertion (RFC 7523) or the refresh token (RFC 6749 section
 * 6). `out` is empty and the caller wipes it. Not for GCP_METADATA. */
CS_CHECKED cs_code gcp_token_form(const struct gcp_credentials *c, int64_t now, struct cs_buf *out,
                                  struct cs_err *e);
/* Answer of a token endpoint or the metadata server (RFC 6749 section 5). CS_UNAUTHENTICATED when it is
 * refused, `invalid_grant: Invalid JWT`; CS_UNAVAILABLE for 429 and 5xx; CS_INTERNAL for nonsense. */
CS_CHECKED cs_code gcp_token_read(int status, struct cs_slice body, int64_t now, struct gcp_token *out,
                                  struct cs_err *e);

/* --- Calls --- */

/* A client with its credentials and the token of the moment. Single owner; any thread, several calls at a
 * time. */
struct gcp;
/* `file`: see gcp_credentials_find. stop (may be NULL) and clock are borrowed and outlive it. */
CS_CHECKED cs_code gcp_new(const char *file, const struct crypto_stop *stop, const struct cs_clock *clock,
                           struct gcp **out, struct cs_err *e);
void gcp_free(struct gcp *g); /* no call may be under way; NULL is fine */
static inline void gcp_drop(struct gcp **g)
{
    gcp_free(*g);
    *g = NULL;
}

/* Appends a token to the empty buffer `out`, which the caller wipes: the one that is there until shortly
 * before its end, else a fresh one. One thread at a time asks for it, the others wait. */
CS_CHECKED cs_code gcp_access_token(struct gcp *g, struct cs_buf *out, struct cs_err *e);

/* Sends a request and repeats it, with growing random pauses, or longer if the answer says so (Retry-After),
 * while it is answered with 429 or 5xx, or not reached: 4 times, 30 s in all. So it must be one that may be
 * sent twice. Errors as http_call's. */
CS_CHECKED cs_code gcp_send(struct http_client *c, struct http_request *q, const struct cs_clock *clock,
                            struct http_response *out, struct cs_err *e);

/* Calls Secret Manager. path: "projects/p/secrets/s", escaped, with its query. body: JSON, which may be
 * secret; data NULL: none. *answer: new reference to an object; NULL on failure. Errors are Google's, see
 * gcp_failure. The address is https://secretmanager.googleapis.com/, unless gcloud's variable
 * CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER names another. */
CS_CHECKED cs_code gcp_call(struct gcp *g, const char *method, const char *path, struct cs_slice body,
                            json_t **answer, struct cs_err *e);
/* The answer of a call; pure. */
CS_CHECKED cs_code gcp_answer_read(int status, struct cs_slice body, json_t **answer, struct cs_err *e);
/* The error in an answer (AIP-193), with the text that Go's gRPC has for it: `rpc error: code = NotFound desc
 * = Secret [projects/p/secrets/s] not found.` A status without an error of Google's is somebody else's (a
 * proxy's) and means what it means to gRPC (doc/http-grpc-status-mapping.md): 404 is never CS_NOT_FOUND then.
 */
cs_code gcp_failure(int status, struct cs_slice body, struct cs_err *e);

#endif
