/* SPDX-License-Identifier: Apache-2.0
 *
 * The Kubernetes API: calls with the retries that API servers ask for, lists, and watches that go on where
 * they broke off. Objects are jansson's. Its code becomes part of each module that uses it (CMakeLists.txt:
 * USES kube).
 */
#ifndef CS_MODULES_KUBE_KUBE_H
#define CS_MODULES_KUBE_KUBE_H

#include "base/buf.h"
#include "base/clock.h"
#include "crypto/key.h"

#include <jansson.h>

/* Where the API server is and who we are to it. Borrowed for the time of kube_client_new. */
struct kube_options {
    /* Path of a kubeconfig; NULL or "": we run in a pod, and have the service account's token and CA, and
     * the variables KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT. */
    const char *kubeconfig;
    /* Instead of what the kubeconfig says about the CA and the user; NULL: as it says. A certificate without
     * its key, or the other way round, is CS_INVALID. */
    const char *ca_file, *client_cert_file, *client_key_file;
    const char *service_account_dir; /* NULL: /var/run/secrets/kubernetes.io/serviceaccount (tests) */
    const char *user_agent;          /* NULL: "cspire" */
    bool later;                      /* kube_client_new reads no files */
};

/* Any thread, several calls at a time. All files are read again for each call, so credentials that are
 * renewed are taken up; connections are kept for as long as nothing changed. */
struct kube_client;
/* Reads and checks everything once, unless `later` is set. CS_NOT_FOUND, CS_INVALID, CS_UNIMPLEMENTED (exec
 * plugins and auth providers of a kubeconfig, impersonation); texts name file and entry. Out of a pod without
 * kubeconfig: CS_PRECONDITION, the text of client-go. */
CS_CHECKED cs_code kube_client_new(const struct kube_options *o, struct kube_client **out, struct cs_err *e);
void kube_client_free(struct kube_client *c); /* no call may be under way; NULL is fine */
static inline void kube_client_drop(struct kube_client **c)
{
    kube_client_free(*c);
    *c = NULL;
}
/* The options are good and the files can be read: what kube_client_new checks, nothing kept. */
CS_CHECKED cs_code kube_check(const struct kube_options *o, struct cs_err *e);

static inline void kube_json_drop(json_t **j) /* for CS_CLEANUP */
{
    json_decref(*j);
    *j = NULL;
}

/* One call. Zeroed but for method and path is a plain GET. */
struct kube_call {
    const char *method;             /* "GET" */
    const char *path;               /* "/api/v1/nodes/n1?x=y": escaped, below the server's URL */
    const json_t *body;             /* NULL: none */
    const char *content_type;       /* of the body; NULL: application/json */
    const struct crypto_stop *stop; /* NULL: none */
    int64_t timeout_ns;             /* for all attempts together; 0: 30 s */
    size_t max_body;                /* of the response; 0: 8 MiB */
    /* It may be sent twice: GET always may. Then what broke off is tried again, too; 429 and 503 are
     * whatever the call. */
    bool repeatable;
};
#define KUBE_MERGE_PATCH "application/merge-patch+json"
#define KUBE_STRATEGIC_PATCH "application/strategic-merge-patch+json"
#define KUBE_APPLY_PATCH "application/apply-patch+yaml" /* JSON is YAML */

/* *out (may be NULL) is a new reference to the object that came. Tried again up to 4 times with growing,
 * random pauses, or as long as the server says (Retry-After), within timeout_ns. A status of failure becomes
 * CS_INVALID (400, 422), CS_UNAUTHENTICATED (401), CS_DENIED (403), CS_NOT_FOUND (404), CS_EXISTS (409,
 * AlreadyExists), CS_ABORTED (409, Conflict), CS_OUT_OF_RANGE (410: a resourceVersion is too old),
 * CS_EXHAUSTED (429), CS_UNAVAILABLE (5xx), CS_UNKNOWN (others), with the server's message as text. Other
 * errors: see http_call, and CS_INTERNAL for an answer that is no JSON object. */
CS_CHECKED cs_code kube_call(struct kube_client *c, const struct kube_call *q, json_t **out,
                             struct cs_err *e);
CS_CHECKED cs_code kube_get(struct kube_client *c, const char *path, const struct crypto_stop *stop,
                            json_t **out, struct cs_err *e);

/* Appends "/api/v1/namespaces/NS/pods/NAME" and the like: a printf whose only conversion is %s, each
 * argument escaped as one path segment. CS_INVALID for segments that are empty, "." or "..". */
CS_CHECKED cs_code kube_path(struct cs_buf *out, struct cs_err *e, const char *fmt, ...);

/* --- Lists and watches --- */

enum kube_event { KUBE_LISTED, KUBE_ADDED, KUBE_MODIFIED, KUBE_DELETED };

struct kube_watch {
    const char *path;                            /* of the collection, no query */
    const char *label_selector, *field_selector; /* not escaped; NULL: none */
    const struct crypto_stop *stop;              /* NULL: none */
    int64_t timeout_ns;                          /* 0: none; then CS_DEADLINE */
    /* Permanent refusals (401, 403, 404) end a watch, unless it is to go on trying. Who was let in before is
     * refused for good (401, 403) after half a minute, since API servers refuse everybody while they start.
     */
    bool keep_trying;
    /* One object: borrowed. *done ends it with CS_OK; a code but CS_OK ends it with that. An object may come
     * again (KUBE_LISTED), after the server forgot where we were. Called in the calling thread. */
    CS_CHECKED cs_code (*event)(void *arg, enum kube_event type, const json_t *object, bool *done,
                                struct cs_err *e);
    /* All objects that were there are listed, or why they could not be (fault NULL: they could). May be
     * NULL. */
    void (*listed)(void *arg, const struct cs_err *fault);
    void *arg;
};
/* All objects of a collection, in pieces, as KUBE_LISTED; keep_trying and timeout_ns (of one piece) count
 * as for one call. */
CS_CHECKED cs_code kube_list(struct kube_client *c, const struct kube_watch *w, struct cs_err *e);
/* Lists, then watches until told to end. Blocking. */
CS_CHECKED cs_code kube_watch(struct kube_client *c, const struct kube_watch *w, struct cs_err *e);

/* --- What is in objects; "" and NULL for what is not there or of another type --- */

const char *kube_text(const json_t *object, const char *key);
const json_t *kube_at(const json_t *object, const char *const *keys); /* NULL-terminated */
const char *kube_text_at(const json_t *object, const char *const *keys);
const char *kube_name(const json_t *object);      /* metadata.name */
const char *kube_namespace(const json_t *object); /* metadata.namespace */
const char *kube_version(const json_t *object);   /* metadata.resourceVersion */

/* --- TokenReview, as SPIRE's server asks for it --- */

struct kube_review {
    json_t *object; /* the TokenReview; owned */
    bool authenticated;
    const char *username; /* views object; "" when not said */
};
void kube_review_free(struct kube_review *r);
/* audiences: a JSON array of texts, may be empty (the server's own). Errors are worded as SPIRE's:
 * `unable to query token review API: ...`, `token review API response contains an error: ...`,
 * `token review API did not validate audience: wanted one of ["a"] but got ["b"]`. */
CS_CHECKED cs_code kube_review_token(struct kube_client *c, struct cs_slice token, const json_t *audiences,
                                     const struct crypto_stop *stop, struct kube_review *out,
                                     struct cs_err *e);
/* The one text of user.extra under `key`; CS_NOT_FOUND, CS_INVALID with SPIRE's texts: `missing WHAT`,
 * `expected 1 SHORT but got: N`, `WHAT is empty`. */
CS_CHECKED cs_code kube_review_extra(const struct kube_review *r, const char *key, const char *what,
                                     const char *what_short, const char **out, struct cs_err *e);

#endif
