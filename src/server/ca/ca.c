/* SPDX-License-Identifier: Apache-2.0
 *
 * Lifetimes, subjects and claims follow SPIRE's pkg/server/credtemplate/builder.go and
 * pkg/server/ca/ca.go.
 */
#include "server/ca/ca.h"

#include "base/text.h"
#include "crypto/x509_csr.h"
#include "server/ca/authority.h"
#include "spiffe/id.h"
#include "spiffe/x509svid.h"

#include <pthread.h>

struct ca {
    struct cs_arena *arena; /* of the configuration */
    const struct cs_clock *clock;
    const char *trust_domain, *td_id, *server_id;
    const char *jwt_issuer;
    int64_t x509_ca_ttl, x509_svid_ttl, agent_ttl, jwt_svid_ttl;
    bool disable_jwt_svids;
    struct x509_name ca_subject;
    struct cs_slice svid_subject; /* DER of C=US, O=SPIRE */

    pthread_mutex_t lock; /* held to copy or replace a pointer only */
    struct ca_x509_authority *x509;
    struct ca_jwt_authority *jwt;
};

/* SPIRE's historic default subjects. */
static const char *const us[] = {"US"};
static const char *const spiffe[] = {"SPIFFE"};
static const char *const spire[] = {"SPIRE"};
static const struct x509_name default_ca_subject = {.country = {us, 1}, .organization = {spiffe, 1}};
static const struct x509_name default_svid_subject = {.country = {us, 1}, .organization = {spire, 1}};

/* --- Life --- */

static cs_code name_to_arena(struct cs_arena *a, const struct x509_name *name, struct cs_slice *out,
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

    /* Through DER and back: a deep copy. */
    const struct x509_name *subject = x509_name_empty(&cfg->subject) ? &default_ca_subject : &cfg->subject;
    struct cs_slice der;
    CS_TRY(name_to_arena(ca->arena, subject, &der, e));
    CS_TRY(x509_name_parse(ca->arena, der, &ca->ca_subject, e));
    return name_to_arena(ca->arena, &default_svid_subject, &ca->svid_subject, e);
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

static cs_code take_x509(struct ca *ca, struct ca_x509_authority **out, struct cs_err *e)
{
    pthread_mutex_lock(&ca->lock);
    *out = ca->x509 != NULL ? ca_x509_authority_ref(ca->x509) : NULL;
    pthread_mutex_unlock(&ca->lock);
    return *out != NULL ? CS_OK : cs_fail(e, CS_INTERNAL, "X509 CA is not available for signing");
}

static cs_code take_jwt(struct ca *ca, struct ca_jwt_authority **out, struct cs_err *e)
{
    pthread_mutex_lock(&ca->lock);
    *out = ca->jwt != NULL ? ca_jwt_authority_ref(ca->jwt) : NULL;
    pthread_mutex_unlock(&ca->lock);
    return *out != NULL ? CS_OK : cs_fail(e, CS_INTERNAL, "JWT key is not available for signing");
}

/* --- What all credentials share --- */

static cs_code internal(struct cs_err *e)
{
    if (e != NULL)
        e->code = CS_INTERNAL;
    return CS_INTERNAL;
}

static cs_code check_id(const struct ca *ca, const char *what, const char *text, struct cs_err *e)
{
    struct spiffe_id id;
    if (text == NULL || text[0] == '\0')
        return cs_fail(e, CS_INTERNAL, "invalid %s ID: cannot be empty", what);
    if (spiffe_id_parse(cs_slice_str(text), &id, e) != CS_OK ||
        spiffe_id_check_member(id, cs_slice_str(ca->trust_domain), e) != CS_OK) {
        (void)cs_wrap(e, "invalid %s ID", what);
        return internal(e);
    }
    return CS_OK;
}

/* now + ttl, but not past the authority's own end. */
static int64_t capped(int64_t now, int64_t ttl, int64_t cap)
{
    int64_t end = ttl > INT64_MAX - now ? INT64_MAX : now + ttl;
    return cap != 0 && end > cap ? cap : end;
}

/* What SPIRE finds out by looking at the certificate it just signed. */
static cs_code check_lifetime(const char *what, const char *kind, int64_t now, int64_t not_after,
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
static cs_code fill_result(const struct ca_x509_authority *auth, struct cs_arena *a,
                           const struct cs_buf *leaf, const struct x509_serial *serial, struct ca_x509 *out,
                           struct cs_err *e)
{
    out->count = 1 + auth->upstream_chain.count;
    out->chain = cs_arena_alloc(a, out->count * sizeof *out->chain);
    if (out->chain == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < out->count; i++) {
        struct cs_slice der = i == 0 ? cs_buf_slice(leaf) : auth->upstream_chain.at[i - 1]->der;
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
    const char *what; /* for the text of errors: "workload X509-SVID" */
    const char *spiffe_id;
    struct cs_slice spki, subject;
    const char *const *dns_names;
    size_t dns_name_count;
    int64_t ttl;
};

static cs_code issue_svid(const struct ca_x509_authority *auth, const struct svid_request *r, int64_t now,
                          struct cs_arena *a, struct ca_x509 *out, struct cs_err *e)
{
    struct cs_slice *dns = NULL;
    if (r->dns_name_count > 0) {
        dns = cs_arena_alloc(a, r->dns_name_count * sizeof *dns);
        if (dns == NULL)
            return cs_nomem(e);
        for (size_t i = 0; i < r->dns_name_count; i++)
            dns[i] = cs_slice_str(r->dns_names[i]);
    }
    const struct x509_issue_params params = {
        .spki = r->spki,
        .subject = r->subject,
        .uri = cs_slice_str(r->spiffe_id),
        .dns = dns,
        .dns_count = r->dns_name_count,
        .not_before = now - CA_BACKDATE_S,
        .not_after = capped(now, r->ttl, auth->not_after),
    };
    CS_TRY(check_lifetime(r->what, "X509-SVID", now, params.not_after, e));
    out->not_before = params.not_before;
    out->not_after = params.not_after;
    CS_CLEANUP(cs_buf_free) struct cs_buf leaf = {0};
    struct x509_serial serial;
    if (x509_issue_svid(auth->issuer, &params, &leaf, &serial, e) != CS_OK) {
        (void)cs_wrap(e, "failed to sign X509 SVID");
        return internal(e);
    }
    return fill_result(auth, a, &leaf, &serial, out, e);
}

static cs_code sign_svid(struct ca *ca, const struct svid_request *r, struct cs_arena *a, struct ca_x509 *out,
                         struct cs_err *e)
{
    *out = (struct ca_x509){0};
    CS_AUTO(ca_x509_authority) auth = NULL;
    CS_TRY(take_x509(ca, &auth, e));
    CS_TRY(check_id(ca, "X509-SVID", r->spiffe_id, e));
    cs_code rc = issue_svid(auth, r, cs_now_s(ca->clock), a, out, e);
    if (rc != CS_OK)
        *out = (struct ca_x509){0};
    return rc;
}

cs_code ca_sign_agent(struct ca *ca, struct cs_arena *a, const char *spiffe_id, struct cs_slice spki,
                      struct ca_x509 *out, struct cs_err *e)
{
    const struct svid_request r = {
        .what = "agent X509-SVID",
        .spiffe_id = spiffe_id,
        .spki = spki,
        .subject = ca->svid_subject,
        .ttl = ca->agent_ttl,
    };
    return sign_svid(ca, &r, a, out, e);
}

cs_code ca_sign_server(struct ca *ca, struct cs_arena *a, struct cs_slice spki, struct ca_x509 *out,
                       struct cs_err *e)
{
    const struct svid_request r = {
        .what = "server X509-SVID",
        .spiffe_id = ca->server_id,
        .spki = spki,
        .subject = ca->svid_subject,
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
    return name_to_arena(a, &name, out, e);
}

cs_code ca_sign_workload(struct ca *ca, struct cs_arena *a, const struct ca_workload_params *p,
                         struct ca_x509 *out, struct cs_err *e)
{
    *out = (struct ca_x509){0};
    struct svid_request r = {
        .what = "workload X509-SVID",
        .spiffe_id = p->spiffe_id,
        .spki = p->spki,
        .dns_names = p->dns_names,
        .dns_name_count = p->dns_name_count,
        .ttl = p->ttl_s > 0 ? p->ttl_s : ca->x509_svid_ttl,
    };
    CS_TRY(workload_subject(ca, a, p, &r.subject, e));
    return sign_svid(ca, &r, a, out, e);
}

cs_code ca_health(struct ca *ca, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    CS_AUTO(ca_x509_authority) auth = NULL;
    CS_TRY(take_x509(ca, &auth, e));
    const struct svid_request r = {
        .what = "workload X509-SVID",
        .spiffe_id = cs_arena_printf(a, "%s/for/health/check/only", ca->td_id),
        .spki = ca_x509_authority_cert(auth)->spki,
        .subject = ca->svid_subject,
        .ttl = ca->x509_svid_ttl,
    };
    if (r.spiffe_id == NULL)
        return cs_nomem(e);
    struct ca_x509 out;
    return issue_svid(auth, &r, cs_now_s(ca->clock), a, &out, e);
}

/* --- CA certificates --- */

/* The issuer's subject with the depth as organizational unit. */
static cs_code downstream_subject(const struct ca_x509_authority *auth, struct cs_arena *a,
                                  struct cs_slice *out, struct cs_err *e)
{
    struct x509_name name;
    CS_TRY(x509_name_parse(a, ca_x509_authority_cert(auth)->subject, &name, e));
    size_t depth = auth->upstream_chain.count > 0 ? auth->upstream_chain.count : 1;
    const char *unit = cs_arena_printf(a, "DOWNSTREAM-%zu", depth);
    if (unit == NULL)
        return cs_nomem(e);
    name.organizational_unit = (struct x509_values){.at = &unit, .count = 1};
    return name_to_arena(a, &name, out, e);
}

static cs_code issue_downstream(struct ca *ca, const struct ca_x509_authority *auth, struct cs_arena *a,
                                struct cs_slice spki, int64_t ttl_s, struct ca_x509 *out, struct cs_err *e)
{
    int64_t now = cs_now_s(ca->clock);
    struct x509_issue_params params = {
        .spki = spki,
        .uri = cs_slice_str(ca->td_id),
        .not_before = now - CA_BACKDATE_S,
        .not_after = capped(now, ttl_s > 0 ? ttl_s : ca->x509_ca_ttl, auth->not_after),
    };
    CS_TRY(check_lifetime("downstream X509 CA", "X509 CA", now, params.not_after, e));
    CS_TRY(downstream_subject(auth, a, &params.subject, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf leaf = {0};
    struct x509_serial serial;
    if (x509_issue_ca(auth->issuer, &params, &leaf, &serial, e) != CS_OK) {
        (void)cs_wrap(e, "unable to create downstream X509 CA");
        return internal(e);
    }
    out->not_before = params.not_before;
    out->not_after = params.not_after;
    return fill_result(auth, a, &leaf, &serial, out, e);
}

cs_code ca_sign_downstream(struct ca *ca, struct cs_arena *a, struct cs_slice spki, int64_t ttl_s,
                           struct ca_x509 *out, struct cs_err *e)
{
    *out = (struct ca_x509){0};
    CS_AUTO(ca_x509_authority) auth = NULL;
    CS_TRY(take_x509(ca, &auth, e));
    cs_code rc = issue_downstream(ca, auth, a, spki, ttl_s, out, e);
    if (rc != CS_OK)
        *out = (struct ca_x509){0};
    return rc;
}

/* The configured subject, with a serial number of its own kind unless one is configured. */
static cs_code ca_subject(const struct ca *ca, const struct x509_serial *serial, struct cs_buf *out,
                          struct cs_err *e)
{
    struct x509_name name = ca->ca_subject;
    CS_CLEANUP(cs_buf_free) struct cs_buf dec = {0};
    x509_serial_dec(&dec, serial);
    if (name.serial_number == NULL || name.serial_number[0] == '\0')
        name.serial_number = cs_buf_cstr(&dec);
    x509_name_write(out, &name);
    return cs_buf_ok(out) && cs_buf_ok(&dec) ? CS_OK : cs_nomem(e);
}

cs_code ca_self_sign(struct ca *ca, struct crypto_signer *signer, struct cs_buf *out, struct cs_err *e)
{
    struct x509_serial serial;
    CS_TRY(x509_serial_new(&serial, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf subject = {0};
    CS_TRY(ca_subject(ca, &serial, &subject, e));
    int64_t now = cs_now_s(ca->clock);
    const struct x509_issue_params params = {
        .subject = cs_buf_slice(&subject),
        .uri = cs_slice_str(ca->td_id),
        .not_before = now - CA_BACKDATE_S,
        .not_after = capped(now, ca->x509_ca_ttl, 0),
        .serial = &serial,
    };
    return x509_issue_self_signed(signer, &params, out, e);
}

cs_code ca_request(struct ca *ca, struct crypto_signer *signer, struct cs_buf *out, struct cs_err *e)
{
    struct x509_serial serial;
    CS_TRY(x509_serial_new(&serial, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf subject = {0};
    CS_TRY(ca_subject(ca, &serial, &subject, e));
    const struct x509_csr_params params = {
        .subject = cs_buf_slice(&subject),
        .uri = cs_slice_str(ca->td_id),
    };
    return x509_csr_write(&params, signer, out, e);
}

/* --- JWT-SVIDs --- */

static cs_code write_audience(struct cs_buf *out, const struct ca_jwt_params *p, struct cs_err *e)
{
    size_t written = 0;
    cs_buf_add_str(out, "\"aud\":[");
    for (size_t i = 0; i < p->audience_count; i++) {
        if (p->audience[i][0] == '\0')
            continue;
        if (written++ > 0)
            cs_buf_add_byte(out, ',');
        jose_json_string(out, cs_slice_str(p->audience[i]));
    }
    cs_buf_add_byte(out, ']');
    if (written == 0)
        return cs_fail(e, CS_INTERNAL, "invalid JWT-SVID audience: cannot be empty");
    return CS_OK;
}

static cs_code write_jti(struct cs_buf *out, struct cs_err *e)
{
    uint8_t jti[16];
    if (cs_random(jti, sizeof jti, e) != CS_OK)
        return cs_wrap(e, "failed to generate jti");
    /* A version 4 UUID (RFC 9562 section 5.4), in base64 as SPIRE writes it. */
    jti[6] = (uint8_t)((jti[6] & 0x0f) | 0x40);
    jti[8] = (uint8_t)((jti[8] & 0x3f) | 0x80);
    cs_buf_add_str(out, ",\"jti\":\"");
    cs_b64_encode(out, cs_slice_of(jti, sizeof jti), CS_B64_URL_RAW);
    cs_buf_add_str(out, "\"");
    return CS_OK;
}

/* Claims in the order of their names, as Go writes them. */
static cs_code write_claims(const struct ca *ca, const struct ca_jwt_params *p, int64_t iat, int64_t exp,
                            struct cs_buf *out, struct cs_err *e)
{
    cs_buf_add_byte(out, '{');
    CS_TRY(write_audience(out, p, e));
    cs_buf_printf(out, ",\"exp\":%lld,\"iat\":%lld", (long long)exp, (long long)iat);
    if (ca->jwt_issuer[0] != '\0') {
        cs_buf_add_str(out, ",\"iss\":");
        jose_json_string(out, cs_slice_str(ca->jwt_issuer));
    }
    if (p->include_jti)
        CS_TRY(write_jti(out, e));
    cs_buf_add_str(out, ",\"sub\":");
    jose_json_string(out, cs_slice_str(p->spiffe_id));
    cs_buf_add_byte(out, '}');
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code ca_sign_jwt(struct ca *ca, struct cs_arena *a, const struct ca_jwt_params *p, struct ca_jwt *out,
                    struct cs_err *e)
{
    *out = (struct ca_jwt){0};
    CS_AUTO(ca_jwt_authority) auth = NULL;
    CS_TRY(take_jwt(ca, &auth, e));
    CS_TRY(check_id(ca, "JWT-SVID", p->spiffe_id, e));
    int64_t now = cs_now_s(ca->clock);
    int64_t exp = capped(now, p->ttl_s > 0 ? p->ttl_s : ca->jwt_svid_ttl, auth->not_after);
    CS_CLEANUP(cs_buf_free) struct cs_buf claims = {0};
    CS_TRY(write_claims(ca, p, now, exp, &claims, e));
    if (exp <= now) {
        CS_CLEANUP(cs_buf_free) struct cs_buf when = {0};
        cs_time_rfc3339(&when, exp);
        return cs_fail(e, CS_INTERNAL, "invalid JWT-SVID \"exp\" claim: already expired as of %s",
                       cs_buf_cstr(&when));
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf token = {0};
    if (jose_sign(auth->signer, auth->alg, auth->kid, "JWT", cs_buf_slice(&claims), &token, e) != CS_OK) {
        (void)cs_wrap(e, "unable to sign JWT SVID");
        return internal(e);
    }
    char *text = cs_arena_strndup(a, (const char *)token.data, token.len);
    if (text == NULL)
        return cs_nomem(e);
    *out = (struct ca_jwt){.token = text, .issued_at = now, .expires_at = exp};
    return CS_OK;
}
