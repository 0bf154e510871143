/* SPDX-License-Identifier: Apache-2.0
 *
 * JWT-SVIDs that may be handed out again, by SPIFFE ID and set of audiences; the least recently used goes
 * when there are too many. Any thread; one lock.
 */
#ifndef CS_AGENT_JWTCACHE_H
#define CS_AGENT_JWTCACHE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

#define AGENT_JWT_CACHE_DEFAULT 1000

/* Immutable, reference counted. */
struct agent_jwt {
    const char *token;
    const char *kid;               /* of the token's header; "" when it cannot be read */
    int64_t issued_at, expires_at; /* unix seconds */
    int64_t renew_at;              /* wall ns: half of its life, with jitter */
};
CS_CHECKED cs_code agent_jwt_new(const char *token, int64_t issued_at, int64_t expires_at,
                                 struct agent_jwt **out, struct cs_err *e);
struct agent_jwt *agent_jwt_ref(const struct agent_jwt *j);
void agent_jwt_unref(const struct agent_jwt *j); /* NULL is fine */
static inline void agent_jwt_drop(struct agent_jwt **j)
{
    agent_jwt_unref(*j);
    *j = NULL;
}

struct agent_jwt_cache;
/* max 0: AGENT_JWT_CACHE_DEFAULT. */
CS_CHECKED cs_code agent_jwt_cache_new(int64_t max, struct agent_jwt_cache **out, struct cs_err *e);
void agent_jwt_cache_free(struct agent_jwt_cache *c); /* NULL is fine */
static inline void agent_jwt_cache_drop(struct agent_jwt_cache **c)
{
    agent_jwt_cache_free(*c);
    *c = NULL;
}
/* A reference; NULL: none. The order of the audiences does not matter. */
struct agent_jwt *agent_jwt_cache_get(struct agent_jwt_cache *c, const char *spiffe_id,
                                      const char *const *audience, size_t count);
/* Without memory the token is just not kept. */
void agent_jwt_cache_put(struct agent_jwt_cache *c, const char *spiffe_id, const char *const *audience,
                         size_t count, const struct agent_jwt *jwt);
/* Drops each token whose key is not good any more; returns how many. `good` is called with the lock held. */
size_t agent_jwt_cache_sweep(struct agent_jwt_cache *c, bool (*good)(void *arg, const char *kid), void *arg);
size_t agent_jwt_cache_count(struct agent_jwt_cache *c);

#endif
