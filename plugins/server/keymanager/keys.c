/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/server/keymanager/keys.h"

#include "base/mem.h"

/* --- Sets --- */

void keymanager_set_free(struct keymanager_set *s)
{
    for (size_t i = 0; i < s->len; i++) {
        cs_free(s->at[i].id);
        crypto_signer_unref(s->at[i].signer);
    }
    cs_free(s->at);
    *s = (struct keymanager_set){0};
}

/* Where id is or belongs. */
static size_t position(const struct keymanager_set *s, const char *id, bool *found)
{
    size_t i = 0;
    int order = 1;
    while (i < s->len && (order = strcmp(s->at[i].id, id)) < 0)
        i++;
    *found = i < s->len && order == 0;
    return i;
}

cs_code keymanager_set_put(struct keymanager_set *s, const char *id, struct crypto_signer *signer,
                           struct cs_err *e)
{
    bool found;
    size_t at = position(s, id, &found);
    if (found) {
        crypto_signer_unref(s->at[at].signer);
        s->at[at].signer = crypto_signer_ref(signer);
        return CS_OK;
    }
    struct keymanager_entry *grown = cs_realloc(s->at, (s->len + 1) * sizeof *grown);
    if (grown == NULL)
        return cs_nomem(e);
    s->at = grown;
    char *copy = cs_strdup(id);
    if (copy == NULL)
        return cs_nomem(e);
    memmove(grown + at + 1, grown + at, (s->len - at) * sizeof *grown);
    grown[at] = (struct keymanager_entry){.id = copy, .signer = crypto_signer_ref(signer)};
    s->len++;
    return CS_OK;
}

static cs_code copy_set(const struct keymanager_set *from, struct keymanager_set *to, struct cs_err *e)
{
    for (size_t i = 0; i < from->len; i++)
        CS_TRY(keymanager_set_put(to, from->at[i].id, from->at[i].signer, e));
    return CS_OK;
}

/* --- Life --- */

cs_code keymanager_keys_init(struct keymanager_keys *k, const struct plugin_env *env, struct cs_err *e)
{
    k->stop = env->stop;
    int rc = pthread_mutex_init(&k->lock, NULL);
    return rc == 0 ? CS_OK : cs_fail_errno(e, CS_INTERNAL, rc, "key manager lock");
}

void keymanager_keys_release(struct keymanager_keys *k)
{
    keymanager_set_free(&k->set);
    pthread_mutex_destroy(&k->lock);
}

/* --- Operations --- */

/* The set with one key put in, stored and made current; all or nothing. Lock held. */
static cs_code replace(struct keymanager_keys *k, const char *id, struct crypto_signer *signer,
                       struct cs_err *e)
{
    CS_CLEANUP(keymanager_set_free) struct keymanager_set next = {0};
    CS_TRY(copy_set(&k->set, &next, e));
    CS_TRY(keymanager_set_put(&next, id, signer, e));
    if (k->store != NULL)
        CS_TRY(k->store(k, &next, e));
    struct keymanager_set old = k->set;
    k->set = next;
    next = old;
    return CS_OK;
}

static cs_code make_signer(const struct keymanager_keys *k, const char *id, enum crypto_key_type type,
                           struct crypto_signer **out, struct cs_err *e)
{
    if (id == NULL || id[0] == '\0')
        return cs_fail(e, CS_INVALID, "key id is required");
    CS_AUTO(crypto_key) key = NULL;
    CS_TRY(crypto_key_generate_until(type, k->stop, &key, e));
    return crypto_signer_of_key(key, out, e);
}

static cs_code generate_key(void *self, const char *id, enum crypto_key_type type, struct crypto_signer **out,
                            struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    struct keymanager_keys *k = self;
    *out = NULL;
    CS_AUTO(crypto_signer) signer = NULL;
    cs_code rc = make_signer(k, id, type, &signer, e);
    if (rc == CS_OK) {
        pthread_mutex_lock(&k->lock);
        rc = replace(k, id, signer, e);
        pthread_mutex_unlock(&k->lock);
    }
    if (rc != CS_OK)
        return cs_wrap(e, "failed to generate key");
    *out = CS_MOVE(signer);
    return CS_OK;
}

static cs_code get_key(void *self, const char *id, struct crypto_signer **out, struct cs_err *e)
{
    struct keymanager_keys *k = self;
    *out = NULL;
    pthread_mutex_lock(&k->lock);
    bool found;
    size_t at = position(&k->set, id, &found);
    if (found)
        *out = crypto_signer_ref(k->set.at[at].signer);
    pthread_mutex_unlock(&k->lock);
    return found ? CS_OK : cs_fail(e, CS_NOT_FOUND, "key \"%s\" not found", id);
}

static cs_code each_key(void *self,
                        cs_code (*each)(void *arg, const char *id, struct crypto_signer *key,
                                        struct cs_err *e),
                        void *arg, struct cs_err *e)
{
    struct keymanager_keys *k = self;
    CS_CLEANUP(keymanager_set_free) struct keymanager_set now = {0};
    pthread_mutex_lock(&k->lock);
    cs_code rc = copy_set(&k->set, &now, e);
    pthread_mutex_unlock(&k->lock);
    for (size_t i = 0; rc == CS_OK && i < now.len; i++)
        rc = each(arg, now.at[i].id, now.at[i].signer, e);
    return rc;
}

const struct keymanager_ops keymanager_keys_ops = {
    .generate_key = generate_key,
    .get_key = get_key,
    .each_key = each_key,
};
