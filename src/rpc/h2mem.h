/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of the HTTP/2 sessions of one thread. nghttp2 gives each session a buffer of 16 KiB to put
 * the frame in that goes out next: more than all the rest of an idle connection. It holds nothing
 * between two calls of nghttp2_session_mem_send once what those returned was copied, so all server
 * sessions of a thread share one. (A client's holds the preface from the start, and clients are few.)
 *
 * That rests on nghttp2's inside, therefore:
 *   - only an allocation of exactly that size, made while a server session is created, and only the first,
 *     gets the shared buffer. Another nghttp2 that asks for another size just shares nothing.
 *   - what nghttp2_session_mem_send returns is copied before anything else is done with any session.
 *   - builds with assertions overwrite the buffer whenever nothing may be in it, so that every test
 *     over a connection would see it used; tests/unit/rpc/h2mem_test.c holds it for all builds.
 *
 * Everything else goes through cs_malloc and friends. One thread at a time.
 */
#ifndef CS_RPC_H2MEM_H
#define CS_RPC_H2MEM_H

#include "base/err.h"

#include <nghttp2/nghttp2.h>

/* Frame header, room for padding's length, and the largest payload nghttp2 sends by itself. */
#define RPC_H2_FRAME_BUFFER (9u + 1u + 16384u)

struct rpc_h2mem {
    uint8_t *frame; /* RPC_H2_FRAME_BUFFER bytes, shared */
    bool offer;     /* a session is being created and may take `frame` */
    bool taken;     /* the last one created did */
    bool sending;   /* a session's frame may be in it */
};
CS_CHECKED cs_code rpc_h2mem_init(struct rpc_h2mem *m, struct cs_err *e);
/* After the last of its sessions was deleted. */
void rpc_h2mem_free(struct rpc_h2mem *m);

/* nghttp2_session_server_new3 or nghttp2_session_client_new3 with this memory; m must not move. Their
 * return value: 0, or NGHTTP2_ERR_NOMEM. */
int rpc_h2mem_session(struct rpc_h2mem *m, bool server, const nghttp2_session_callbacks *callbacks,
                      void *user_data, const nghttp2_option *option, nghttp2_session **out);

/* Around calls of nghttp2_session_mem_send, for one session at a time. */
void rpc_h2mem_send_begin(struct rpc_h2mem *m);
void rpc_h2mem_send_end(struct rpc_h2mem *m);
/* Overwrites the shared buffer. For tests; send_end does it in builds with assertions. */
void rpc_h2mem_poison(struct rpc_h2mem *m);

#endif
