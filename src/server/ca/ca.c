/* SPDX-License-Identifier: Apache-2.0
 *
 * Lifetimes and subjects follow SPIRE's pkg/server/credtemplate/builder.go and
 * pkg/server/ca/ca.go.
 */
#include "server/ca/ca.h"

#include "base/text.h"
#include "server/ca/internal.h"
#include "spiffe/id.h"
#include "spiffe/x509svid.h"

/* SPIRE's historic default subjects. */
static const char *const us[] = {"US"};
static const char *const spiffe[] = {"SPIFFE"};
static const char *const spire[] = {"SPIRE"};
static const struct x509_name default_ca_subject = {.country = {us, 1}, .organization = {spiffe, 1}};
static const struct x509_name default_svid_subject = {.country = {us, 1}, .organization = {spire, 1}};

/* --- Life --- */

cs_code ca_name_to_arena(struct cs_arena *a, const struct x509_name *name, struct cs_slice *out,
                         struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    x509_name_write(&der, name);
    if (!cs_buf_ok(&der))
        return cs_nomem(e);
    void *copy = cs_arena_memdup(a, der.data, der.len);
    if (copy == NULL)
        return cs_nomem(e);
    *out = cs_slice_of(copy, der.len);
    return CS_OK;
}

static cs_code copy_composers(struct ca *ca, const struct ca_config *cfg, struct cs_err *e)
{
    if (cfg->composer_count == 0)
        return CS_OK;
    ca->composers.at = cs_arena_memdup(ca->arena, cfg->composers, cfg->composer_count * sizeof(const void *));
    ca->composers.count = cfg->composer_count;
    return ca->composers.at != NULL ? CS_OK : cs_nomem(e);
}

static cs_code copy_config(struct ca *ca, const struct ca_config *cfg, struct cs_err *e)
{
    struct cs_slice td;
    CS_TRY(spiffe_td_parse(cs_slice_str(cfg->trust_domain), &td, e));
    ca->trust_domain = cs_arena_strndup(ca->arena, (const char *)td.data, td.len);
    if (ca->trust_domain == NULL)
        return cs_nomem(e);
    ca->td_id = cs_arena_printf(ca->arena, "spiffe://%s", ca->trust_domain);
    ca->server_id = cs_arena_printf(ca->arena, "spiffe://%s" SPIFFE_SERVER_PATH, ca->trust_domain);
    ca->jwt_issuer = cs_arena_strdup(ca->arena, cfg->jwt_issuer != NULL ? cfg->jwt_issuer : "");
    if (ca->td_id == NULL || ca->server_id == NULL || ca->jwt_issuer == NULL)
        return cs_nomem(e);
    ca->clock = cfg->clock;
    ca->x509_ca_ttl = cfg->x509_ca_ttl_s > 0 ? cfg->x509_ca_ttl_s : CA_DEFAULT_X509_CA_TTL;
    ca->x509_svid_ttl = cfg->x509_svid_ttl_s > 0 ? cfg->x509_svid_ttl_s : CA_DEFAULT_X509_SVID_TTL;
    ca->agent_ttl = cfg->agent_ttl_s > 0 ? cfg->agent_ttl_s : ca->x509_svid_ttl;
    ca->jwt_svid_ttl = cfg->jwt_svid_ttl_s > 0 ? cfg->jwt_svid_ttl_s : CA_DEFAULT_JWT_SVID_TTL;
    ca->disable_jwt_svids = cfg->disable_jwt_svids;
    CS_TRY(copy_composers(ca, cfg, e));

    /* Through DER and back: a deep copy. */
    const struct x509_name *subject = x509_name_empty(&cfg->subject) ? &default_ca_subject : &cfg->subject;
    struct cs_slice der;
    CS_TRY(ca_name_to_arena(ca->arena, subject, &der, e));
    CS_TRY(x509_name_parse(ca->arena, der, &ca->ca_subject, e));
    return ca_name_to_arena(ca->arena, &default_svid_subject, &ca->svid_subject, e);
}

cs_code ca_new(const struct ca_config *cfg, struct ca **out, struct cs_err *e)
{
    *out = NULL;
    struct ca *ca = cs_calloc(1, sizeof *ca);
    if (ca == NULL)
        return cs_nomem(e);
    int rc = pthread_mutex_init(&ca->lock, NULL);
    if (rc != 0) {
        cs_free(ca);
        return cs_fail_errno(e, CS_INTERNAL, rc, "CA lock");
    }
    ca->arena = cs_arena_new(0, 0);
    cs_code code = ca->arena == NULL ? cs_nomem(e) : copy_config(ca, cfg, e);
    if (code != CS_OK) {
        ca_free(ca);
        return code;
    }
    *out = ca;
    return CS_OK;
}

void ca_free(struct ca *ca)
{
    if (ca == NULL)
        return;
    ca_x509_authority_unref(ca->x509);
    ca_jwt_authority_unref(ca->jwt);
    pthread_mutex_destroy(&ca->lock);
    cs_arena_free(ca->arena);
    cs_free(ca);
}

bool ca_jwt_disabled(const struct ca *ca)
{
    return ca->disable_jwt_svids;
}
int64_t ca_x509_ca_ttl(const struct ca *ca)
{
    return ca->x509_ca_ttl;
}
int64_t ca_x509_svid_ttl(const struct ca *ca)
{
    return ca->x509_svid_ttl;
}
int64_t ca_jwt_svid_ttl(const struct ca *ca)
{
    return ca->jwt_svid_ttl;
}

/* --- The active authorities --- */

void ca_set_x509(struct ca *ca, struct ca_x509_authority *a)
{
    struct ca_x509_authority *fresh = a != NULL ? ca_x509_authority_ref(a) : NULL;
    pthread_mutex_lock(&ca->lock);
    struct ca_x509_authority *old = ca->x509;
    ca->x509 = fresh;
    pthread_mutex_unlock(&ca->lock);
    ca_x509_authority_unref(old);
}

void ca_set_jwt(struct ca *ca, struct ca_jwt_authority *a)
{
    struct ca_jwt_authority *fresh = a != NULL ? ca_jwt_authority_ref(a) : NULL;
    pthread_mutex_lock(&ca->lock);
    struct ca_jwt_authority *old = ca->jwt;
    ca->jwt = fresh;
    pthread_mutex_unlock(&ca->lock);
    ca_jwt_authority_unref(old);
}

cs_code ca_take_x509(struct ca *ca, struct ca_x509_authority **out, struct cs_err *e)
{
    pthread_mutex_lock(&ca->lock);
    *out = ca->x509 != NULL ? ca_x509_authority_ref(ca->x509) : NULL;
    pthread_mutex_unlock(&ca->lock);
    return *out != NULL ? CS_OK : cs_fail(e, CS_INTERNAL, "X509 CA is not available for signing");
}

cs_code ca_take_jwt(struct ca *ca, struct ca_jwt_authority **out, struct cs_err *e)
{
    pthread_mutex_lock(&ca->lock);
    *out = ca->jwt != NULL ? ca_jwt_authority_ref(ca->jwt) : NULL;
    pthread_mutex_unlock(&ca->lock);
    return *out != NULL ? CS_OK : cs_fail(e, CS_INTERNAL, "JWT key is not available for signing");
}

/* --- What all credentials share --- */

cs_code ca_internal(struct cs_err *e)
{
    if (e != NULL)
        e->code = CS_INTERNAL;
    return CS_INTERNAL;
}

cs_code ca_check_id(const struct ca *ca, const char *what, const char *text, struct cs_err *e)
{
    struct spiffe_id id;
    if (text == NULL || text[0] == '\0')
        return cs_fail(e, CS_INTERNAL, "invalid %s ID: cannot be empty", what);
    if (spiffe_id_parse(cs_slice_str(text), &id, e) != CS_OK ||
        spiffe_id_check_member(id, cs_slice_str(ca->trust_domain), e) != CS_OK) {
        (void)cs_wrap(e, "invalid %s ID", what);
        return ca_internal(e);
    }
    return CS_OK;
}

/* now + ttl, but not past the authority's own end. */
int64_t ca_capped(int64_t now, int64_t ttl, int64_t cap)
{
    int64_t end = ttl > INT64_MAX - now ? INT64_MAX : now + ttl;
    return cap != 0 && end > cap ? cap : end;
}

/* What SPIRE finds out by looking at the certificate it just signed. */
cs_code ca_check_lifetime(const char *what, const char *kind, int64_t now, int64_t not_after,
                          struct cs_err *e)
{
    if (now <= not_after)
        return CS_OK;
    CS_CLEANUP(cs_buf_free) struct cs_buf when = {0};
    cs_time_rfc3339(&when, not_after);
    return cs_fail(e, CS_INTERNAL, "invalid %s: invalid %s: already expired as of %s", what, kind,
                   cs_buf_cstr(&when));
}

/* The leaf and the chain behind it, all in the arena. */
cs_code ca_fill_result(const struct ca_x509_authority *auth, struct cs_arena *a, struct cs_slice leaf,
                       const struct x509_serial *serial, struct ca_x509 *out, struct cs_err *e)
{
    out->count = 1 + auth->upstream_chain.count;
    out->chain = cs_arena_alloc(a, out->count * sizeof *out->chain);
    if (out->chain == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < out->count; i++) {
        struct cs_slice der = i == 0 ? leaf : auth->upstream_chain.at[i - 1]->der;
        void *copy = cs_arena_memdup(a, der.data, der.len);
        if (copy == NULL)
            return cs_nomem(e);
        out->chain[i] = cs_slice_of(copy, der.len);
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf dec = {0};
    x509_serial_dec(&dec, serial);
    out->serial = cs_arena_strdup(a, cs_buf_cstr(&dec));
    return cs_buf_ok(&dec) && out->serial != NULL ? CS_OK : cs_nomem(e);
}

/* --- X509-SVIDs --- */

struct svid_request {
    enum ca_subject_kind kind;
    const char *what; /* for the text of errors: "workload X509-SVID" */
    const char *spiffe_id;
    struct cs_slice spki;
    struct ca_attributes attributes;
    int64_t ttl;
};

/* Composers may have written over anything. */
static cs_code check_composed(const struct ca *ca, const struct svid_request *r, struct cs_slice der,
                              struct cs_err *e)
{
    CS_AUTO(x509_cert) cert = NULL;
    struct spiffe_id id;
    cs_code rc = x509_cert_parse(der, &cert, e);
    if (rc == CS_OK)
        rc = spiffe_id_parse(cs_slice_str(r->spiffe_id), &id, e);
    if (rc == CS_OK)
        rc = spiffe_x509svid_check_issued(cert, id, cs_now_s(ca->clock), e);
    if (rc == CS_OK)
        return CS_OK;
    (void)cs_wrap(e, "invalid %s", r->what);
    return ca_internal(e);
}

static cs_code dns_slices(struct cs_arena *a, const struct ca_attributes *t, struct cs_slice **out,
                          struct cs_err *e)
{
    *out = NULL;
    if (t->dns_name_count == 0)
        return CS_OK;
    struct cs_slice *dns = cs_arena_alloc(a, t->dns_name_count * sizeof *dns);
    if (dns == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < t->dns_name_count; i++)
        dns[i] = cs_slice_str(t->dns_names[i]);
    *out = dns;
    return CS_OK;
}

static cs_code issue_svid(const struct ca *ca, const struct ca_x509_authority *auth,
                          const struct svid_request *r, struct cs_arena *a, struct ca_x509 *out,
                          struct cs_err *e)
{
    struct cs_slice *dns;
    CS_TRY(dns_slices(a, &r->attributes, &dns, e));
    int64_t now = cs_now_s(ca->clock);
    const struct x509_issue_params params = {
        .spki = r->spki,
        .subject = r->attributes.subject,
        .uri = cs_slice_str(r->spiffe_id),
        .dns = dns,
        .dns_count = r->attributes.dns_name_count,
        .not_before = now - CA_BACKDATE_S,
        .not_after = ca_capped(now, r->ttl, auth->not_after),
        .extra = r->attributes.extra,
    };
    CS_TRY(ca_check_lifetime(r->what, "X509-SVID", now, params.not_after, e));
    out->not_before = params.not_before;
    out->not_after = params.not_after;
    CS_CLEANUP(cs_buf_free) struct cs_buf leaf = {0};
    struct x509_serial serial;
    if (x509_issue_svid(auth->issuer, &params, &leaf, &serial, e) != CS_OK) {
        (void)cs_wrap(e, "failed to sign X509 SVID");
        return ca_internal(e);
    }
    if (ca->composers.count > 0)
        CS_TRY(check_composed(ca, r, cs_buf_slice(&leaf), e));
    return ca_fill_result(auth, a, cs_buf_slice(&leaf), &serial, out, e);
}

static cs_code sign_svid(struct ca *ca, struct svid_request *r, struct cs_arena *a, struct ca_x509 *out,
                         struct cs_err *e)
{
    *out = (struct ca_x509){0};
    CS_AUTO(ca_x509_authority) auth = NULL;
    CS_TRY(ca_take_x509(ca, &auth, e));
    CS_TRY(ca_check_id(ca, "X509-SVID", r->spiffe_id, e));
    if (ca->composers.count > 0)
        CS_TRY(ca_compose_x509(&ca->composers, r->kind, a, r->spiffe_id, r->spki, &r->attributes, e));
    cs_code rc = issue_svid(ca, auth, r, a, out, e);
    if (rc != CS_OK)
        *out = (struct ca_x509){0};
    return rc;
}

cs_code ca_sign_agent(struct ca *ca, struct cs_arena *a, const char *spiffe_id, struct cs_slice spki,
                      struct ca_x509 *out, struct cs_err *e)
{
    struct svid_request r = {
        .kind = CA_SVID_OF_AGENT,
        .what = "agent X509-SVID",
        .spiffe_id = spiffe_id,
        .spki = spki,
        .attributes = {.subject = ca->svid_subject},
        .ttl = ca->agent_ttl,
    };
    return sign_svid(ca, &r, a, out, e);
}

cs_code ca_sign_server(struct ca *ca, struct cs_arena *a, struct cs_slice spki, struct ca_x509 *out,
                       struct cs_err *e)
{
    struct svid_request r = {
        .kind = CA_SVID_OF_SERVER,
        .what = "server X509-SVID",
        .spiffe_id = ca->server_id,
        .spki = spki,
        .attributes = {.subject = ca->svid_subject},
        .ttl = ca->x509_svid_ttl,
    };
    return sign_svid(ca, &r, a, out, e);
}

/* The subject as given or the default, with the first DNS name as common name. */
static cs_code workload_subject(const struct ca *ca, struct cs_arena *a, const struct ca_workload_params *p,
                                struct cs_slice *out, struct cs_err *e)
{
    struct x509_name name = default_svid_subject;
    bool given = false;
    if (p->subject.len > 0) {
        struct x509_name wanted;
        CS_TRY(x509_name_parse(a, p->subject, &wanted, e));
        given = !x509_name_empty(&wanted);
        if (given)
            name = wanted;
    }
    if (p->dns_name_count == 0 && !given) {
        *out = ca->svid_subject;
        return CS_OK;
    }
    if (p->dns_name_count > 0)
        name.common_name = p->dns_names[0];
    return ca_name_to_arena(a, &name, out, e);
}

cs_code ca_sign_workload(struct ca *ca, struct cs_arena *a, const struct ca_workload_params *p,
                         struct ca_x509 *out, struct cs_err *e)
{
    *out = (struct ca_x509){0};
    struct svid_request r = {
        .kind = CA_SVID_OF_WORKLOAD,
        .what = "workload X509-SVID",
        .spiffe_id = p->spiffe_id,
        .spki = p->spki,
        .attributes = {.dns_names = p->dns_names, .dns_name_count = p->dns_name_count},
        .ttl = p->ttl_s > 0 ? p->ttl_s : ca->x509_svid_ttl,
    };
    CS_TRY(workload_subject(ca, a, p, &r.attributes.subject, e));
    return sign_svid(ca, &r, a, out, e);
}

cs_code ca_health(struct ca *ca, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    CS_AUTO(ca_x509_authority) auth = NULL;
    CS_TRY(ca_take_x509(ca, &auth, e));
    struct svid_request r = {
        .kind = CA_SVID_OF_WORKLOAD,
        .what = "workload X509-SVID",
        .spiffe_id = cs_arena_printf(a, "%s/for/health/check/only", ca->td_id),
        .spki = ca_x509_authority_cert(auth)->spki,
        .attributes = {.subject = ca->svid_subject},
        .ttl = ca->x509_svid_ttl,
    };
    if (r.spiffe_id == NULL)
        return cs_nomem(e);
    struct ca_x509 out;
    return sign_svid(ca, &r, a, &out, e);
}
