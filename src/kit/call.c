/* SPDX-License-Identifier: Apache-2.0
 *
 * A call: its memory, its failure, its answers.
 */
#include "kit/kit.h"

#include "base/clock.h"
#include "base/text.h"
#include "crypto/hash.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

cs_code kit_call_init(struct cspire_call *c, struct cspire_env *env, struct rpc_call *rpc,
                      struct cs_arena *arena, unsigned answers, struct cs_err *e)
{
    *c = (struct cspire_call){.env = env, .rpc = rpc, .arena = arena, .answers = answers};
    if (arena == NULL) {
        c->arena = cs_arena_new(0, 0);
        c->own_arena = true;
    }
    return c->arena != NULL ? CS_OK : cs_nomem(e);
}

void kit_call_end(struct cspire_call *c)
{
    for (size_t i = 0; i < c->secrets.count; i++) {
        const struct cs_slice *s = c->secrets.at[i];
        cs_wipe((void *)s->data, s->len);
    }
    if (c->own_arena)
        cs_arena_free(c->arena);
}

bool kit_call_secret(struct cspire_call *c, const void *p, size_t len)
{
    struct cs_slice s = cs_slice_of(p, len);
    void *row = cs_arena_memdup(c->arena, &s, sizeof s);
    return row != NULL && kit_list_add(c, &c->secrets, row);
}

bool kit_list_add(struct cspire_call *c, struct kit_list *l, void *p)
{
    if (l->count == l->cap) {
        size_t cap = l->cap > 0 ? 2 * l->cap : 8;
        void **at = cs_arena_alloc(c->arena, cap * sizeof *at);
        if (at == NULL)
            return false;
        if (l->count > 0)
            memcpy(at, l->at, l->count * sizeof *at);
        l->at = at;
        l->cap = cap;
    }
    l->at[l->count++] = p;
    return true;
}

bool kit_copy(struct cspire_call *c, struct cspire_bytes b, struct cs_slice *out)
{
    *out = (struct cs_slice){0};
    if (b.len == 0)
        return true;
    *out = cs_slice_of(cs_arena_memdup(c->arena, b.data, b.len), b.len);
    return out->data != NULL;
}

/* --- Failing --- */

enum cspire_code cspire_fail(struct cspire_call *c, enum cspire_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(c->err.text, sizeof c->err.text, fmt, ap);
    va_end(ap);
    c->err.code = (cs_code)code;
    return code;
}

const char *cspire_call_error(const struct cspire_call *c)
{
    return c->err.text;
}

enum cspire_code kit_pass(struct cspire_call *c, cs_code code, const struct cs_err *e)
{
    return code == CS_OK ? CSPIRE_OK : cspire_fail(c, (enum cspire_code)code, "%s", e->text);
}

enum cspire_code kit_nomem(struct cspire_call *c)
{
    return cspire_fail(c, CSPIRE_INTERNAL, "no memory");
}

cs_code kit_verdict(const struct cspire_call *c, enum cspire_code code, struct cs_err *e)
{
    int n = (int)code;
    if (n == CSPIRE_OK)
        return CS_OK;
    if (n < 0 || n > CSPIRE_UNAUTHENTICATED)
        n = CSPIRE_UNKNOWN;
    const char *text = c->err.text[0] != '\0' ? c->err.text : "the plugin gives no reason";
    return cs_fail(e, (cs_code)n, "%s", text);
}

cs_code kit_missing(struct cs_err *e)
{
    return cs_fail(e, CS_UNIMPLEMENTED, "the plugin does not implement this operation");
}

/* --- What a plugin can ask of its call --- */

struct cspire_env *cspire_call_env(const struct cspire_call *c)
{
    return c->env;
}

bool cspire_cancelled(const struct cspire_call *c)
{
    return atomic_load(&c->env->stopping) || (c->rpc != NULL && rpc_call_done(c->rpc));
}

int64_t cspire_time_left(const struct cspire_call *c)
{
    int64_t deadline = c->rpc != NULL ? rpc_call_deadline(c->rpc) : INT64_MAX;
    if (deadline == INT64_MAX)
        return INT64_MAX;
    int64_t left = deadline - cs_mono_ns(&cs_clock_system);
    return left > 0 ? left : 0;
}

void *cspire_alloc(struct cspire_call *c, size_t n)
{
    return cs_arena_zalloc(c->arena, n > 0 ? n : 1);
}

CS_PRINTF(2, 0) static char *print(struct cspire_call *c, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    char *s = n >= 0 ? cs_arena_alloc(c->arena, (size_t)n + 1) : NULL;
    if (s != NULL)
        (void)vsnprintf(s, (size_t)n + 1, fmt, ap);
    return s;
}

char *cspire_text(struct cspire_call *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = print(c, fmt, ap);
    va_end(ap);
    return s;
}

enum cspire_code cspire_texts_add(struct cspire_call *c, struct cspire_texts *texts, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *s = print(c, fmt, ap);
    va_end(ap);
    const char **at = cs_arena_alloc(c->arena, (texts->count + 1) * sizeof *at);
    if (s == NULL || at == NULL)
        return kit_nomem(c);
    for (size_t i = 0; i < texts->count; i++)
        at[i] = texts->at[i];
    at[texts->count] = s;
    *texts = (struct cspire_texts){.at = at, .count = texts->count + 1};
    return CSPIRE_OK;
}

struct cspire_call *cspire_call_new(struct cspire_env *env)
{
    struct cspire_call *c = cs_malloc(sizeof *c);
    if (c != NULL && kit_call_init(c, env, NULL, NULL, 0, NULL) != CS_OK) {
        cs_free(c);
        c = NULL;
    }
    return c;
}

void cspire_call_free(struct cspire_call *c)
{
    if (c == NULL)
        return;
    kit_call_end(c);
    cs_free(c);
}

/* --- Answers --- */

enum cspire_code kit_answer_check(struct cspire_call *c, enum kit_answer a, const char *what)
{
    if (!(c->answers & (unsigned)a))
        return cspire_fail(c, CSPIRE_FAILED_PRECONDITION, "%s is no answer to this operation", what);
    c->given |= (unsigned)a;
    return CSPIRE_OK;
}

/* Text of protobuf messages is UTF-8, or the host refuses the whole message. */
static enum cspire_code check_text(struct cspire_call *c, const char *what, const char *s)
{
    if (!cs_utf8_valid(cs_slice_str(s)))
        return cspire_fail(c, CSPIRE_INVALID_ARGUMENT, "%s is not valid UTF-8", what);
    return CSPIRE_OK;
}

CS_PRINTF(4, 0)
static enum cspire_code add_text(struct cspire_call *c, enum kit_answer a, const char *what, const char *fmt,
                                 va_list ap)
{
    enum cspire_code code = kit_answer_check(c, a, what);
    if (code != CSPIRE_OK)
        return code;
    char *s = print(c, fmt, ap);
    if (s == NULL)
        return kit_nomem(c);
    code = check_text(c, what, s);
    if (code == CSPIRE_OK && !kit_list_add(c, &c->texts, s))
        return kit_nomem(c);
    return code;
}

enum cspire_code cspire_reply_note(struct cspire_call *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    enum cspire_code code = add_text(c, KIT_NOTE, "a note", fmt, ap);
    va_end(ap);
    return code;
}

enum cspire_code cspire_reply_selector(struct cspire_call *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    enum cspire_code code = add_text(c, KIT_SELECTOR, "a selector", fmt, ap);
    va_end(ap);
    return code;
}

/* SPIRE takes any text for a fingerprint; ours is the SHA-256 of the key in hexadecimal. */
const char *kit_fingerprint(struct cspire_call *c, struct cs_slice pkix)
{
    uint8_t sum[32];
    if (crypto_digest(CRYPTO_SHA256, pkix, sum, NULL) != CS_OK)
        return NULL;
    struct cs_buf hex CS_CLEANUP(cs_buf_free) = {0};
    cs_hex_encode(&hex, cs_slice_of(sum, sizeof sum));
    return cs_arena_strndup(c->arena, cs_buf_cstr(&hex), 2 * sizeof sum);
}

enum cspire_code cspire_reply_key(struct cspire_call *c, const char *id, enum cspire_key_type type,
                                  struct cspire_bytes pkix)
{
    enum cspire_code code = kit_answer_check(c, KIT_KEY, "a key");
    if (code != CSPIRE_OK)
        return code;
    code = check_text(c, "the key's id", id);
    if (code != CSPIRE_OK)
        return code;
    struct kit_key *k = cs_arena_zalloc(c->arena, sizeof *k);
    if (k == NULL || !kit_copy(c, pkix, &k->pkix))
        return kit_nomem(c);
    k->id = cs_arena_strdup(c->arena, id);
    k->fingerprint = kit_fingerprint(c, k->pkix);
    k->type = (int)type;
    return k->id != NULL && k->fingerprint != NULL && kit_list_add(c, &c->keys, k) ? CSPIRE_OK : kit_nomem(c);
}

static enum cspire_code set_bytes(struct cspire_call *c, enum kit_answer a, const char *what,
                                  struct cspire_bytes b)
{
    enum cspire_code code = kit_answer_check(c, a, what);
    if (code == CSPIRE_OK && !kit_copy(c, b, &c->bytes))
        return kit_nomem(c);
    return code;
}

enum cspire_code cspire_reply_signature(struct cspire_call *c, struct cspire_bytes signature,
                                        struct cspire_bytes pkix)
{
    enum cspire_code code = set_bytes(c, KIT_SIGNATURE, "a signature", signature);
    if (code != CSPIRE_OK)
        return code;
    c->text = kit_fingerprint(c, cs_slice_of(pkix.data, pkix.len));
    return c->text != NULL ? CSPIRE_OK : kit_nomem(c);
}

enum cspire_code cspire_reply_challenge(struct cspire_call *c, struct cspire_bytes challenge)
{
    return set_bytes(c, KIT_CHALLENGE, "a challenge", challenge);
}

enum cspire_code cspire_reply_payload(struct cspire_call *c, struct cspire_bytes payload)
{
    return set_bytes(c, KIT_PAYLOAD, "a payload", payload);
}

static enum cspire_code set_text(struct cspire_call *c, enum kit_answer a, const char *what, const char *s)
{
    enum cspire_code code = kit_answer_check(c, a, what);
    if (code == CSPIRE_OK)
        code = check_text(c, what, s);
    if (code != CSPIRE_OK)
        return code;
    c->text = cs_arena_strdup(c->arena, s);
    return c->text != NULL ? CSPIRE_OK : kit_nomem(c);
}

enum cspire_code cspire_reply_agent(struct cspire_call *c, const char *agent_id, bool can_reattest)
{
    c->can_reattest = can_reattest;
    return set_text(c, KIT_AGENT, "an agent's ID", agent_id);
}

enum cspire_code cspire_reply_claims(struct cspire_call *c, const char *claims)
{
    return set_text(c, KIT_CLAIMS, "a set of claims", claims);
}

enum cspire_code cspire_reply_certificate(struct cspire_call *c, struct cspire_bytes der)
{
    enum cspire_code code = kit_answer_check(c, KIT_CERTIFICATE, "a certificate");
    if (code != CSPIRE_OK)
        return code;
    struct cs_slice *s = cs_arena_zalloc(c->arena, sizeof *s);
    return s != NULL && kit_copy(c, der, s) && kit_list_add(c, &c->certificates, s) ? CSPIRE_OK
                                                                                    : kit_nomem(c);
}

enum cspire_code cspire_reply_authority(struct cspire_call *c, const struct cspire_authority *authority)
{
    enum cspire_code code = kit_answer_check(c, KIT_AUTHORITY, "an authority");
    if (code != CSPIRE_OK)
        return code;
    struct cspire_authority *copy = cs_arena_memdup(c->arena, authority, sizeof *authority);
    struct cs_slice der;
    if (copy == NULL || !kit_copy(c, authority->der, &der) || !kit_list_add(c, &c->authorities, copy))
        return kit_nomem(c);
    copy->der = kit_bytes(der.data, der.len);
    return CSPIRE_OK;
}

enum cspire_code cspire_reply_jwt_key(struct cspire_call *c, const struct cspire_jwt_key *key)
{
    enum cspire_code code = kit_answer_check(c, KIT_JWT_KEY, "a JWT key");
    if (code == CSPIRE_OK)
        code = check_text(c, "the key's id", key->key_id != NULL ? key->key_id : "");
    if (code != CSPIRE_OK)
        return code;
    struct cspire_jwt_key *copy = cs_arena_memdup(c->arena, key, sizeof *key);
    struct cs_slice pkix;
    if (copy == NULL || !kit_copy(c, key->pkix, &pkix) || !kit_list_add(c, &c->jwt_keys, copy))
        return kit_nomem(c);
    copy->pkix = kit_bytes(pkix.data, pkix.len);
    copy->key_id = cs_arena_strdup(c->arena, key->key_id != NULL ? key->key_id : "");
    return copy->key_id != NULL ? CSPIRE_OK : kit_nomem(c);
}
