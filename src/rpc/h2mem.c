/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/h2mem.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

static void *take_shared(struct rpc_h2mem *m, size_t n)
{
    if (!m->offer || n != RPC_H2_FRAME_BUFFER)
        return NULL;
    m->offer = false;
    m->taken = true;
    return m->frame;
}

static void *on_malloc(size_t n, void *arg)
{
    void *p = take_shared(arg, n);
    return p != NULL ? p : cs_malloc(n);
}

static void on_free(void *p, void *arg)
{
    const struct rpc_h2mem *m = arg;
    if (p != m->frame)
        cs_free(p);
}

static void *on_calloc(size_t count, size_t size, void *arg)
{
    (void)arg;
    return cs_calloc(count, size);
}

static void *on_realloc(void *p, size_t n, void *arg)
{
    struct rpc_h2mem *m = arg;
    if (p == NULL)
        return on_malloc(n, arg);
    if (p != m->frame)
        return cs_realloc(p, n);
    /* it grows beyond what is shared: an own one from here on */
    void *own = cs_malloc(n);
    if (own != NULL)
        memcpy(own, m->frame, n < RPC_H2_FRAME_BUFFER ? n : RPC_H2_FRAME_BUFFER);
    return own;
}

cs_code rpc_h2mem_init(struct rpc_h2mem *m, struct cs_err *e)
{
    *m = (struct rpc_h2mem){.frame = cs_malloc(RPC_H2_FRAME_BUFFER)};
    return m->frame != NULL ? CS_OK : cs_nomem(e);
}

void rpc_h2mem_free(struct rpc_h2mem *m)
{
    cs_free(m->frame);
    *m = (struct rpc_h2mem){0};
}

int rpc_h2mem_session(struct rpc_h2mem *m, bool server, const nghttp2_session_callbacks *callbacks,
                      void *user_data, const nghttp2_option *option, nghttp2_session **out)
{
    nghttp2_mem mem = {m, on_malloc, on_free, on_calloc, on_realloc};
    *out = NULL;
    m->offer = server; /* a client's preface waits in the buffer from the start */
    m->taken = false;
    int r = server ? nghttp2_session_server_new3(out, callbacks, user_data, option, &mem)
                   : nghttp2_session_client_new3(out, callbacks, user_data, option, &mem);
    m->offer = false;
    if (r != 0)
        *out = NULL;
    return r;
}

void rpc_h2mem_poison(struct rpc_h2mem *m)
{
    memset(m->frame, 0xa5, RPC_H2_FRAME_BUFFER);
}

void rpc_h2mem_send_begin(struct rpc_h2mem *m)
{
    assert(!m->sending);
    m->sending = true;
}

void rpc_h2mem_send_end(struct rpc_h2mem *m)
{
    m->sending = false;
#ifndef NDEBUG
    rpc_h2mem_poison(m);
#endif
}
