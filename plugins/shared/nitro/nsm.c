/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/shared/nitro/nsm.h"

#include "base/mem.h"
#include "crypto/cbor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct nitro_nsm;
typedef cs_code (*nsm_call)(struct nitro_nsm *n, struct cs_slice request, struct cs_buf *response,
                            struct cs_err *e);

struct nitro_nsm {
    int fd;
    nsm_call call;
    char path[]; /* for error texts */
};

/* --- The device --- */

/* struct nsm_raw of Linux's include/uapi/linux/nsm.h: two vectors. */
struct raw_message {
    uint64_t request, request_len;
    uint64_t response, response_len; /* room, then the length of the answer */
};
#define NSM_IOCTL_RAW _IOWR(0x0A, 0x0, struct raw_message)
_Static_assert(NSM_IOCTL_RAW == 0xC0200A00, "the driver knows it by this number");

static cs_code call_device(struct nitro_nsm *n, struct cs_slice request, struct cs_buf *response,
                           struct cs_err *e)
{
    if (!cs_buf_reserve(response, NITRO_NSM_RESPONSE_MAX))
        return cs_nomem(e);
    struct raw_message m = {
        .request = (uintptr_t)request.data,
        .request_len = request.len,
        .response = (uintptr_t)(response->data + response->len),
        .response_len = NITRO_NSM_RESPONSE_MAX,
    };
    int rc;
    do
        rc = ioctl(n->fd, NSM_IOCTL_RAW, &m);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        return cs_fail_errno(e, errno == EMSGSIZE ? CS_INVALID : CS_UNAVAILABLE, errno, "NSM: ioctl %s",
                             n->path);
    if (m.response_len > NITRO_NSM_RESPONSE_MAX)
        return cs_fail(e, CS_INVALID, "NSM: %s claims an answer of %llu bytes", n->path,
                       (unsigned long long)m.response_len);
    response->len += (size_t)m.response_len;
    return CS_OK;
}

/* --- The socket --- */

static cs_code wait_for(const struct nitro_nsm *n, short events, int64_t until, struct cs_err *e)
{
    for (;;) {
        int64_t left = until - cs_mono_ns(&cs_clock_system);
        if (left <= 0)
            return cs_fail(e, CS_UNAVAILABLE, "NSM: no answer from %s in time", n->path);
        struct pollfd p = {.fd = n->fd, .events = events};
        int rc = poll(&p, 1, (int)(left / CS_NS_PER_MS) + 1);
        if (rc > 0)
            return CS_OK;
        if (rc < 0 && errno != EINTR)
            return cs_fail_errno(e, CS_UNAVAILABLE, errno, "NSM: poll %s", n->path);
    }
}

static cs_code send_all(const struct nitro_nsm *n, const uint8_t *p, size_t len, int64_t until,
                        struct cs_err *e)
{
    while (len > 0) {
        ssize_t got = send(n->fd, p, len, MSG_NOSIGNAL);
        if (got < 0 && errno == EAGAIN)
            CS_TRY(wait_for(n, POLLOUT, until, e));
        else if (got < 0 && errno != EINTR)
            return cs_fail_errno(e, CS_UNAVAILABLE, errno, "NSM: write %s", n->path);
        else if (got > 0) {
            p += got;
            len -= (size_t)got;
        }
    }
    return CS_OK;
}

static cs_code receive_all(const struct nitro_nsm *n, uint8_t *p, size_t len, int64_t until, struct cs_err *e)
{
    while (len > 0) {
        ssize_t got = recv(n->fd, p, len, 0);
        if (got == 0)
            return cs_fail(e, CS_UNAVAILABLE, "NSM: %s closed the connection", n->path);
        if (got < 0 && errno == EAGAIN)
            CS_TRY(wait_for(n, POLLIN, until, e));
        else if (got < 0 && errno != EINTR)
            return cs_fail_errno(e, CS_UNAVAILABLE, errno, "NSM: read %s", n->path);
        else if (got > 0) {
            p += got;
            len -= (size_t)got;
        }
    }
    return CS_OK;
}

static cs_code call_socket(struct nitro_nsm *n, struct cs_slice request, struct cs_buf *response,
                           struct cs_err *e)
{
    int64_t until = cs_mono_ns(&cs_clock_system) + NITRO_NSM_WAIT_NS;
    uint8_t head[4] = {(uint8_t)(request.len >> 24), (uint8_t)(request.len >> 16),
                       (uint8_t)(request.len >> 8), (uint8_t)request.len};
    CS_TRY(send_all(n, head, sizeof head, until, e));
    CS_TRY(send_all(n, request.data, request.len, until, e));
    CS_TRY(receive_all(n, head, sizeof head, until, e));
    size_t len = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    if (len > NITRO_NSM_RESPONSE_MAX)
        return cs_fail(e, CS_INVALID, "NSM: %s claims an answer of %zu bytes", n->path, len);
    if (!cs_buf_reserve(response, len))
        return cs_nomem(e);
    CS_TRY(receive_all(n, response->data + response->len, len, until, e));
    response->len += len;
    return CS_OK;
}

static cs_code connect_socket(struct nitro_nsm *n, struct cs_err *e)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(n->path) >= sizeof sa.sun_path)
        return cs_fail(e, CS_INVALID, "NSM: path %s is too long for a Unix socket", n->path);
    memcpy(sa.sun_path, n->path, strlen(n->path) + 1);
    n->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n->fd < 0 || connect(n->fd, (const struct sockaddr *)&sa, sizeof sa) != 0)
        return cs_fail_errno(e, CS_UNAVAILABLE, errno, "NSM: connect %s", n->path);
    return CS_OK;
}

/* --- Opening --- */

static cs_code fail_open(const char *path, int errnum, struct cs_err *e)
{
    cs_code code = errnum == ENOENT                      ? CS_NOT_FOUND
                   : errnum == EACCES || errnum == EPERM ? CS_DENIED
                                                         : CS_UNAVAILABLE;
    return cs_fail_errno(e, code, errnum, "NSM: open %s", path);
}

static cs_code open_path(struct nitro_nsm *n, struct cs_err *e)
{
    struct stat st;
    if (stat(n->path, &st) != 0)
        return fail_open(n->path, errno, e);
    if (S_ISSOCK(st.st_mode)) {
        n->call = call_socket;
        return connect_socket(n, e);
    }
    if (!S_ISCHR(st.st_mode))
        return cs_fail(e, CS_INVALID, "NSM: %s is neither a character device nor a Unix socket", n->path);
    n->call = call_device;
    n->fd = open(n->path, O_RDWR | O_CLOEXEC);
    return n->fd >= 0 ? CS_OK : fail_open(n->path, errno, e);
}

cs_code nitro_nsm_open(const char *path, struct nitro_nsm **out, struct cs_err *e)
{
    size_t len = strlen(path);
    *out = NULL;
    CS_AUTO(nitro_nsm) n = cs_calloc(1, sizeof *n + len + 1);
    if (n == NULL)
        return cs_nomem(e);
    memcpy(n->path, path, len);
    n->fd = -1;
    CS_TRY(open_path(n, e));
    *out = CS_MOVE(n);
    return CS_OK;
}

void nitro_nsm_free(struct nitro_nsm *n)
{
    if (n == NULL)
        return;
    if (n->fd >= 0)
        close(n->fd);
    cs_free(n);
}

/* --- Requests --- */

static cs_code call(struct nitro_nsm *n, const struct cs_buf *request, struct cs_buf *response,
                    struct cs_err *e)
{
    if (!cs_buf_ok(request))
        return cs_nomem(e);
    return n->call(n, cs_buf_slice(request), response, e);
}

static cs_code put_param(struct cs_buf *out, const char *name, struct cs_slice value, struct cs_err *e)
{
    if (value.len > NITRO_NSM_PARAM_MAX)
        return cs_fail(e, CS_INVALID, "NSM: %s has %zu bytes, more than %d", name, value.len,
                       NITRO_NSM_PARAM_MAX);
    cbor_put_text(out, name);
    if (value.len > 0)
        cbor_put_bytes(out, value);
    else
        cbor_put_null(out);
    return CS_OK;
}

static cs_code append(struct cs_buf *out, struct cs_slice s, struct cs_err *e)
{
    cs_buf_add_slice(out, s);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code nitro_nsm_attest(struct nitro_nsm *n, const struct nitro_nsm_params *p, struct cs_buf *document,
                         struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf request = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf response = {0};
    struct cs_slice doc;
    cbor_put_map(&request, 1);
    cbor_put_text(&request, "Attestation");
    cbor_put_map(&request, 3);
    CS_TRY(put_param(&request, "user_data", p->user_data, e));
    CS_TRY(put_param(&request, "nonce", p->nonce, e));
    CS_TRY(put_param(&request, "public_key", p->public_key, e));
    CS_TRY(call(n, &request, &response, e));
    CS_TRY(nitro_nsm_parse_document(cs_buf_slice(&response), &doc, e));
    return append(document, doc, e);
}

cs_code nitro_nsm_random(struct nitro_nsm *n, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf request = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf response = {0};
    struct cs_slice random;
    cbor_put_text(&request, "GetRandom");
    CS_TRY(call(n, &request, &response, e));
    CS_TRY(nitro_nsm_parse_random(cs_buf_slice(&response), &random, e));
    return append(out, random, e);
}

cs_code nitro_nsm_describe(struct nitro_nsm *n, struct nitro_nsm_description *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf request = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf response = {0};
    *out = (struct nitro_nsm_description){0};
    cbor_put_text(&request, "DescribeNSM");
    CS_TRY(call(n, &request, &response, e));
    return nitro_nsm_parse_description(cs_buf_slice(&response), out, e);
}
