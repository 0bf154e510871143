/* SPDX-License-Identifier: Apache-2.0
 *
 * Credentials for as long as they last, then others.
 */
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <sys/stat.h>

#define EARLY_S 300
#define AGAIN_NS (30 * CS_NS_PER_S)

cs_code aws_chain_new(const struct aws_chain_options *o, struct aws_chain **out, struct cs_err *e)
{
    const struct http_client_options near = {0};
    *out = NULL;
    CS_AUTO(aws_chain) c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    c->http = o->http;
    c->stop = o->stop;
    c->clock = o->clock;
    c->log = o->log;
    c->region = cs_strdup(o->region);
    c->id = *o->id != '\0' ? cs_strdup(o->id) : NULL;
    c->secret = *o->secret != '\0' ? cs_strdup(o->secret) : NULL;
    if (c->region == NULL || (*o->id != '\0' && c->id == NULL) || (*o->secret != '\0' && c->secret == NULL))
        return cs_nomem(e);
    CS_TRY(http_client_new(&near, &c->near, e));
    CS_TRY(aws_plan_make(c->id, c->secret, c->log, &c->plan, e));
    *out = CS_MOVE(c);
    return CS_OK;
}

void aws_chain_free(struct aws_chain *c)
{
    if (c == NULL)
        return;
    aws_plan_free(&c->plan);
    aws_credentials_free(&c->found);
    aws_wipe_text(&c->id);
    aws_wipe_text(&c->secret);
    http_client_free(c->near);
    cs_free(c->region);
    cs_free(c);
}

/* --- Files that change --- */

static struct aws_stamp stamp_of(const char *path)
{
    struct stat st;
    if (path == NULL || stat(path, &st) != 0)
        return (struct aws_stamp){0};
    return (struct aws_stamp){
        .mtime_ns = st.st_mtim.tv_sec * CS_NS_PER_S + st.st_mtim.tv_nsec,
        .ctime_ns = st.st_ctim.tv_sec * CS_NS_PER_S + st.st_ctim.tv_nsec,
        .device = st.st_dev,
        .inode = st.st_ino,
        .size = (uint64_t)st.st_size,
    };
}

static void look(const struct aws_plan *p, struct aws_stamp now[4])
{
    const char *const files[4] = {p->config_file, p->credentials_file, p->token_file, p->auth_file};
    for (size_t i = 0; i < 4; i++)
        now[i] = stamp_of(files[i]);
}

/* --- Asking --- */

static cs_code ask_source(struct aws_chain *c, struct aws_credentials *out, struct cs_err *e)
{
    switch (c->plan.source) {
    case AWS_SOURCE_FIXED:
        return aws_credentials_copy(&c->plan.fixed, out, e);
    case AWS_SOURCE_WEB_IDENTITY:
        return aws_ask_web_identity(c, out, e);
    case AWS_SOURCE_CONTAINER:
        return aws_ask_container(c, out, e);
    case AWS_SOURCE_INSTANCE:
        return aws_ask_instance(c, out, e);
    }
    return cs_fail(e, CS_INTERNAL, "no source of credentials");
}

/* What the files say now; a plan that stands is kept when they make none. */
static cs_code plan_again(struct aws_chain *c, struct cs_err *e)
{
    struct aws_plan fresh = {0};
    CS_TRY(aws_plan_make(c->id, c->secret, c->log, &fresh, e));
    aws_plan_free(&c->plan);
    c->plan = fresh;
    return CS_OK;
}

static cs_code refresh(struct aws_chain *c, struct cs_err *e)
{
    CS_CLEANUP(aws_credentials_free) struct aws_credentials base = {0};
    struct aws_stamp now[4];
    look(&c->plan, now);
    if (memcmp(now, c->seen, 2 * sizeof now[0]) != 0) {
        struct aws_stamp other[4];
        CS_TRY(plan_again(c, e));
        look(&c->plan,
             other); /* the plan may have other files of tokens; the first two were read meanwhile */
        memcpy(&now[2], &other[2], 2 * sizeof now[0]);
    }
    CS_TRY(ask_source(c, &base, e));
    for (size_t i = 0; i < c->plan.role_count; i++) {
        struct aws_credentials next = {0};
        CS_TRY(aws_ask_role(c, &c->plan.roles[i], &base, &next, e));
        aws_credentials_free(&base);
        base = next;
    }
    aws_credentials_free(&c->found);
    c->found = base;
    base = (struct aws_credentials){0};
    memcpy(c->seen, now, sizeof now);
    return CS_OK;
}

static bool is_due(const struct aws_chain *c)
{
    struct aws_stamp now[4];
    if (c->found.id == NULL)
        return true;
    if (c->again_ns > cs_mono_ns(c->clock))
        return false;
    if (c->found.expires != 0 && c->found.expires - EARLY_S <= cs_now_s(c->clock))
        return true;
    look(&c->plan, now);
    return memcmp(now, c->seen, sizeof now) != 0;
}

/* Those of an instance are used past their end when its metadata service is away, as by AWS's SDKs. */
static bool is_usable(const struct aws_chain *c)
{
    return c->found.id != NULL && (c->found.expires == 0 || c->found.expires > cs_now_s(c->clock) ||
                                   (c->plan.source == AWS_SOURCE_INSTANCE && c->plan.role_count == 0));
}

cs_code aws_chain_get(struct aws_chain *c, const struct aws_credentials **out, struct cs_err *e)
{
    struct cs_err why;
    *out = NULL;
    if (is_due(c) || !is_usable(c)) {
        const cs_code rc = refresh(c, &why);
        if (rc != CS_OK && (rc == CS_CANCELLED || !is_usable(c)))
            return cs_fail(e, rc == CS_NOT_FOUND ? CS_PRECONDITION : rc, /* of a secret alone says that */
                           "get identity: get credentials: failed to refresh cached credentials, %s",
                           why.text);
        if (rc != CS_OK) {
            c->again_ns = cs_mono_ns(c->clock) + AGAIN_NS;
            cs_log_warn(c->log, "Failed to refresh AWS credentials; those at hand are used on",
                        KV("error", why.text));
        }
    }
    *out = &c->found;
    return CS_OK;
}
