/* SPDX-License-Identifier: Apache-2.0 */
#include "proof.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Its end, a zero byte, is hashed too, so that no name runs into it. */
static const char protocol[] = "shared-secret node attestation, version 1";

bool name_ok(const char *name, size_t len)
{
    if (len == 0 || len > NAME_MAX_LEN || name[0] == '.')
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c > 126 || (!isalnum(c) && strchr("-_.", c) == NULL) || c == '\0')
            return false;
    }
    return true;
}

static int read_all(int fd, struct secret *out)
{
    while (out->len < sizeof out->bytes) {
        ssize_t n = read(fd, out->bytes + out->len, sizeof out->bytes - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? 0 : errno;
        out->len += (size_t)n;
    }
    return EFBIG;
}

enum cspire_code secret_read(struct cspire_call *call, const char *path, struct secret *out)
{
    out->len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return cspire_fail(call, errno == ENOENT ? CSPIRE_NOT_FOUND : CSPIRE_INTERNAL, "open %s: %s", path,
                           strerror(errno));
    struct stat st;
    int err = fstat(fd, &st) == 0 ? 0 : errno;
    bool regular = err == 0 && S_ISREG(st.st_mode), open_to_others = err == 0 && (st.st_mode & 077) != 0;
    if (regular && !open_to_others)
        err = read_all(fd, out);
    close(fd);
    if (err == 0 && !regular)
        return cspire_fail(call, CSPIRE_FAILED_PRECONDITION, "%s is no file", path);
    if (err == 0 && open_to_others)
        return cspire_fail(call, CSPIRE_FAILED_PRECONDITION,
                           "%s may be used by others than its owner: its mode must be 0600 or less", path);
    if (err != 0)
        return cspire_fail(call, CSPIRE_INTERNAL, "read %s: %s", path, strerror(err));
    if (out->len > 0 && out->bytes[out->len - 1] == '\n')
        out->len--;
    if (out->len < SECRET_MIN)
        return cspire_fail(call, CSPIRE_FAILED_PRECONDITION, "%s: a secret has at least %d bytes", path,
                           SECRET_MIN);
    return CSPIRE_OK;
}

enum cspire_code proof_make(struct cspire_call *call, const struct secret *secret, const char *name,
                            const unsigned char nonce[NONCE_LEN], unsigned char out[PROOF_LEN])
{
    unsigned char msg[sizeof protocol + NAME_MAX_LEN + 1 + NONCE_LEN];
    size_t name_len = strlen(name);
    unsigned int len = 0;
    if (name_len > NAME_MAX_LEN)
        return cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "the name is too long");
    memcpy(msg, protocol, sizeof protocol);
    memcpy(msg + sizeof protocol, name, name_len + 1);
    memcpy(msg + sizeof protocol + name_len + 1, nonce, NONCE_LEN);
    if (HMAC(EVP_sha256(), secret->bytes, (int)secret->len, msg, sizeof protocol + name_len + 1 + NONCE_LEN,
             out, &len) == NULL ||
        len != PROOF_LEN)
        return cspire_fail(call, CSPIRE_INTERNAL, "HMAC failed");
    return CSPIRE_OK;
}
