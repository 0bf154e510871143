/* SPDX-License-Identifier: Apache-2.0
 *
 * A secret of Secret Manager: what selectors say of it, requests and answers. Pure.
 */
#ifndef CS_MODULES_GCP_SECRET_H
#define CS_MODULES_GCP_SECRET_H

#include "base/buf.h"

#include <jansson.h>

/* May it be a project's ID or number, so that it is safe in paths and headers? */
bool gcp_project_ok(const char *s);

/* What an entry's selectors say; views them. */
struct gcp_place {
    const char *name, *project;
    const char *role, *account; /* "": none; both or neither. account: without "serviceAccount:" */
    const char *regions;        /* "a,b"; NULL: Google chooses */
};
/* CS_INVALID with SPIRE's texts: `invalid metadata: metadata does not contain a colon: "x"`, `name is
 * required`, `projectid is required`, `role is required when service account is set`, `service account is
 * required when role is set`, `need to specify at least one region`; with ours for what Google takes for
 * neither name. */
CS_CHECKED cs_code gcp_place_read(const char *const *metadata, size_t count, struct gcp_place *out,
                                  struct cs_err *e);
/* "projects/P/secrets/N"; owned; NULL: no memory. */
char *gcp_place_resource(const struct gcp_place *p);

#define GCP_LABEL "spire-svid"
#define GCP_LABEL_LEN 40
/* The label's value, SHA-1 of the trust domain's name in hex, which SPIRE takes since labels have no dots. */
CS_CHECKED cs_code gcp_label(const char *trust_domain, char out[GCP_LABEL_LEN + 1], struct cs_err *e);

/* Append the bodies of requests (Secret, AddSecretVersionRequest, SetIamPolicyRequest). That of a version is
 * secret: `out` is empty, and the caller wipes it. etag "": none. */
CS_CHECKED cs_code gcp_body_create(const struct gcp_place *p, const char *label, struct cs_buf *out,
                                   struct cs_err *e);
CS_CHECKED cs_code gcp_body_version(struct cs_slice payload, struct cs_buf *out, struct cs_err *e);
CS_CHECKED cs_code gcp_body_policy(const struct gcp_place *p, const char *etag, struct cs_buf *out,
                                   struct cs_err *e);

/* A Secret in an answer; views it. */
struct gcp_secret {
    const char *resource; /* "projects/123/secrets/N": Google has the project's number there */
    const char *etag;     /* "": none */
    bool ours;            /* it has our label */
};
/* CS_INTERNAL when the name is not that of the secret asked for. */
CS_CHECKED cs_code gcp_secret_read(const json_t *answer, const struct gcp_place *p, const char *label,
                                   struct gcp_secret *out, struct cs_err *e);
/* Has the policy one binding, of the role to the one account? */
bool gcp_policy_is(const json_t *policy, const struct gcp_place *p);
/* A member that is a string; "" else. */
const char *gcp_text(const json_t *j, const char *name);

#endif
