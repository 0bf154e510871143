/* SPDX-License-Identifier: Apache-2.0
 *
 * Local keys by id: what the disk and the memory KeyManager share. Like SPIRE's keymanager base: a
 * new key counts only once it is stored.
 */
#ifndef CS_PLUGINS_KEYMANAGER_KEYS_H
#define CS_PLUGINS_KEYMANAGER_KEYS_H

#include "plugin/keymanager.h"

#include <pthread.h>

struct keymanager_entry {
    char *id;
    struct crypto_signer *signer;
};
/* A set of keys, in the order of ids. Immutable once it is the current one. */
struct keymanager_set {
    struct keymanager_entry *at;
    size_t len;
};
void keymanager_set_free(struct keymanager_set *s);
/* Adds or replaces; takes a reference to signer. */
CS_CHECKED cs_code keymanager_set_put(struct keymanager_set *s, const char *id, struct crypto_signer *signer,
                                      struct cs_err *e);

/* The first member of each plugin built on it, so that keymanager_keys_ops work on its `self`. */
struct keymanager_keys {
    pthread_mutex_t lock;
    struct keymanager_set set;
    const struct crypto_stop *stop; /* borrowed; may be NULL */
    /* Make `next` durable; NULL: nothing to do. Called with the lock held. */
    cs_code (*store)(struct keymanager_keys *k, const struct keymanager_set *next, struct cs_err *e);
};
CS_CHECKED cs_code keymanager_keys_init(struct keymanager_keys *k, const struct plugin_env *env,
                                        struct cs_err *e);
void keymanager_keys_release(struct keymanager_keys *k);

extern const struct keymanager_ops keymanager_keys_ops;

#endif
