/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/modules/sconecas/session.h"

#include "base/coll.h"
#include "base/mem.h"
#include "crypto/hash.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#define DIGEST_LEN 32

/* What is known of one session. */
struct known {
    uint64_t place;                /* at which CAS, and with files in which folder: scone_cas.place */
    char hash[SCONE_HASH_MAX + 1]; /* of the last version that the CAS took from us; "": none */
    uint8_t accepted[DIGEST_LEN];  /* of what was in it, without its predecessor */
    bool has_accepted;
    bool unsaved; /* the hash is not on disk */
};

/* All under the lock. */
struct state {
    struct known known;
    bool busy; /* a post is under way, since: */
    int64_t since;
    unsigned waiting;   /* who waits for its end */
    struct cs_err last; /* of the last post; CS_OK: it was taken */
};

struct scone_sessions {
    struct scone_sessions_config cfg;
    struct crypto_stop stop;
    pthread_mutex_t lock;
    pthread_cond_t ended;  /* some post has */
    struct cs_map *states; /* session name -> struct state; one that is busy or waited for is never removed */
    unsigned running;
    pthread_t over[SCONE_POSTS_MAX]; /* threads whose posts have ended, to be joined */
    unsigned over_count;
    bool closing;
};

/* One call, which has the state to itself until a post is started. */
struct turn {
    struct state *state;
    struct known known; /* as it was when the turn began, or nothing, if that was elsewhere */
    uint8_t digest[DIGEST_LEN];
    bool started; /* a post, whose thread now has the state */
};

/* One post, which belongs to its thread. */
struct post {
    struct scone_sessions *s;
    struct scone_cas *cas;
    struct state *state;
    char *name;
    struct cs_buf session; /* with the predecessor we know */
    struct cs_buf anew;    /* with none; empty when that is what `session` is */
    struct cs_buf secret;
    uint8_t digest[DIGEST_LEN];
};

static void post_free(struct post *p)
{
    if (p == NULL)
        return;
    scone_cas_unref(p->cas);
    cs_free(p->name);
    cs_buf_wipe(&p->session);
    cs_buf_wipe(&p->anew);
    cs_buf_wipe(&p->secret);
    cs_free(p);
}
static inline void post_drop(struct post **p)
{
    post_free(*p);
    *p = NULL;
}

/* --- The CAS --- */

cs_code scone_cas_new(struct http_client *client, const char *base, const char *predecessor_dir,
                      struct scone_cas **out, struct cs_err *e)
{
    size_t n = strlen(base);
    *out = NULL;
    CS_AUTO(http_client) owned = client;
    struct scone_cas *c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    while (n > 0 && base[n - 1] == '/')
        n--;
    c->refs = 1;
    c->client = CS_MOVE(owned);
    c->url = cs_asprintf("%.*s/session", (int)n, base);
    c->predecessor_dir = cs_strdup(predecessor_dir);
    CS_CLEANUP(cs_freep) char *place = cs_asprintf("%s %s", base, predecessor_dir);
    if (c->url == NULL || c->predecessor_dir == NULL || place == NULL) {
        scone_cas_unref(c);
        return cs_nomem(e);
    }
    c->place = cs_hash(cs_slice_str(place));
    *out = c;
    return CS_OK;
}

struct scone_cas *scone_cas_ref(struct scone_cas *c)
{
    c->refs++;
    return c;
}

void scone_cas_unref(struct scone_cas *c)
{
    if (c == NULL || --c->refs > 0)
        return;
    http_client_free(c->client);
    cs_free(c->url);
    cs_free(c->predecessor_dir);
    cs_free(c);
}

/* --- The table --- */

static bool stop_asked(void *arg)
{
    struct scone_sessions *s = arg;
    pthread_mutex_lock(&s->lock);
    const bool closing = s->closing;
    pthread_mutex_unlock(&s->lock);
    return closing || (s->cfg.stop != NULL && s->cfg.stop->asked(s->cfg.stop->arg));
}

cs_code scone_sessions_new(const struct scone_sessions_config *cfg, struct scone_sessions **out,
                           struct cs_err *e)
{
    *out = NULL;
    struct scone_sessions *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->cfg = *cfg;
    if (s->cfg.patience_ns == 0)
        s->cfg.patience_ns = SCONE_PATIENCE_NS;
    if (s->cfg.post_ns == 0)
        s->cfg.post_ns = SCONE_POST_NS;
    s->stop = (struct crypto_stop){.asked = stop_asked, .arg = s};
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr); /* none of these can fail on Linux */
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->ended, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&s->lock, NULL);
    s->states = cs_map_new(cs_free);
    if (s->states == NULL) {
        scone_sessions_free(s);
        return cs_nomem(e);
    }
    *out = s;
    return CS_OK;
}

/* Lock held, which is the last thing that these threads asked for. They are not detached, since a thread that
 * still ends when the module or the program goes runs code that is gone, or leaves memory behind. */
static void join_ended(struct scone_sessions *s)
{
    while (s->over_count > 0)
        (void)pthread_join(s->over[--s->over_count], NULL);
}

void scone_sessions_free(struct scone_sessions *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    while (s->running > 0)
        (void)pthread_cond_wait(&s->ended, &s->lock);
    join_ended(s);
    pthread_mutex_unlock(&s->lock);
    cs_map_free(s->states);
    pthread_cond_destroy(&s->ended);
    pthread_mutex_destroy(&s->lock);
    cs_free(s);
}

/* A CAS that has lost one session may have lost them all. Lock held. */
static void distrust(struct scone_sessions *s)
{
    struct cs_slice key;
    void *value;
    for (size_t it = 0; cs_map_next(s->states, &it, &key, &value);)
        ((struct state *)value)->known.has_accepted = false;
}

void scone_sessions_release(struct scone_sessions *s, const char *name)
{
    pthread_mutex_lock(&s->lock);
    const struct state *st = cs_map_get_str(s->states, name);
    if (st != NULL && !st->busy && !st->known.unsaved && st->waiting == 0)
        (void)cs_map_del(s->states, cs_slice_str(name));
    pthread_mutex_unlock(&s->lock);
}

/* Lock held. */
static struct state *state_of(struct scone_sessions *s, const char *name)
{
    struct state *st = cs_map_get_str(s->states, name);
    if (st != NULL)
        return st;
    st = cs_calloc(1, sizeof *st);
    if (st != NULL && cs_map_put(s->states, cs_slice_str(name), st) != CS_OK) {
        cs_free(st);
        st = NULL;
    }
    return st;
}

/* --- A post --- */

/* Lock not held; the state is busy, so nobody else saves it. */
static cs_code save(struct scone_sessions *s, const struct scone_cas *cas, const char *name, struct state *st,
                    const char *hash, struct cs_err *e)
{
    struct cs_err fault;
    cs_code rc = scone_predecessor_write(cas->predecessor_dir, name, hash, &fault);
    pthread_mutex_lock(&s->lock);
    st->known.unsaved = rc != CS_OK;
    pthread_mutex_unlock(&s->lock);
    if (rc == CS_OK)
        return CS_OK;
    cs_log_error(&s->cfg.log, "cannot write predecessor for session", KV("session", name), KV_ERR(&fault));
    return cs_fail(e, rc, "cannot write predecessor for session: %s", fault.text);
}

/* The one state from which nothing but a person helps, so it says what to do. */
static void explain_conflict(const struct post *p)
{
    CS_CLEANUP(cs_freep) char *path = scone_predecessor_path(p->cas->predecessor_dir, p->name);
    cs_log_error(&p->s->cfg.log,
                 "The CAS has another version of the session than the last one known here. Write the hash of "
                 "that version to the file, or delete the session",
                 KV("session", p->name), KV("file", path));
}

static void taken(struct post *p, const struct scone_outcome *o)
{
    struct known now = {.place = p->cas->place, .has_accepted = true, .unsaved = true};
    memcpy(now.hash, o->hash, sizeof now.hash);
    memcpy(now.accepted, p->digest, DIGEST_LEN);
    pthread_mutex_lock(&p->s->lock);
    p->state->known = now;
    pthread_mutex_unlock(&p->s->lock);
    cs_log_info(&p->s->cfg.log, "Saving predecessor", KV("hash", o->hash), KV("session", p->name),
                KV("dir", p->cas->predecessor_dir));
}

static cs_code send(struct post *p, const struct cs_buf *session, struct scone_outcome *o, struct cs_err *e)
{
    return scone_cas_post(p->cas->client, p->cas->url, cs_buf_slice(session), cs_buf_slice(&p->secret),
                          p->s->cfg.post_ns, &p->s->stop, o, e);
}

/* The predecessor file stays until the CAS took the session anew: a 404 of something else that answers at the
 * CAS's address must not cost the only copy of a hash. */
static cs_code send_both(struct post *p, struct scone_outcome *o, struct cs_err *e)
{
    struct cs_err first;
    cs_code rc = send(p, &p->session, o, &first);
    if (rc == CS_OK)
        return rc;
    if (e != NULL)
        *e = first;
    if (o->answer != SCONE_NOT_FOUND || p->anew.len == 0)
        return rc;
    cs_log_warn(&p->s->cfg.log, "Predecessor may be not needed for session. Posting it without one",
                KV("session", p->name), KV_ERR(&first));
    rc = send(p, &p->anew, o, e);
    if (rc == CS_OK) {
        pthread_mutex_lock(&p->s->lock);
        distrust(p->s);
        pthread_mutex_unlock(&p->s->lock);
    }
    return rc;
}

static cs_code perform(struct post *p, struct cs_err *e)
{
    struct scone_outcome o;
    cs_log_info(&p->s->cfg.log, "Posting session", KV("session", p->name));
    cs_code rc = send_both(p, &o, e);
    if (rc == CS_OK) {
        taken(p, &o);
        return save(p->s, p->cas, p->name, p->state, o.hash, e);
    }
    if (o.answer != SCONE_CONFLICT)
        return rc;
    explain_conflict(p);
    (void)cs_wrap(e, "unknown predecessor hash needed for the session=%s Reconfigure your CAS", p->name);
    return rc;
}

static void *post_main(void *arg)
{
    struct post *p = arg;
    struct scone_sessions *s = p->s;
    struct cs_err e = {0};
    struct state *st = p->state;
    (void)pthread_setname_np(pthread_self(), "scone-post");
    if (perform(p, &e) == CS_OK)
        e = (struct cs_err){0};
    pthread_mutex_lock(&s->lock);
    if (e.code != CS_OK && st->waiting == 0) /* who waits says it */
        cs_log_error(&s->cfg.log, "cannot post session into CAS", KV("session", p->name), KV_ERR(&e));
    pthread_mutex_unlock(&s->lock);
    post_free(p);
    pthread_mutex_lock(&s->lock);
    st->last = e;
    st->busy = false;
    s->running--;
    s->over[s->over_count++] = pthread_self(); /* there is room: who starts one has joined those before */
    pthread_cond_broadcast(&s->ended);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static cs_code start(struct post *p, struct cs_err *e)
{
    pthread_t thread;
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the program's */
    const int rc = pthread_create(&thread, NULL, post_main, p);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? CS_OK : cs_fail_errno(e, CS_UNAVAILABLE, rc, "could not start a thread");
}

/* --- Making a post --- */

static cs_code digest_of(const struct scone_session *in, uint8_t digest[DIGEST_LEN], struct cs_err *e)
{
    struct scone_values v = in->values;
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    v.at[SCONE_PREDECESSOR] = (struct cs_slice){0};
    CS_TRY(scone_template_render(in->template, &v, &text, e));
    return crypto_digest(CRYPTO_SHA256, cs_buf_slice(&text), digest, e);
}

/* The file rules, as people mend it by hand; memory helps when it was lost. */
static void predecessor(struct scone_sessions *s, const struct scone_cas *cas, const char *name,
                        const struct known *known, char hash[SCONE_HASH_MAX + 1])
{
    struct cs_err fault;
    cs_code rc = known->unsaved ? CS_OK : scone_predecessor_read(cas->predecessor_dir, name, hash, &fault);
    if (rc == CS_OK && !known->unsaved)
        return;
    memcpy(hash, known->hash, sizeof known->hash);
    if (rc == CS_NOT_FOUND && hash[0] == '\0')
        cs_log_debug(&s->cfg.log, "No predecessor is known of the session", KV("session", name));
    else if (rc != CS_OK)
        cs_log_warn(&s->cfg.log, "cannot read predecessor for session", KV("session", name), KV_ERR(&fault));
}

static cs_code render(const struct scone_session *in, const char *before, struct cs_buf *out,
                      struct cs_err *e)
{
    struct scone_values v = in->values;
    v.at[SCONE_PREDECESSOR] = cs_slice_str(before);
    return scone_template_render(in->template, &v, out, e);
}

static cs_code post_new(struct scone_sessions *s, struct scone_cas *cas, const struct scone_session *in,
                        const struct turn *turn, struct post **out, struct cs_err *e)
{
    char hash[SCONE_HASH_MAX + 1];
    CS_AUTO(post) p = cs_calloc(1, sizeof *p);
    *out = NULL;
    if (p == NULL)
        return cs_nomem(e);
    p->s = s;
    p->state = turn->state;
    memcpy(p->digest, turn->digest, DIGEST_LEN);
    p->cas = scone_cas_ref(cas);
    p->name = cs_strdup(in->name);
    if (p->name == NULL || !cs_buf_reserve(&p->secret, in->secret.len + 1))
        return cs_nomem(e);
    cs_buf_add_slice(&p->secret, in->secret);
    predecessor(s, cas, in->name, &turn->known, hash);
    CS_TRY(render(in, hash[0] != '\0' ? hash : SCONE_NO_PREDECESSOR, &p->session, e));
    if (hash[0] != '\0')
        CS_TRY(render(in, SCONE_NO_PREDECESSOR, &p->anew, e));
    *out = CS_MOVE(p);
    return CS_OK;
}

/* --- Putting --- */

static struct timespec until(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / CS_NS_PER_S, .tv_nsec = ns % CS_NS_PER_S};
}

static bool is_accepted(const struct known *known, const uint8_t digest[DIGEST_LEN])
{
    return known->has_accepted && memcmp(known->accepted, digest, DIGEST_LEN) == 0;
}

/* Lock held. Waits for the post of the turn. */
static cs_code await_end(struct scone_sessions *s, const struct turn *turn, uint64_t place, struct cs_err *e)
{
    struct state *st = turn->state;
    const struct timespec end = until(st->since + s->cfg.patience_ns);
    st->waiting++;
    for (int rc = 0; st->busy && rc != ETIMEDOUT;)
        rc = pthread_cond_timedwait(&s->ended, &s->lock, &end);
    st->waiting--;
    if (st->busy)
        return cs_fail(e, CS_UNAVAILABLE, "no answer of the CAS yet");
    if (st->last.code != CS_OK)
        return cs_fail(e, CS_UNAVAILABLE, "%s", st->last.text);
    /* another caller may have written another version meanwhile */
    return st->known.place == place && is_accepted(&st->known, turn->digest)
               ? CS_OK
               : cs_fail(e, CS_UNAVAILABLE, "the session was written by another entry at the same time");
}

/* Lock held. Marks the state busy, so that it is the caller's. */
static cs_code acquire(struct scone_sessions *s, const char *name, struct state **out, struct cs_err *e)
{
    const int64_t end = cs_mono_ns(&cs_clock_system) + s->cfg.patience_ns;
    for (;;) {
        struct state *st = state_of(s, name);
        if (st == NULL)
            return cs_nomem(e);
        if (!st->busy && s->running < SCONE_POSTS_MAX) {
            join_ended(s);
            st->busy = true;
            st->since = cs_mono_ns(&cs_clock_system);
            s->running++;
            *out = st;
            return CS_OK;
        }
        /* who was slow once is not waited for again */
        const int64_t patience = st->busy ? st->since + s->cfg.patience_ns : end;
        const int64_t wake = patience < end ? patience : end;
        if (cs_mono_ns(&cs_clock_system) >= wake)
            return st->busy ? cs_fail(e, CS_UNAVAILABLE,
                                      "an earlier post of the session %s has no answer yet", name)
                            : cs_fail(e, CS_UNAVAILABLE, "%d sessions wait for an answer of the CAS",
                                      SCONE_POSTS_MAX);
        const struct timespec ts = until(wake);
        (void)pthread_cond_timedwait(&s->ended, &s->lock, &ts);
    }
}

/* Lock held. */
static void give_back(struct scone_sessions *s, struct state *st)
{
    st->busy = false;
    s->running--;
    pthread_cond_broadcast(&s->ended);
}

/* Lock not held, the state is ours. */
static cs_code put_held(struct scone_sessions *s, struct scone_cas *cas, const struct scone_session *in,
                        struct turn *turn, struct cs_err *e)
{
    CS_AUTO(post) p = NULL;
    CS_TRY(digest_of(in, turn->digest, e));
    if (is_accepted(&turn->known, turn->digest))
        return turn->known.unsaved ? save(s, cas, in->name, turn->state, turn->known.hash, e) : CS_OK;
    CS_TRY(post_new(s, cas, in, turn, &p, e));
    CS_TRY(start(p, e));
    (void)CS_MOVE(p);
    turn->started = true;
    return CS_OK;
}

cs_code scone_sessions_put(struct scone_sessions *s, struct scone_cas *cas, const struct scone_session *in,
                           struct cs_err *e)
{
    struct turn turn = {.known = {.place = cas->place}};
    pthread_mutex_lock(&s->lock);
    cs_code rc = acquire(s, in->name, &turn.state, e);
    if (rc == CS_OK && turn.state->known.place == cas->place)
        turn.known = turn.state->known;
    pthread_mutex_unlock(&s->lock);
    if (rc != CS_OK)
        return rc;
    rc = put_held(s, cas, in, &turn, e);
    pthread_mutex_lock(&s->lock);
    if (turn.started)
        rc = await_end(s, &turn, cas->place, e);
    else
        give_back(s, turn.state);
    pthread_mutex_unlock(&s->lock);
    return rc;
}
