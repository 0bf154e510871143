/* SPDX-License-Identifier: Apache-2.0
 *
 * What a CredentialComposer may ask for: whatever it is, a certificate that comes out is one that OpenSSL
 * reads, signed by us, with the SPIFFE ID and key that were asked for and no CA; a token has its subject.
 *
 * Input: items of a type byte, two length bytes, and two texts (or a text and bytes) of these lengths.
 */
#include "plugin/catalog.h"
#include "plugin/credentialcomposer.h"
#include "server/ca/authority.h"
#include "spiffe/jwtsvid.h"
#include "spiffe/x509svid.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ID "spiffe://example.org/w"
#define ITEMS_MAX 64

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* --- A composer that reads its wishes from the input --- */

struct wishes {
    struct cs_slice input;
};

struct lists {
    struct cs_arena *a;
    const char *units[ITEMS_MAX], *dns[ITEMS_MAX], *policies[ITEMS_MAX];
    struct credentialcomposer_type_value names[ITEMS_MAX];
    struct credentialcomposer_extension extensions[ITEMS_MAX];
    size_t unit_count, dns_count, policy_count, name_count, extension_count;
};

static const char *text_of(struct cs_arena *a, struct cs_slice s)
{
    const char *text = cs_arena_strndup(a, (const char *)s.data, s.len);
    must(text != NULL);
    return text;
}

static void take_item(struct lists *l, uint8_t type, struct cs_slice first, struct cs_slice second,
                      struct credentialcomposer_x509 *x)
{
    const char *text = text_of(l->a, first);
    switch (type % 6) {
    case 0:
        l->units[l->unit_count++] = text;
        break;
    case 1:
        l->dns[l->dns_count++] = text;
        break;
    case 2:
        l->policies[l->policy_count++] = text;
        break;
    case 3:
        l->names[l->name_count++] = (struct credentialcomposer_type_value){text, text_of(l->a, second)};
        break;
    case 4:
        l->extensions[l->extension_count++] =
            (struct credentialcomposer_extension){text, second, type & 0x80};
        break;
    default:
        x->subject.common_name = text;
        break;
    }
}

static cs_code wish(struct wishes *w, struct cs_arena *a, struct credentialcomposer_x509 *x)
{
    struct lists *l = cs_arena_zalloc(a, sizeof *l);
    must(l != NULL);
    l->a = a;
    struct cs_rd r = cs_rd_of(w->input);
    for (size_t i = 0; i < ITEMS_MAX; i++) {
        uint8_t type, n, m;
        struct cs_slice first, second;
        if (!cs_rd_u8(&r, &type) || !cs_rd_u8(&r, &n) || !cs_rd_u8(&r, &m) || !cs_rd_bytes(&r, n, &first) ||
            !cs_rd_bytes(&r, m, &second))
            break;
        take_item(l, type, first, second, x);
    }
    x->subject.organizational_unit = (struct credentialcomposer_texts){l->units, l->unit_count};
    x->subject.extra = l->names;
    x->subject.extra_count = l->name_count;
    x->dns_sans = (struct credentialcomposer_texts){l->dns, l->dns_count};
    x->policy_identifiers = (struct credentialcomposer_texts){l->policies, l->policy_count};
    x->extensions = l->extensions;
    x->extension_count = l->extension_count;
    return CS_OK;
}

static cs_code of_server(void *self, struct cs_arena *a, struct credentialcomposer_x509 *x, struct cs_err *e)
{
    (void)e;
    return wish(self, a, x);
}
static cs_code of_workload(void *self, struct cs_arena *a, const char *id, struct cs_slice spki,
                           struct credentialcomposer_x509 *x, struct cs_err *e)
{
    (void)id;
    (void)spki;
    (void)e;
    return wish(self, a, x);
}
static cs_code of_jwt(void *self, struct cs_arena *a, const char *id, struct cs_slice *claims,
                      struct cs_err *e)
{
    struct wishes *w = self;
    (void)a;
    (void)id;
    (void)e;
    *claims = w->input;
    return CS_OK;
}
static const struct credentialcomposer_ops ops = {of_server, of_server, of_workload, of_workload, of_jwt};

/* --- A CA under it --- */

static struct wishes wishes;
static const struct catalog_plugin composer = {
    .type = "CredentialComposer", .name = "fuzz", .ops = &ops, .self = &wishes};

struct fixture {
    struct ca *ca;
    struct crypto_key *key;
    struct crypto_signer *signer;
    struct x509_cert *cert;
};

static void make(struct fixture *f)
{
    const struct catalog_plugin *const list[] = {&composer};
    const struct ca_config cfg = {
        .trust_domain = "example.org", .clock = &cs_clock_system, .composers = list, .composer_count = 1};
    struct ca_x509_authority *x = NULL;
    struct ca_jwt_authority *j = NULL;
    struct cs_buf der = {0};
    const struct x509_chain none = {0};
    must(ca_new(&cfg, &f->ca, NULL) == CS_OK);
    must(crypto_key_generate(CRYPTO_EC_P256, &f->key, NULL) == CS_OK);
    must(crypto_signer_of_key(f->key, &f->signer, NULL) == CS_OK);
    must(ca_self_sign(f->ca, f->signer, &der, NULL) == CS_OK);
    must(x509_cert_parse(cs_buf_slice(&der), &f->cert, NULL) == CS_OK);
    must(ca_x509_authority_new(f->cert, f->signer, &none, &x, NULL) == CS_OK);
    must(ca_jwt_authority_new(f->signer, "kid", cs_now_s(&cs_clock_system) + 3600, &j, NULL) == CS_OK);
    ca_set_x509(f->ca, x);
    ca_set_jwt(f->ca, j);
    ca_x509_authority_unref(x);
    ca_jwt_authority_unref(j);
    cs_buf_free(&der);
}

static void check_svid(const struct fixture *f, struct cs_slice der)
{
    CS_AUTO(x509_cert) c = NULL;
    struct spiffe_id id;
    must(x509_cert_parse(der, &c, NULL) == CS_OK);
    must(spiffe_x509_id(c, &id, NULL) == CS_OK && cs_slice_is(id.text, ID));
    must(!c->ext.is_ca && cs_slice_eq(c->spki, crypto_pub_spki(crypto_key_pub(f->key))));
    must(x509_cert_check_signature(c, f->cert, NULL) == CS_OK);
    const unsigned char *p = der.data;
    X509 *theirs = d2i_X509(NULL, &p, (long)der.len);
    must(theirs != NULL && p == der.data + der.len);
    X509_free(theirs);
    ERR_clear_error();
}

static void sign(const struct fixture *f, struct cs_arena *a)
{
    struct cs_slice spki = crypto_pub_spki(crypto_key_pub(f->key));
    const struct ca_workload_params w = {.spiffe_id = ID, .spki = spki};
    struct ca_x509 svid, ca;
    if (ca_sign_workload(f->ca, a, &w, &svid, NULL) == CS_OK)
        check_svid(f, svid.chain[0]);
    if (ca_sign_downstream(f->ca, a, spki, 60, &ca, NULL) == CS_OK) {
        CS_AUTO(x509_cert) c = NULL;
        must(x509_cert_parse(ca.chain[0], &c, NULL) == CS_OK && c->ext.is_ca);
    }
    const char *const aud[] = {"a"};
    const struct ca_jwt_params j = {.spiffe_id = ID, .audience = aud, .audience_count = 1};
    struct ca_jwt token;
    if (ca_sign_jwt(f->ca, a, &j, &token, NULL) == CS_OK && strlen(token.token) <= JOSE_TOKEN_MAX) {
        CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid t = {0};
        must(spiffe_jwtsvid_parse_insecure(cs_slice_str(token.token), &t, NULL) == CS_OK);
        must(cs_slice_is(t.id.text, ID) && t.expires_at == token.expires_at);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fixture f;
    if (f.ca == NULL)
        make(&f);
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    wishes.input = cs_slice_of(data, size);
    sign(&f, a);
    wishes.input = (struct cs_slice){0};
    return 0;
}
