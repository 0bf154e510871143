/* SPDX-License-Identifier: Apache-2.0
 *
 * The server's certificate authority: signs X509-SVIDs, downstream CAs and JWT-SVIDs with the active
 * authorities. The CA manager (ca/manager.h) prepares and activates them; everybody else signs.
 *
 * All signing functions may be called by any thread at once; each works on the snapshot of the
 * active authority it took at its start. Results live in the arena given. A lifetime is
 * min(now + ttl, end of the signing authority), starting 10 s in the past, as SPIRE's
 * pkg/server/credtemplate computes it. Nothing is verified again after signing: what is written is
 * checked before. Where CredentialComposer plugins had a hand in, what came out is checked as SPIRE checks it
 * (pkg/server/credvalidator); signing then waits for the plugins, whose errors are passed on.
 */
#ifndef CS_SERVER_CA_CA_H
#define CS_SERVER_CA_CA_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "crypto/x509_name.h"

struct ca;
struct catalog_plugin;

/* SPIRE's defaults (pkg/server/credtemplate/builder.go), in seconds. */
#define CA_DEFAULT_X509_CA_TTL (24 * 3600)
#define CA_DEFAULT_X509_SVID_TTL 3600
#define CA_DEFAULT_JWT_SVID_TTL 300
/* How far in the past certificates begin, for clocks that are behind. */
#define CA_BACKDATE_S 10

struct ca_config {
    const char *trust_domain; /* name, without spiffe:// */
    const struct cs_clock *clock;
    int64_t x509_ca_ttl_s; /* 0: default, here and below */
    int64_t x509_svid_ttl_s;
    int64_t agent_ttl_s; /* 0: x509_svid_ttl_s */
    int64_t jwt_svid_ttl_s;
    const char *jwt_issuer;   /* NULL or "": no `iss` claim */
    struct x509_name subject; /* ca_subject; empty: C=US, O=SPIFFE */
    bool disable_jwt_svids;
    /* CredentialComposer plugins in the order in which they are asked; they outlive the CA. */
    const struct catalog_plugin *const *composers;
    size_t composer_count;
};
/* Everything else is copied. CS_INVALID for a trust domain that is none. */
CS_CHECKED cs_code ca_new(const struct ca_config *cfg, struct ca **out, struct cs_err *e);
void ca_free(struct ca *ca);

/* A signed certificate with the chain that goes with it: leaf, then the intermediates up to but
 * without the root (none when the server's CA is self-signed). DER, in the arena of the call. */
struct ca_x509 {
    struct cs_slice *chain;
    size_t count;
    int64_t not_before, not_after; /* of the leaf, unix seconds */
    char *serial;                  /* of the leaf, decimal */
};

/* Public keys are given as DER SubjectPublicKeyInfo (of a CSR that was checked, borrowed).
 *
 * Errors of all: CS_INTERNAL `X509 CA is not available for signing` before the first activation,
 * CS_INTERNAL for anything that breaks while signing, with the text SPIRE gives. */

/* `spiffe_id` is the agent's ID as text; it must be in the trust domain
 * (`invalid X509-SVID ID: "spiffe://x/y" is not a member of trust domain "example.org"`). */
CS_CHECKED cs_code ca_sign_agent(struct ca *ca, struct cs_arena *a, const char *spiffe_id,
                                 struct cs_slice spki, struct ca_x509 *out, struct cs_err *e);

struct ca_workload_params {
    const char *spiffe_id;
    struct cs_slice spki;
    const char *const *dns_names; /* DNS SANs; the first is the common name too */
    size_t dns_name_count;
    int64_t ttl_s; /* 0 or less: default_x509_svid_ttl */
    /* DER Name replacing the default subject C=US, O=SPIRE (x509 mint takes it from the CSR); empty:
     * default. The common name is still taken from dns_names when there are any. */
    struct cs_slice subject;
};
CS_CHECKED cs_code ca_sign_workload(struct ca *ca, struct cs_arena *a, const struct ca_workload_params *p,
                                    struct ca_x509 *out, struct cs_err *e);

/* The server's own X509-SVID, spiffe://<trust domain>/spire/server. */
CS_CHECKED cs_code ca_sign_server(struct ca *ca, struct cs_arena *a, struct cs_slice spki,
                                  struct ca_x509 *out, struct cs_err *e);

/* CA certificate for a downstream server; ttl_s 0 or less: ca_ttl. */
CS_CHECKED cs_code ca_sign_downstream(struct ca *ca, struct cs_arena *a, struct cs_slice spki, int64_t ttl_s,
                                      struct ca_x509 *out, struct cs_err *e);

struct ca_jwt_params {
    const char *spiffe_id;
    const char *const *audience; /* empty strings are dropped; at least one must remain */
    size_t audience_count;
    int64_t ttl_s;    /* 0 or less: default_jwt_svid_ttl */
    bool include_jti; /* a random `jti` claim */
};
struct ca_jwt {
    char *token; /* compact serialisation */
    int64_t issued_at, expires_at;
};
/* CS_INTERNAL `JWT key is not available for signing`; texts as SPIRE's for an ID outside of the trust
 * domain and an empty audience. */
CS_CHECKED cs_code ca_sign_jwt(struct ca *ca, struct cs_arena *a, const struct ca_jwt_params *p,
                               struct ca_jwt *out, struct cs_err *e);
bool ca_jwt_disabled(const struct ca *ca);

/* Default lifetimes in force, in seconds. */
int64_t ca_x509_ca_ttl(const struct ca *ca);
int64_t ca_x509_svid_ttl(const struct ca *ca);
int64_t ca_jwt_svid_ttl(const struct ca *ca);

/* Sign a throwaway SVID, as SPIRE's health check does (pkg/server/ca/ca_health.go). */
CS_CHECKED cs_code ca_health(struct ca *ca, struct cs_err *e);

static inline void ca_drop(struct ca **ca)
{
    ca_free(*ca);
    *ca = NULL;
}

#endif
