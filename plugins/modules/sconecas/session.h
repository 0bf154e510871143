/* SPDX-License-Identifier: Apache-2.0
 *
 * The sessions of a CAS as far as we wrote them: which version was last, what was in it, and posts under way.
 *
 * A post has a thread of its own and is never given up for being slow, since a CAS that takes a session and
 * cannot tell its hash leaves a session that cannot be written any more. Who asked for it waits
 * SCONE_PATIENCE_NS, and finds it done, or still under way, when it asks again. So a session that hangs holds
 * up nobody else. At most SCONE_POSTS_MAX posts are under way.
 */
#ifndef CS_MODULES_SCONECAS_SESSION_H
#define CS_MODULES_SCONECAS_SESSION_H

#include "base/clock.h"
#include "base/log.h"
#include "plugins/modules/sconecas/cas.h"
#include "plugins/modules/sconecas/template.h"

#define SCONE_PATIENCE_NS (5 * CS_NS_PER_S)
#define SCONE_POST_NS (60 * CS_NS_PER_S)
#define SCONE_POSTS_MAX 16

/* A CAS and how it is reached. Immutable; counted references, since posts outlive a reconfiguration. */
struct scone_cas {
    _Atomic unsigned refs;
    struct http_client *client;
    char *url; /* of sessions */
    char *predecessor_dir;
    uint64_t place; /* of URL and folder; sessions of others are other sessions */
};
/* Takes `client`, also when it fails. `base` is the URL without /session. */
CS_CHECKED cs_code scone_cas_new(struct http_client *client, const char *base, const char *predecessor_dir,
                                 struct scone_cas **out, struct cs_err *e);
struct scone_cas *scone_cas_ref(struct scone_cas *c);
void scone_cas_unref(struct scone_cas *c); /* NULL is fine */
static inline void scone_cas_drop(struct scone_cas **c)
{
    scone_cas_unref(*c);
    *c = NULL;
}

struct scone_sessions;
struct scone_sessions_config {
    struct cs_log log;
    const struct crypto_stop *stop; /* may be NULL */
    int64_t patience_ns, post_ns;   /* 0: as above */
};
CS_CHECKED cs_code scone_sessions_new(const struct scone_sessions_config *cfg, struct scone_sessions **out,
                                      struct cs_err *e);
/* Breaks off posts under way and waits for their threads, a second or so. */
void scone_sessions_free(struct scone_sessions *s); /* NULL is fine */
static inline void scone_sessions_drop(struct scone_sessions **s)
{
    scone_sessions_free(*s);
    *s = NULL;
}
/* A session that will not be written for some time: what the file has need not be in memory. */
void scone_sessions_release(struct scone_sessions *s, const char *name);

/* A session to be written. All borrowed, for the call. */
struct scone_session {
    const struct scone_template *template;
    const char *name;           /* as scone_name_check wants it */
    struct scone_values values; /* without predecessor */
    struct cs_slice secret;     /* what must not be shown of it; may be empty */
};
/* Writes the session, unless the CAS took the same one before. CS_OK: it has it, and its hash is on disk.
 * CS_UNAVAILABLE and others: not yet, or not known; ask again later. Any thread; one post for each session
 * at a time. */
CS_CHECKED cs_code scone_sessions_put(struct scone_sessions *s, struct scone_cas *cas,
                                      const struct scone_session *session, struct cs_err *e);

#endif
