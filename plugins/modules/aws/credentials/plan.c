/* SPDX-License-Identifier: Apache-2.0
 *
 * The order in which credentials are looked for.
 */
#include "base/file.h"
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <pwd.h>
#include <unistd.h>

static void free_role(struct aws_role *r)
{
    cs_free(r->arn);
    cs_free(r->session);
    aws_wipe_text(&r->external_id);
    *r = (struct aws_role){0};
}

void aws_plan_free(struct aws_plan *p)
{
    aws_credentials_free(&p->fixed);
    free_role(&p->web);
    for (size_t i = 0; i < p->role_count; i++)
        free_role(&p->roles[i]);
    aws_wipe_text(&p->auth);
    cs_free(p->token_file);
    cs_free(p->url);
    cs_free(p->host);
    cs_free(p->auth_file);
    cs_free(p->metadata);
    cs_free(p->config_file);
    cs_free(p->credentials_file);
    *p = (struct aws_plan){0};
}

/* --- The environment --- */

static cs_code plan_keys(const char *id, const char *secret, const char *token, struct aws_plan *out,
                         struct cs_err *e)
{
    CS_CLEANUP(aws_credentials_free)
    struct aws_credentials x = {.id = cs_strdup(id), .secret = cs_strdup(secret)};
    if (token != NULL)
        x.token = cs_strdup(token);
    if (x.id == NULL || x.secret == NULL || (token != NULL && x.token == NULL))
        return cs_nomem(e);
    out->source = AWS_SOURCE_FIXED;
    return aws_credentials_take(&x, NULL, &out->fixed, e);
}

static cs_code plan_web_identity(struct aws_plan *out, struct cs_err *e)
{
    const char *arn = aws_env("AWS_ROLE_ARN"), *session = aws_env("AWS_ROLE_SESSION_NAME");
    if (arn == NULL)
        return cs_fail(e, CS_INVALID, "role ARN is not set");
    out->source = AWS_SOURCE_WEB_IDENTITY;
    out->token_file = cs_strdup(aws_env("AWS_WEB_IDENTITY_TOKEN_FILE"));
    out->web.arn = cs_strdup(arn);
    out->web.session = session != NULL ? cs_strdup(session) : NULL;
    return out->token_file != NULL && out->web.arn != NULL && (session == NULL || out->web.session != NULL)
               ? CS_OK
               : cs_nomem(e);
}

/* --- The shared files --- */

/* The file of `variable`, else that of this name in the home folder; "": there is no home. */
static cs_code file_name(const char *variable, const char *name, char **out, struct cs_err *e)
{
    char text[4096];
    struct passwd own, *found = NULL;
    const char *given = aws_env(variable), *home = aws_env("HOME");
    if (given == NULL && home == NULL && getpwuid_r(getuid(), &own, text, sizeof text, &found) == 0 &&
        found != NULL)
        home = found->pw_dir;
    *out = given != NULL  ? cs_strdup(given)
           : home != NULL ? cs_asprintf("%s/.aws/%s", home, name)
                          : cs_strdup("");
    return *out != NULL ? CS_OK : cs_nomem(e);
}

/* A file that cannot be opened is none, as for the SDK. */
static cs_code read_profiles(const char *path, enum aws_file kind, const struct cs_log *log,
                             struct aws_profiles *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    struct cs_err why;
    if (*path == '\0')
        return CS_OK;
    if (!cs_buf_reserve(&text, AWS_FILE_MAX + 1)) /* so that growth leaves nothing behind */
        return cs_nomem(e);
    const cs_code rc = cs_file_read(path, AWS_FILE_MAX, &text, &why);
    if (rc == CS_EXHAUSTED)
        return cs_fail(e, rc, "failed to load shared config file, %s, it has more than %zu bytes", path,
                       AWS_FILE_MAX);
    if (rc != CS_OK) {
        if (rc != CS_NOT_FOUND && log != NULL)
            cs_log_warn(log, "Shared AWS file cannot be read and is left out", KV("error", why.text));
        return CS_OK;
    }
    if (aws_profiles_parse(cs_buf_slice(&text), kind, out, e) != CS_OK)
        return cs_wrap(e, "failed to load shared config file, %s", path);
    return CS_OK;
}

static cs_code plan_files(const struct cs_log *log, struct aws_plan *out, struct cs_err *e)
{
    CS_CLEANUP(aws_profiles_free) struct aws_profiles all = {0}, credentials = {0};
    const char *named = aws_env("AWS_PROFILE"), *fallback = aws_env("AWS_DEFAULT_PROFILE");
    CS_TRY(file_name("AWS_CONFIG_FILE", "config", &out->config_file, e));
    CS_TRY(file_name("AWS_SHARED_CREDENTIALS_FILE", "credentials", &out->credentials_file, e));
    CS_TRY(read_profiles(out->config_file, AWS_FILE_CONFIG, log, &all, e));
    CS_TRY(read_profiles(out->credentials_file, AWS_FILE_CREDENTIALS, log, &credentials, e));
    CS_TRY(aws_profiles_merge(&all, &credentials, e));
    return aws_plan_profile(&all,
                            named != NULL      ? named
                            : fallback != NULL ? fallback
                                               : "default",
                            named != NULL, out, e);
}

/* --- All of them --- */

static const char *either(const char *a, const char *b)
{
    return a != NULL ? a : b;
}

static cs_code make(const char *id, const char *secret, const struct cs_log *log, struct aws_plan *out,
                    struct cs_err *e)
{
    const bool given = id != NULL || secret != NULL;
    id = either(id, aws_env("AWS_ACCESS_KEY_ID"));
    secret = either(secret, aws_env("AWS_SECRET_ACCESS_KEY"));
    if (id != NULL && secret != NULL) /* a session's token belongs to both of its keys */
        return plan_keys(id, secret, given ? NULL : aws_env("AWS_SESSION_TOKEN"), out, e);
    /* what the plugin found is forgotten then, as by SPIRE's; the SDK knows older names as well */
    id = either(aws_env("AWS_ACCESS_KEY_ID"), aws_env("AWS_ACCESS_KEY"));
    secret = either(aws_env("AWS_SECRET_ACCESS_KEY"), aws_env("AWS_SECRET_KEY"));
    if (id != NULL && secret != NULL)
        return plan_keys(id, secret, aws_env("AWS_SESSION_TOKEN"), out, e);
    if (aws_env("AWS_WEB_IDENTITY_TOKEN_FILE") != NULL)
        return plan_web_identity(out, e);
    return plan_files(log, out, e);
}

cs_code aws_plan_make(const char *id, const char *secret, const struct cs_log *log, struct aws_plan *out,
                      struct cs_err *e)
{
    const cs_code rc = make(id, secret, log, out, e);
    if (rc != CS_OK)
        aws_plan_free(out);
    return rc;
}
