/* SPDX-License-Identifier: Apache-2.0
 *
 * A bounded memory of digests, for what was verified and what was used: a set-associative table in which a
 * full set forgets what was not asked for longest. Any thread.
 */
#ifndef CS_PLUGINS_NITRO_MEMORY_H
#define CS_PLUGINS_NITRO_MEMORY_H

#include "base/buf.h"

struct nitro_digest {
    uint8_t sha256[32];
};
struct nitro_memory;

/* Room for about max_entries, 80 bytes each, taken at once. NULL when memory is out. */
struct nitro_memory *nitro_memory_new(size_t max_entries);
void nitro_memory_free(struct nitro_memory *m); /* NULL is fine */
static inline void nitro_memory_drop(struct nitro_memory **m)
{
    nitro_memory_free(*m);
    *m = NULL;
}
/* Is `key` there, and until later than `now`? */
bool nitro_memory_has(struct nitro_memory *m, const struct nitro_digest *key, int64_t now);
/* Remember that `key` belongs to `owner` until `expires`, in the caller's unit of time. False, with nothing
 * changed, when it belongs to another until later than `now`. */
bool nitro_memory_claim(struct nitro_memory *m, const struct nitro_digest *key,
                        const struct nitro_digest *owner, int64_t now, int64_t expires);

#endif
