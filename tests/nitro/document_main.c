/* SPDX-License-Identifier: Apache-2.0
 *
 * nitro-document: writes attestation documents for tests.
 *
 *   nitro-document root DIR               a new root: DIR/root.pem and DIR/root.key
 *   nitro-document make DIR [NAME=VALUE]  a document of that root, on standard output
 *     pcr0=HEX .. pcr15=HEX  module_id=TEXT  public_key=HEX  user_data=HEX  nonce=HEX
 *     age=SECONDS (negative: in the future)  definite=1  tagged=1  leaf=p521 (signed by its issuer's key)
 *   nitro-document many DIR COUNT PREFIX  COUNT documents PREFIX0, PREFIX1, ..: one instance, a leaf each
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "crypto/cose.h"
#include "tests/nitro/make.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_MAX ((size_t)64 * 1024)
#define VALUES 32

struct made {
    struct nitro_make_document d;
    struct cs_buf values[VALUES]; /* decoded hex behind the slices of d */
    size_t value_count;
    int64_t age_s;
    bool leaf_p521;
};

static cs_code read_in(const char *dir, const char *name, struct cs_buf *out, struct cs_err *e)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return cs_file_read(path, FILE_MAX, out, e);
}

static cs_code write_in(const char *dir, const char *name, struct cs_slice text, struct cs_err *e)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return cs_file_write_atomic(path, text, 0600, e);
}

static cs_code make_root(const char *dir, int64_t now_s, struct cs_err *e)
{
    CS_CLEANUP(nitro_authority_free) struct nitro_authority a = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_AUTO(cs_secret) key = NULL;
    const struct nitro_make_cert c = nitro_make_cert_default(0, now_s);
    CS_TRY(nitro_authority_issue(&a, 0, &c, e));
    const struct x509_chain root = {&a.certs[0], 1};
    x509_chain_write_pem(&pem, &root);
    CS_TRY(write_in(dir, "root.pem", cs_buf_slice(&pem), e));
    CS_TRY(crypto_key_pem(a.keys[0], &key, e));
    return write_in(dir, "root.key", cs_slice_of(key->data, key->len), e);
}

static cs_code load(struct nitro_authority *a, const char *dir, int64_t now_s, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf cert = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf key = {0};
    CS_TRY(read_in(dir, "root.pem", &cert, e));
    CS_TRY(read_in(dir, "root.key", &key, e));
    return nitro_authority_load(a, cs_buf_slice(&cert), cs_buf_slice(&key), now_s, e);
}

static cs_code set_hex(struct made *m, struct cs_slice *to, const char *hex, struct cs_err *e)
{
    if (m->value_count == VALUES)
        return cs_fail(e, CS_INVALID, "too many values");
    struct cs_buf *b = &m->values[m->value_count++];
    CS_TRY(cs_hex_decode(b, cs_slice_str(hex), e));
    *to = cs_buf_slice(b);
    return CS_OK;
}

static cs_code set(struct made *m, const char *arg, struct cs_err *e)
{
    const char *value = strchr(arg, '=');
    if (value == NULL)
        return cs_fail(e, CS_INVALID, "%s: not NAME=VALUE", arg);
    const struct cs_slice name = cs_slice_of(arg, (size_t)(value - arg));
    value++;
    unsigned long pcr;
    if (cs_slice_is(name, "module_id"))
        m->d.module_id = value;
    else if (cs_slice_is(name, "public_key"))
        return set_hex(m, &m->d.public_key, value, e);
    else if (cs_slice_is(name, "user_data"))
        return set_hex(m, &m->d.user_data, value, e);
    else if (cs_slice_is(name, "nonce"))
        return set_hex(m, &m->d.nonce, value, e);
    else if (cs_slice_is(name, "age"))
        return cs_parse_i64(cs_slice_str(value), &m->age_s, e);
    else if (cs_slice_is(name, "definite"))
        m->d.indefinite = false;
    else if (cs_slice_is(name, "tagged"))
        m->d.tagged = true;
    else if (cs_slice_is(name, "leaf") && strcmp(value, "p521") == 0)
        m->leaf_p521 = true;
    else if (name.len > 3 && memcmp(arg, "pcr", 3) == 0 && (pcr = strtoul(arg + 3, NULL, 10)) < 16)
        return set_hex(m, &m->d.pcrs[pcr], value, e);
    else
        return cs_fail(e, CS_INVALID, "unknown: %s", arg);
    return CS_OK;
}

static void defaults(struct made *m)
{
    static const uint8_t zeros[48], image[48] = {0x0e, 0xc1, 0xa7, 0xe0}, instance[48] = {0x1d};
    *m = (struct made){.d = {.module_id = "i-0123456789abcdef0-enc0123456789abcdef", .indefinite = true}};
    for (size_t i = 0; i < 16; i++)
        m->d.pcrs[i] = cs_slice_of(zeros, sizeof zeros);
    m->d.pcrs[0] = m->d.pcrs[1] = m->d.pcrs[2] = cs_slice_of(image, sizeof image);
    m->d.pcrs[4] = cs_slice_of(instance, sizeof instance);
}

/* A leaf on P-521 with ecdsa-with-SHA384 from its issuer; the document itself is signed by nobody who may. */
static cs_code make_p521(struct nitro_authority *a, const struct made *m, int64_t now_s, struct cs_buf *out,
                         struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
    CS_AUTO(crypto_signer) signer = NULL;
    struct nitro_make_cert leaf = nitro_make_cert_default(NITRO_MAKE_CAS, now_s);
    leaf.key_type = CRYPTO_EC_P521;
    CS_TRY(nitro_authority_issue(a, NITRO_MAKE_CAS, &leaf, e));
    nitro_make_payload(a, &m->d, &payload);
    if (!cs_buf_ok(&payload))
        return cs_nomem(e);
    CS_TRY(crypto_signer_of_key(a->keys[NITRO_MAKE_CAS - 1], &signer, e));
    return cose_sign1_make(signer, cs_buf_slice(&payload), m->d.tagged, out, e);
}

static cs_code make(const char *dir, char **args, int64_t now_s, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(nitro_authority_free) struct nitro_authority a = {0};
    struct made m;
    cs_code code = CS_OK;
    defaults(&m);
    for (; code == CS_OK && *args != NULL; args++)
        code = set(&m, *args, e);
    m.d.timestamp_ms = (now_s - m.age_s) * 1000;
    if (code == CS_OK)
        code = load(&a, dir, now_s, e);
    if (code == CS_OK)
        code = m.leaf_p521 ? make_p521(&a, &m, now_s, out, e) : nitro_make_document(&a, &m.d, out, e);
    for (size_t i = 0; i < m.value_count; i++)
        cs_buf_free(&m.values[i]);
    return code;
}

static cs_code make_many(const char *dir, const char *count_text, const char *prefix, int64_t now_s,
                         struct cs_err *e)
{
    CS_CLEANUP(nitro_authority_free) struct nitro_authority a = {0};
    const struct nitro_make_cert leaf = nitro_make_cert_default(NITRO_MAKE_CAS, now_s);
    struct made m;
    int64_t count;
    CS_TRY(cs_parse_i64(cs_slice_str(count_text), &count, e));
    CS_TRY(load(&a, dir, now_s, e));
    defaults(&m);
    for (int64_t i = 0; i < count; i++) {
        char path[4096];
        CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
        (void)snprintf(path, sizeof path, "%s%lld", prefix, (long long)i);
        crypto_key_drop(&a.keys[NITRO_MAKE_CAS]);
        CS_TRY(nitro_authority_issue(&a, NITRO_MAKE_CAS, &leaf, e));
        m.d.timestamp_ms = now_s * 1000;
        CS_TRY(nitro_make_document(&a, &m.d, &doc, e));
        CS_TRY(cs_file_write_atomic(path, cs_buf_slice(&doc), 0600, e));
    }
    return CS_OK;
}

int main(int argc, char **argv)
{
    struct cs_err e = {0};
    const int64_t now_s = cs_now_s(&cs_clock_system);
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    cs_code code = CS_INVALID;
    if (argc == 3 && strcmp(argv[1], "root") == 0)
        code = make_root(argv[2], now_s, &e);
    else if (argc >= 3 && strcmp(argv[1], "make") == 0)
        code = make(argv[2], argv + 3, now_s, &doc, &e);
    else if (argc == 5 && strcmp(argv[1], "many") == 0)
        code = make_many(argv[2], argv[3], argv[4], now_s, &e);
    else
        (void)cs_fail(&e, CS_INVALID, "usage: nitro-document root|make|many DIR ...");
    if (code == CS_OK && doc.len > 0 && write(STDOUT_FILENO, doc.data, doc.len) != (ssize_t)doc.len)
        code = cs_fail(&e, CS_INTERNAL, "short write");
    if (code != CS_OK)
        (void)fprintf(stderr, "nitro-document: %s\n", e.text);
    return code == CS_OK ? 0 : 1;
}
