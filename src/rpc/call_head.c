/* SPDX-License-Identifier: Apache-2.0
 *
 * A request's headers: what they ask for, and the metadata kept for the handler. Refusals carry
 * grpc-go's codes, texts and HTTP statuses.
 *
 * Metadata is one buffer of entries: key length (2 bytes), value length (4 bytes), key, value, in
 * the machine's byte order.
 */
#include "base/text.h"
#include "rpc/internal.h"
#include "rpc/wire.h"

#include <stdio.h>

struct rpc_head {
    bool is_grpc, is_post, has_timeout, too_large;
    int64_t timeout;
    char content_type[64];
    struct cs_buf path; /* only of an unknown method */
    struct cs_err err;  /* of a malformed header */
};

cs_code rpc_head_begin(struct rpc_call *call)
{
    call->head = cs_calloc(1, sizeof *call->head);
    return call->head != NULL ? CS_OK : CS_INTERNAL;
}

/* Names that are gRPC's or HTTP's own business (grpc-go's isReservedHeader). */
static bool is_reserved(struct cs_slice name)
{
    static const char *const names[] = {"te",
                                        "content-type",
                                        "grpc-encoding",
                                        "grpc-message",
                                        "grpc-status",
                                        "grpc-timeout",
                                        "grpc-message-type",
                                        "grpc-accept-encoding",
                                        "grpc-status-details-bin",
                                        "content-length"};
    if (name.len > 0 && name.data[0] == ':')
        return !cs_slice_is(name, ":authority");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (cs_slice_is(name, names[i]))
            return true;
    }
    return false;
}

static void keep(struct rpc_call *call, struct cs_slice name, struct cs_slice value)
{
    uint16_t klen = (uint16_t)name.len;
    uint32_t vlen = (uint32_t)value.len;
    if (name.len > UINT16_MAX || value.len > RPC_MAX_HEADER_LIST)
        return;
    cs_buf_add(&call->md, &klen, sizeof klen);
    cs_buf_add(&call->md, &vlen, sizeof vlen);
    cs_buf_add_slice(&call->md, name);
    cs_buf_add_slice(&call->md, value);
}

static void keep_metadata(struct rpc_call *call, struct cs_slice name, struct cs_slice value)
{
    if (!rpc_key_is_bin(name)) {
        keep(call, name, value);
        return;
    }
    struct cs_buf raw CS_CLEANUP(cs_buf_free) = {0};
    struct cs_err e = {0};
    if (rpc_bin_decode(&raw, value, &e) == CS_OK) {
        keep(call, name, cs_buf_slice(&raw));
        return;
    }
    struct cs_buf q CS_CLEANUP(cs_buf_free) = {0};
    cs_quote(&q, (struct cs_slice){name.data, name.len > 64 ? 64 : name.len});
    (void)cs_fail(&call->head->err, CS_INTERNAL, "malformed binary metadata in header %s: %s",
                  cs_buf_cstr(&q), e.text);
}

static void take_path(struct rpc_call *call, struct cs_slice value)
{
    const struct rpc_route *r = cs_map_get(call->conn->ep->routes, value);
    if (r != NULL) {
        call->method = r->method;
        call->service = r->service;
    } else {
        cs_buf_add_slice(&call->head->path, value);
    }
}

static void copy_text(char *out, size_t cap, struct cs_slice v)
{
    size_t n = v.len < cap - 1 ? v.len : cap - 1;
    memcpy(out, v.data, n);
    out[n] = '\0';
}

bool rpc_head_add(struct rpc_call *call, struct cs_slice name, struct cs_slice value)
{
    struct rpc_head *h = call->head;
    call->header_bytes += name.len + value.len + 32; /* RFC 9113 section 6.5.2 */
    if (call->header_bytes > RPC_MAX_HEADER_LIST)
        return false;
    if (cs_slice_is(name, ":path")) {
        take_path(call, value);
    } else if (cs_slice_is(name, ":method")) {
        h->is_post = cs_slice_is(value, "POST");
    } else if (cs_slice_is(name, "content-type")) {
        h->is_grpc = rpc_content_type_ok(value);
        copy_text(h->content_type, sizeof h->content_type, value);
    } else if (cs_slice_is(name, "grpc-timeout")) {
        h->has_timeout = true;
        (void)!rpc_timeout_parse(value, &h->timeout, &h->err);
    } else if (cs_slice_is(name, "grpc-encoding")) {
        copy_text(call->encoding, sizeof call->encoding, value);
    } else if (!is_reserved(name)) {
        keep_metadata(call, name, value);
    }
    return true;
}

static bool refuse(struct rpc_call *call, uint16_t http, cs_code code, const char *text)
{
    call->http_status = http;
    call->method = NULL;
    atomic_store(&call->done, true);
    (void)rpc_call_set_status(call, code, text, NULL);
    return false;
}

/* "/pkg.Service/Method" that no row has: which half is unknown? */
static bool refuse_path(struct rpc_call *call)
{
    struct cs_slice path = cs_buf_slice(&call->head->path);
    struct cs_buf text CS_CLEANUP(cs_buf_free) = {0};
    const uint8_t *last = path.len > 0 ? memrchr(path.data, '/', path.len) : NULL;
    if (last == NULL || path.data[0] != '/' || last == path.data) {
        cs_buf_add_str(&text, "malformed method name: ");
        cs_quote(&text, path);
    } else {
        struct cs_slice service = {path.data + 1, (size_t)(last - path.data) - 1};
        struct cs_slice method = {last + 1, (size_t)(path.data + path.len - last) - 1};
        if (cs_map_get(call->conn->ep->names, service) == NULL) {
            cs_buf_add_str(&text, "unknown service ");
        } else {
            cs_buf_add_str(&text, "unknown method ");
            cs_buf_add_slice(&text, method);
            cs_buf_add_str(&text, " for service ");
        }
        cs_buf_add_slice(&text, service);
    }
    return refuse(call, 0, CS_UNIMPLEMENTED, cs_buf_cstr(&text));
}

static bool judge(struct rpc_call *call)
{
    struct rpc_head *h = call->head;
    if (!cs_buf_ok(&call->md) || !cs_buf_ok(&h->path))
        return refuse(call, 0, CS_EXHAUSTED, "no memory");
    if (!h->is_grpc) {
        struct cs_buf text CS_CLEANUP(cs_buf_free) = {0};
        cs_buf_add_str(&text, "invalid gRPC request content-type ");
        cs_quote(&text, cs_slice_str(h->content_type));
        return refuse(call, 415, CS_INVALID, cs_buf_cstr(&text));
    }
    if (h->err.code != CS_OK)
        return refuse(call, 400, h->err.code, h->err.text);
    if (!h->is_post)
        return refuse(call, 405, CS_INTERNAL, "Received a HEADERS frame with a :method which should be POST");
    if (h->has_timeout) {
        if (h->timeout <= 0)
            return refuse(call, 0, CS_DEADLINE, "context deadline exceeded");
        if (__builtin_add_overflow(rpc_timers_now(&call->conn->lane->timers), h->timeout, &call->deadline))
            call->deadline = INT64_MAX;
    }
    return call->method != NULL || refuse_path(call);
}

bool rpc_head_end(struct rpc_call *call)
{
    bool good = judge(call);
    cs_buf_free(&call->head->path);
    cs_free(call->head);
    call->head = NULL;
    return good;
}

/* The next entry; false: there is none. */
static bool next_metadata(struct cs_rd *r, struct cs_slice *key, struct cs_slice *value)
{
    uint16_t klen;
    uint32_t vlen;
    struct cs_slice raw;
    if (!cs_rd_bytes(r, sizeof klen, &raw))
        return false;
    memcpy(&klen, raw.data, sizeof klen);
    if (!cs_rd_bytes(r, sizeof vlen, &raw))
        return false;
    memcpy(&vlen, raw.data, sizeof vlen);
    return cs_rd_bytes(r, klen, key) && cs_rd_bytes(r, vlen, value);
}

struct cs_slice rpc_call_metadata(const struct rpc_call *call, const char *key)
{
    struct cs_rd r = cs_rd_of(cs_buf_slice(&call->md));
    struct cs_slice k, v;
    while (next_metadata(&r, &k, &v))
        if (cs_slice_is(k, key))
            return v;
    return cs_slice_of(NULL, 0);
}

size_t rpc_call_metadata_count(const struct rpc_call *call, const char *key)
{
    struct cs_rd r = cs_rd_of(cs_buf_slice(&call->md));
    struct cs_slice k, v;
    size_t n = 0;
    while (next_metadata(&r, &k, &v))
        n += cs_slice_is(k, key);
    return n;
}
