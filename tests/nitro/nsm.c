/* SPDX-License-Identifier: Apache-2.0
 *
 * A Nitro Security Module for tests: answers on a Unix socket (plugins/shared/nitro/nsm.h) with real
 * attestation documents under a root of its own. For machines without Nitro; it proves nothing to anybody who
 * does not trust that root, and is no part of the product.
 *
 *   test-nsm -socket PATH -root FOLDER [-image FILE | -pcr0 HEX] [-module ID] [-definite]
 *
 * FOLDER has root.pem, for root_ca_path of the server, and root_key.pem; both are made when they are missing.
 * PCR0 is the SHA-384 of the image's bytes, or what is given, or zeros (a debug enclave). Prints `pcr0 HEX`
 * once it listens. Serves one connection after the other.
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "crypto/cbor.h"
#include "crypto/hash.h"
#include "crypto/pem.h"
#include "tests/nitro/make.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_MAX 0x1000
#define PARAM_MAX 1024
#define RANDOM_LEN 256
#define FILE_MAX (256u << 20)
#define PCR_LEN 48
#define IDLE_S 5
#define LEAF_LEFT_S 3600 /* a chain is made anew before the leaf has less */

struct module {
    const char *socket, *root, *image, *pcr0_hex, *module_id;
    bool indefinite;
    struct cs_buf root_pem, key_pem;
    struct nitro_authority authority;
    uint8_t pcrs[5][PCR_LEN];
};

/* --- The root --- */

static cs_code write_root(const char *cert_path, const char *key_path, struct cs_err *e)
{
    struct nitro_authority a = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf cert = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf key = {0};
    CS_AUTO(cs_secret) pkcs8 = NULL;
    CS_TRY(nitro_authority_make(&a, cs_now_s(&cs_clock_system), e));
    pem_write(&cert, PEM_CERTIFICATE, a.certs[0]->der);
    cs_code rc = crypto_key_pkcs8(a.keys[0], &pkcs8, e);
    nitro_authority_free(&a);
    CS_TRY(rc);
    pem_write(&key, PEM_PRIVATE_KEY, cs_slice_of(pkcs8->data, pkcs8->len));
    CS_TRY(cs_file_write_atomic(key_path, cs_buf_slice(&key), 0600, e));
    return cs_file_write_atomic(cert_path, cs_buf_slice(&cert), 0644, e);
}

static cs_code read_root(struct module *m, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *cert = cs_asprintf("%s/root.pem", m->root);
    CS_CLEANUP(cs_freep) char *key = cs_asprintf("%s/root_key.pem", m->root);
    if (cert == NULL || key == NULL)
        return cs_nomem(e);
    CS_TRY(cs_mkdir_all(m->root, 0755, e));
    if (access(cert, F_OK) != 0)
        CS_TRY(write_root(cert, key, e));
    CS_TRY(cs_file_read(cert, 65536, &m->root_pem, e));
    return cs_file_read(key, 65536, &m->key_pem, e);
}

static cs_code fresh_chain(struct module *m, struct cs_err *e)
{
    int64_t now = cs_now_s(&cs_clock_system);
    const struct x509_cert *leaf = m->authority.certs[NITRO_MAKE_CAS];
    if (leaf != NULL && leaf->not_after - now > LEAF_LEFT_S)
        return CS_OK;
    nitro_authority_free(&m->authority);
    m->authority = (struct nitro_authority){0};
    return nitro_authority_load(&m->authority, cs_buf_slice(&m->root_pem), cs_buf_slice(&m->key_pem), now, e);
}

/* --- What is measured --- */

static cs_code measure(struct module *m, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    if (m->pcr0_hex != NULL) {
        CS_TRY(cs_hex_decode(&b, cs_slice_str(m->pcr0_hex), e));
        if (b.len != PCR_LEN)
            return cs_fail(e, CS_INVALID, "-pcr0 wants %d digits", 2 * PCR_LEN);
        memcpy(m->pcrs[0], b.data, PCR_LEN);
    } else if (m->image != NULL) {
        CS_TRY(cs_file_read(m->image, FILE_MAX, &b, e));
        CS_TRY(crypto_digest(CRYPTO_SHA384, cs_buf_slice(&b), m->pcrs[0], e));
    }
    for (int i = 1; i < 5; i++) /* kernel, application, role and instance: any that are not zero */
        memset(m->pcrs[i], i, PCR_LEN);
    return CS_OK;
}

/* --- Requests --- */

static void put_error(struct cs_buf *out, const char *code)
{
    cs_buf_reset(out);
    cbor_put_map(out, 1);
    cbor_put_text(out, "Error");
    cbor_put_text(out, code);
}

static bool read_param(struct cs_rd *r, struct cs_slice *out)
{
    return cbor_read_null(r) || (cbor_read_bytes(r, out) && out->len <= PARAM_MAX);
}

static bool read_params(struct cs_rd *r, struct nitro_make_document *d)
{
    struct cbor_map map;
    if (!cbor_map_begin(r, &map, false))
        return false;
    while (cbor_map_more(r, &map)) {
        bool good = cbor_read_text_is(r, "user_data")    ? read_param(r, &d->user_data)
                    : cbor_read_text_is(r, "nonce")      ? read_param(r, &d->nonce)
                    : cbor_read_text_is(r, "public_key") ? read_param(r, &d->public_key)
                                                         : false;
        if (!good)
            return false;
    }
    return cbor_map_ended(&map) && cs_rd_left(r) == 0;
}

static cs_code answer_attestation(struct module *m, struct cs_rd *r, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf document = {0};
    struct nitro_make_document d = {
        .module_id = m->module_id,
        .timestamp_ms = cs_now_ns(&cs_clock_system) / CS_NS_PER_MS,
        .indefinite = m->indefinite,
    };
    static const uint8_t unused[PCR_LEN];
    for (size_t i = 0; i < sizeof d.pcrs / sizeof d.pcrs[0]; i++)
        d.pcrs[i] = cs_slice_of(i < 5 ? m->pcrs[i] : unused, PCR_LEN);
    if (!read_params(r, &d)) {
        put_error(out, "InvalidArgument");
        return CS_OK;
    }
    CS_TRY(fresh_chain(m, e));
    CS_TRY(nitro_make_document(&m->authority, &d, &document, e));
    cbor_put_map(out, 1);
    cbor_put_text(out, "Attestation");
    cbor_put_map(out, 1);
    cbor_put_text(out, "document");
    cbor_put_bytes(out, cs_buf_slice(&document));
    return CS_OK;
}

static void answer_description(const struct module *m, struct cs_buf *out)
{
    static const char *const numbers[] = {"version_major", "version_minor", "version_patch"};
    cbor_put_map(out, 1);
    cbor_put_text(out, "DescribeNSM");
    cbor_put_map(out, 7);
    for (size_t i = 0; i < 3; i++) {
        cbor_put_text(out, numbers[i]);
        cbor_put_uint(out, i == 0 ? 1 : 0);
    }
    cbor_put_text(out, "module_id");
    cbor_put_text(out, m->module_id);
    cbor_put_text(out, "max_pcrs");
    cbor_put_uint(out, 32);
    cbor_put_text(out, "locked_pcrs");
    cbor_put_array(out, 5);
    for (size_t i = 0; i < 5; i++)
        cbor_put_uint(out, i);
    cbor_put_text(out, "digest");
    cbor_put_text(out, "SHA384");
}

static cs_code answer_random(struct cs_buf *out, struct cs_err *e)
{
    uint8_t random[RANDOM_LEN];
    CS_TRY(cs_random(random, sizeof random, e));
    cbor_put_map(out, 1);
    cbor_put_text(out, "GetRandom");
    cbor_put_map(out, 1);
    cbor_put_text(out, "random");
    cbor_put_bytes(out, cs_slice_of(random, sizeof random));
    return CS_OK;
}

static cs_code answer(struct module *m, struct cs_slice request, struct cs_buf *out, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(request);
    struct cbor_map map;
    if (cbor_read_text_is(&r, "GetRandom") && cs_rd_left(&r) == 0)
        return answer_random(out, e);
    if (cbor_read_text_is(&r, "DescribeNSM") && cs_rd_left(&r) == 0) {
        answer_description(m, out);
        return CS_OK;
    }
    if (cbor_map_begin(&r, &map, false) && map.left == 1 && cbor_map_more(&r, &map) &&
        cbor_read_text_is(&r, "Attestation"))
        return answer_attestation(m, &r, out, e);
    put_error(out, "InvalidOperation");
    return CS_OK;
}

/* --- The socket --- */

static bool move(int fd, uint8_t *p, size_t len, bool out)
{
    while (len > 0) {
        ssize_t n = out ? send(fd, p, len, MSG_NOSIGNAL) : recv(fd, p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static void serve(struct module *m, int fd)
{
    const struct timeval idle = {.tv_sec = IDLE_S};
    uint8_t head[4], request[REQUEST_MAX];
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
    while (move(fd, head, sizeof head, false)) {
        struct cs_rd r = cs_rd_of(cs_slice_of(head, sizeof head));
        uint32_t len;
        struct cs_err e;
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        if (!cs_rd_u32be(&r, &len) || len > sizeof request || !move(fd, request, len, false))
            return;
        if (answer(m, cs_slice_of(request, len), &out, &e) != CS_OK) {
            fprintf(stderr, "test-nsm: %s\n", e.text);
            put_error(&out, "InternalError");
        }
        for (size_t i = 0; i < sizeof head; i++)
            head[i] = (uint8_t)(out.len >> (24 - 8 * i));
        if (!cs_buf_ok(&out) || !move(fd, head, sizeof head, true) || !move(fd, out.data, out.len, true))
            return;
    }
}

static cs_code listen_at(const char *path, int *out, struct cs_err *e)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sa.sun_path)
        return cs_fail(e, CS_INVALID, "%s is too long for a Unix socket", path);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    (void)unlink(path);
    *out = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*out < 0 || bind(*out, (const struct sockaddr *)&sa, sizeof sa) != 0 || listen(*out, 64) != 0)
        return cs_fail_errno(e, CS_UNAVAILABLE, errno, "listen %s", path);
    return CS_OK;
}

static cs_code run(struct module *m, struct cs_err *e)
{
    int listener = -1;
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    CS_TRY(read_root(m, e));
    CS_TRY(measure(m, e));
    CS_TRY(fresh_chain(m, e));
    CS_TRY(listen_at(m->socket, &listener, e));
    cs_hex_encode(&hex, cs_slice_of(m->pcrs[0], PCR_LEN));
    printf("pcr0 %s\n", cs_buf_cstr(&hex));
    (void)fflush(stdout);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
            return cs_fail_errno(e, CS_UNAVAILABLE, errno, "accept");
        if (fd < 0)
            continue;
        serve(m, fd);
        close(fd);
    }
}

/* --- The command line --- */

static int usage(void)
{
    fputs("usage: test-nsm -socket PATH -root FOLDER [-image FILE | -pcr0 HEX] [-module ID] [-definite]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct module m = {.module_id = "i-0123456789abcdef0-enc0123456789abcdef", .indefinite = true};
    const struct {
        const char *name;
        const char **value;
    } options[] = {{"-socket", &m.socket},
                   {"-root", &m.root},
                   {"-image", &m.image},
                   {"-pcr0", &m.pcr0_hex},
                   {"-module", &m.module_id}};
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        if (strcmp(argv[i], "-definite") == 0) {
            m.indefinite = false;
            continue;
        }
        while (k < sizeof options / sizeof options[0] && strcmp(argv[i], options[k].name) != 0)
            k++;
        if (k == sizeof options / sizeof options[0] || i + 1 == argc)
            return usage();
        *options[k].value = argv[++i];
    }
    struct cs_err e;
    if (m.socket == NULL || m.root == NULL)
        return usage();
    (void)signal(SIGPIPE, SIG_IGN);
    if (run(&m, &e) != CS_OK)
        fprintf(stderr, "test-nsm: %s\n", e.text);
    return 1;
}
