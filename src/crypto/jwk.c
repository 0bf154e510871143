/* SPDX-License-Identifier: Apache-2.0
 *
 * Public JSON Web Keys.
 */
#include "crypto/jose.h"

#include "base/text.h"

/* Length of the UTF-8 sequence at p, 0 when it is broken. */
static size_t utf8_len(const uint8_t *p, size_t left)
{
    for (size_t n = 1; n <= 4 && n <= left; n++)
        if (cs_utf8_valid(cs_slice_of(p, n)))
            return n;
    return 0;
}

void jose_json_string(struct cs_buf *out, struct cs_slice s)
{
    cs_buf_add_byte(out, '"');
    for (size_t i = 0; i < s.len;) {
        uint8_t c = s.data[i];
        size_t n = c < 0x80 ? 1 : utf8_len(s.data + i, s.len - i);
        if (n == 0) {
            cs_buf_add_str(out, "\\ufffd");
            n = 1;
        } else if (c == '"' || c == '\\') {
            cs_buf_add_byte(out, '\\');
            cs_buf_add_byte(out, c);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            cs_buf_add_byte(out, '\\');
            cs_buf_add_byte(out, c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        } else if (c < 0x20 || c == '<' || c == '>' || c == '&') {
            cs_buf_printf(out, "\\u%04x", c);
        } else if (n == 3 && c == 0xe2 && s.data[i + 1] == 0x80 && (s.data[i + 2] & 0xfe) == 0xa8) {
            cs_buf_printf(out, "\\u202%d", s.data[i + 2] - 0xa0);
        } else {
            cs_buf_add(out, s.data + i, n);
        }
        i += n;
    }
    cs_buf_add_byte(out, '"');
}

/* --- Writing --- */

struct members {
    struct cs_buf *out;
    int indent;
    bool any;
};

static void new_line(struct cs_buf *out, int indent)
{
    if (indent < 0)
        return;
    cs_buf_add_byte(out, '\n');
    for (int i = 0; i < indent; i++)
        cs_buf_add_byte(out, ' ');
}

static void member(struct members *m, const char *name)
{
    if (m->any)
        cs_buf_add_byte(m->out, ',');
    m->any = true;
    new_line(m->out, m->indent);
    cs_buf_printf(m->out, "\"%s\":%s", name, m->indent < 0 ? "" : " ");
}

static void member_text(struct members *m, const char *name, const char *value)
{
    if (value == NULL || *value == '\0')
        return;
    member(m, name);
    jose_json_string(m->out, cs_slice_str(value));
}

static void member_bytes(struct members *m, const char *name, struct cs_slice value)
{
    member(m, name);
    cs_buf_add_byte(m->out, '"');
    cs_b64_encode(m->out, value, CS_B64_URL_RAW);
    cs_buf_add_byte(m->out, '"');
}

static void member_x5c(struct members *m, const struct x509_cert *cert)
{
    member(m, "x5c");
    cs_buf_add_byte(m->out, '[');
    new_line(m->out, m->indent < 0 ? -1 : m->indent + 4);
    cs_buf_add_byte(m->out, '"');
    cs_b64_encode(m->out, cert->der, CS_B64_STD);
    cs_buf_add_byte(m->out, '"');
    new_line(m->out, m->indent);
    cs_buf_add_byte(m->out, ']');
}

static const char *curve_name(enum crypto_key_type t)
{
    switch (t) {
    case CRYPTO_EC_P256:
        return "P-256";
    case CRYPTO_EC_P384:
        return "P-384";
    case CRYPTO_EC_P521:
        return "P-521";
    case CRYPTO_ED25519:
        return "Ed25519";
    default:
        return NULL;
    }
}

void jose_jwk_write(struct cs_buf *out, const struct crypto_pub *pub, const char *use, const char *kid,
                    const struct x509_cert *cert, int indent)
{
    struct members m = {.out = out, .indent = indent};
    struct cs_slice a, b;
    enum crypto_key_type type = crypto_pub_type(pub);
    const char *curve = curve_name(type);
    crypto_pub_parts(pub, &a, &b);
    cs_buf_add_byte(out, '{');
    member_text(&m, "use", use);
    member_text(&m, "kty", curve == NULL ? "RSA" : type == CRYPTO_ED25519 ? "OKP" : "EC");
    member_text(&m, "kid", kid);
    member_text(&m, "crv", curve);
    member_bytes(&m, curve == NULL ? "n" : "x", a);
    if (type != CRYPTO_ED25519)
        member_bytes(&m, curve == NULL ? "e" : "y", b);
    if (cert != NULL)
        member_x5c(&m, cert);
    new_line(out, indent < 0 ? -1 : indent - 4);
    cs_buf_add_byte(out, '}');
}

/* --- Reading --- */

/* A string member; NULL value and absence give "". */
static cs_code get_text(const json_t *obj, const char *name, const char **out, struct cs_err *e)
{
    const json_t *v = json_object_get(obj, name);
    *out = "";
    if (v == NULL || json_is_null(v))
        return CS_OK;
    if (!json_is_string(v))
        return cs_fail(e, CS_INVALID, "json: cannot unmarshal %s of the key: not a string", name);
    *out = json_string_value(v);
    return CS_OK;
}

static cs_code get_bytes(const json_t *obj, const char *name, struct cs_buf *out, struct cs_err *e)
{
    const char *text;
    CS_TRY(get_text(obj, name, &text, e));
    cs_code code = cs_b64_decode(out, cs_slice_str(text), CS_B64_URL_RAW, e);
    return code == CS_INVALID ? cs_fail(e, CS_INVALID, "illegal base64 data in %s", name) : code;
}

static cs_code read_ec(const json_t *obj, struct crypto_pub **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf x = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf y = {0};
    const char *crv;
    enum crypto_key_type type = CRYPTO_KEY_NONE;
    CS_TRY(get_text(obj, "crv", &crv, e));
    if (strcmp(crv, "P-256") == 0)
        type = CRYPTO_EC_P256;
    else if (strcmp(crv, "P-384") == 0)
        type = CRYPTO_EC_P384;
    else if (strcmp(crv, "P-521") == 0)
        type = CRYPTO_EC_P521;
    else
        return cs_fail(e, CS_UNIMPLEMENTED, "go-jose/go-jose: unsupported elliptic curve '%.64s'", crv);
    CS_TRY(get_bytes(obj, "x", &x, e));
    CS_TRY(get_bytes(obj, "y", &y, e));
    if (x.len == 0 || y.len == 0)
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: invalid EC key, missing x/y values");
    size_t size = type == CRYPTO_EC_P256 ? 32 : type == CRYPTO_EC_P384 ? 48 : 66;
    if (x.len != size || y.len != size)
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: invalid EC public key, wrong length for %c",
                       x.len != size ? 'x' : 'y');
    cs_code code = crypto_pub_from_ec(type, cs_buf_slice(&x), cs_buf_slice(&y), out, e);
    return code == CS_INVALID
               ? cs_fail(e, CS_INVALID, "go-jose/go-jose: invalid EC key, X/Y are not on declared curve")
               : code;
}

static cs_code read_rsa(const json_t *obj, struct crypto_pub **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf n = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf exp = {0};
    CS_TRY(get_bytes(obj, "n", &n, e));
    CS_TRY(get_bytes(obj, "e", &exp, e));
    if (n.len == 0 || exp.len == 0)
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: invalid RSA key, missing n/e values");
    return crypto_pub_from_rsa(cs_buf_slice(&n), cs_buf_slice(&exp), out, e);
}

static cs_code read_okp(const json_t *obj, struct crypto_pub **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf x = {0};
    const char *crv;
    CS_TRY(get_text(obj, "crv", &crv, e));
    if (strcmp(crv, "Ed25519") != 0)
        return cs_fail(e, CS_UNIMPLEMENTED, "go-jose/go-jose: unknown curve %.64s'", crv);
    CS_TRY(get_bytes(obj, "x", &x, e));
    if (x.len == 0)
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: invalid Ed key, missing x value");
    return crypto_pub_from_ed25519(cs_buf_slice(&x), out, e);
}

static cs_code read_key(const json_t *obj, struct crypto_pub **out, struct cs_err *e)
{
    const char *kty;
    CS_TRY(get_text(obj, "kty", &kty, e));
    if (*kty == '\0')
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: missing json web key type");
    if (json_object_get(obj, "d") != NULL || json_object_get(obj, "k") != NULL)
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: key is not a public key");
    if (strcmp(kty, "EC") == 0)
        return read_ec(obj, out, e);
    if (strcmp(kty, "RSA") == 0)
        return read_rsa(obj, out, e);
    if (strcmp(kty, "OKP") == 0)
        return read_okp(obj, out, e);
    return cs_fail(e, CS_UNIMPLEMENTED, "go-jose/go-jose: unsupported key type/format");
}

static cs_code read_x5c(const json_t *obj, struct jose_jwk *k, struct cs_err *e)
{
    const json_t *list = json_object_get(obj, "x5c"), *item;
    size_t i;
    if (list == NULL || json_is_null(list))
        return CS_OK;
    if (!json_is_array(list) || json_array_size(list) > X509_CHAIN_MAX)
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: failed to unmarshal x5c field");
    json_array_foreach(list, i, item)
    {
        CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
        CS_AUTO(x509_cert) cert = NULL;
        if (!json_is_string(item))
            return cs_fail(e, CS_INVALID, "go-jose/go-jose: failed to unmarshal x5c field");
        cs_code code = cs_b64_decode(&der, cs_slice_str(json_string_value(item)), CS_B64_STD, e);
        if (code == CS_OK)
            code = x509_cert_parse(cs_buf_slice(&der), &cert, e);
        if (code == CS_OK)
            code = x509_chain_add(&k->certs, cert, e);
        if (code == CS_INVALID)
            (void)cs_wrap(e, "go-jose/go-jose: failed to unmarshal x5c field");
        CS_TRY(code);
    }
    return CS_OK;
}

cs_code jose_jwk_read(const json_t *obj, struct jose_jwk *out, struct cs_err *e)
{
    CS_CLEANUP(jose_jwk_free) struct jose_jwk k = {0};
    *out = k;
    if (!json_is_object(obj))
        return cs_fail(e, CS_INVALID, "json: cannot unmarshal a key that is not an object");
    CS_TRY(get_text(obj, "use", &k.use, e));
    CS_TRY(get_text(obj, "kid", &k.kid, e));
    CS_TRY(read_x5c(obj, &k, e));
    CS_TRY(read_key(obj, &k.pub, e));
    if (k.certs.count > 0) {
        struct crypto_pub *cert_key;
        CS_TRY(x509_cert_pub(k.certs.at[0], &cert_key, e));
        if (!crypto_pub_equal(cert_key, k.pub))
            return cs_fail(e, CS_INVALID,
                           "go-jose/go-jose: invalid JWK, public keys in key and x5c fields do not match");
    }
    *out = k;
    k = (struct jose_jwk){0};
    return CS_OK;
}

void jose_jwk_free(struct jose_jwk *k)
{
    crypto_pub_unref(k->pub);
    x509_chain_free(&k->certs);
    *k = (struct jose_jwk){0};
}
