/* SPDX-License-Identifier: Apache-2.0
 *
 * What a profile means. Rules and texts are those of AWS's SDK for Go (its package config).
 */
#include "base/mem.h"
#include "base/text.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <strings.h>

/* A profile on the way along source_profile. */
struct step {
    const struct aws_profile *profile;
    bool again; /* was passed before: its role does not count any more */
};
struct way {
    struct step at[AWS_ROLES_MAX + 1];
    size_t count;
};

static const char *value(const struct aws_profile *p, enum aws_key key)
{
    return p->at[key] != NULL ? p->at[key] : "";
}

static bool has(const struct aws_profile *p, enum aws_key key)
{
    return *value(p, key) != '\0';
}

static bool has_keys(const struct aws_profile *p)
{
    return has(p, AWS_KEY_ID) && has(p, AWS_KEY_SECRET);
}

static bool has_sso(const struct aws_profile *p)
{
    for (enum aws_key k = AWS_KEY_SSO_SESSION; k <= AWS_KEY_SSO_ROLE; k++)
        if (has(p, k))
            return true;
    return false;
}

/* --- The way to who has credentials --- */

static cs_code check_role(const struct aws_profile *p, struct cs_err *e)
{
    static const enum aws_key need[] = {AWS_KEY_SOURCE_PROFILE, AWS_KEY_CREDENTIAL_SOURCE,
                                        AWS_KEY_WEB_IDENTITY};
    for (size_t i = 0; i < sizeof need / sizeof need[0] && !has(p, AWS_KEY_ROLE); i++)
        if (has(p, need[i]))
            return cs_fail(e, CS_INVALID, "credential type %s requires role_arn, profile %s",
                           aws_key_names[need[i]], p->name);
    return CS_OK;
}

static cs_code check_types(const struct step *s, struct cs_err *e)
{
    const int types = (!s->again && has(s->profile, AWS_KEY_SOURCE_PROFILE)) +
                      has(s->profile, AWS_KEY_CREDENTIAL_SOURCE) + has(s->profile, AWS_KEY_PROCESS) +
                      has(s->profile, AWS_KEY_WEB_IDENTITY);
    return types <= 1 ? CS_OK
                      : cs_fail(e, CS_INVALID,
                                "only one credential type may be specified per profile: source profile, "
                                "credential source, credential process, web identity token");
}

static bool gives_credentials(const struct step *s)
{
    const struct aws_profile *p = s->profile;
    return (!s->again && has(p, AWS_KEY_SOURCE_PROFILE)) || has(p, AWS_KEY_CREDENTIAL_SOURCE) ||
           has(p, AWS_KEY_PROCESS) || has(p, AWS_KEY_WEB_IDENTITY) || has_sso(p) || has_keys(p);
}

static cs_code too_far(const struct way *w, struct cs_err *e)
{
    return cs_fail(e, CS_EXHAUSTED, "profile %s is more than %d profiles away from credentials",
                   w->at[0].profile->name, AWS_ROLES_MAX);
}

static cs_code add_step(const struct aws_profiles *p, const char *name, struct way *w, struct cs_err *e)
{
    const struct aws_profile *found = aws_profiles_find(p, name);
    const struct aws_profile *before = w->count > 0 ? w->at[w->count - 1].profile : NULL;
    if (found == NULL)
        return cs_fail(
            e, CS_INVALID,
            "failed to load assume role %s, of profile %s, failed to get shared config profile, %s",
            before != NULL ? value(before, AWS_KEY_ROLE) : "", name, name);
    if (w->count == AWS_ROLES_MAX + 1)
        return too_far(w, e);
    struct step *s = &w->at[w->count];
    *s = (struct step){.profile = found};
    for (size_t i = 0; i < w->count; i++)
        s->again |= w->at[i].profile == found;
    w->count++;
    if (found->half)
        return cs_fail(e, CS_INVALID,
                       "error fetching config from profile, %s, Error using profile: partial credentials "
                       "found for profile %s",
                       name, name);
    if (!s->again)
        CS_TRY(check_role(found, e));
    if (before == NULL || !has_keys(found))
        CS_TRY(check_types(s, e));
    if (before != NULL && !gives_credentials(s))
        return cs_fail(e, CS_INVALID, "failed to load assume role %s, of profile %s, it has no credentials",
                       value(before, AWS_KEY_ROLE), name);
    return CS_OK;
}

static cs_code find_way(const struct aws_profiles *p, const char *name, struct way *w, struct cs_err *e)
{
    for (;;) {
        CS_TRY(add_step(p, name, w, e));
        const struct step *s = &w->at[w->count - 1];
        /* a source that has keys is the end; the first profile's source counts more than its keys */
        if (s->again || !has(s->profile, AWS_KEY_SOURCE_PROFILE) || (w->count > 1 && has_keys(s->profile)))
            return CS_OK;
        name = value(s->profile, AWS_KEY_SOURCE_PROFILE);
    }
}

/* --- What it means --- */

static bool copy(const struct aws_profile *p, enum aws_key key, char **out)
{
    *out = has(p, key) ? cs_strdup(p->at[key]) : NULL;
    return !has(p, key) || *out != NULL;
}

static cs_code plan_keys(const struct aws_profile *p, struct aws_plan *out, struct cs_err *e)
{
    CS_CLEANUP(aws_credentials_free) struct aws_credentials x = {0};
    if (!copy(p, AWS_KEY_ID, &x.id) || !copy(p, AWS_KEY_SECRET, &x.secret) ||
        !copy(p, AWS_KEY_TOKEN, &x.token))
        return cs_nomem(e);
    out->source = AWS_SOURCE_FIXED;
    if (aws_credentials_take(&x, NULL, &out->fixed, e) != CS_OK)
        return cs_wrap(e, "profile %s", p->name);
    return CS_OK;
}

static cs_code plan_instance(const struct aws_profile *p, struct aws_plan *out, struct cs_err *e)
{
    const char *at = aws_env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *mode = aws_env("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
    if (at == NULL && p != NULL && has(p, AWS_KEY_METADATA))
        at = p->at[AWS_KEY_METADATA];
    if (mode == NULL && p != NULL && has(p, AWS_KEY_METADATA_MODE))
        mode = p->at[AWS_KEY_METADATA_MODE];
    if (mode != NULL && strcasecmp(mode, "ipv4") != 0 && strcasecmp(mode, "ipv6") != 0)
        return cs_fail(e, CS_INVALID, "unknown EC2 IMDS endpoint mode, must be either IPv6 or IPv4");
    if (at == NULL)
        at = mode != NULL && strcasecmp(mode, "ipv6") == 0 ? "http://[fd00:ec2::254]"
                                                           : "http://169.254.169.254";
    size_t n = strlen(at);
    while (n > 0 && at[n - 1] == '/')
        n--;
    out->source = AWS_SOURCE_INSTANCE;
    out->metadata = cs_strndup(at, n);
    return out->metadata != NULL ? CS_OK : cs_nomem(e);
}

static cs_code plan_source(const struct aws_profile *p, struct aws_plan *out, struct cs_err *e)
{
    const char *source = value(p, AWS_KEY_CREDENTIAL_SOURCE);
    if (strcmp(source, "Ec2InstanceMetadata") == 0)
        return plan_instance(p, out, e);
    if (strcmp(source, "Environment") == 0) /* had it keys, they would have been taken first */
        return cs_fail(e, CS_INVALID, "static credentials are empty");
    if (strcmp(source, "EcsContainer") != 0)
        return cs_fail(e, CS_INVALID,
                       "credential_source values must be EcsContainer, Ec2InstanceMetadata, or Environment");
    const cs_code rc = aws_plan_container(out, e);
    return rc == CS_NOT_FOUND
               ? cs_fail(e, CS_INVALID,
                         "EcsContainer was specified as the credential_source, but neither "
                         "'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI' or AWS_CONTAINER_CREDENTIALS_FULL_URI' "
                         "was set")
               : rc;
}

static cs_code plan_web_identity(const struct aws_profile *p, struct aws_plan *out, struct cs_err *e)
{
    out->source = AWS_SOURCE_WEB_IDENTITY;
    if (!copy(p, AWS_KEY_WEB_IDENTITY, &out->token_file) || !copy(p, AWS_KEY_ROLE, &out->web.arn) ||
        !copy(p, AWS_KEY_SESSION_NAME, &out->web.session))
        return cs_nomem(e);
    return out->web.arn != NULL ? CS_OK : cs_fail(e, CS_INVALID, "role ARN is not set");
}

/* What needs a browser, or a program of others run with our rights. */
static cs_code refuse(const struct aws_profile *p, struct cs_err *e)
{
    const char *what = has_sso(p)              ? "IAM Identity Center (sso_*)"
                       : has(p, AWS_KEY_LOGIN) ? aws_key_names[AWS_KEY_LOGIN]
                                               : aws_key_names[AWS_KEY_PROCESS];
    return cs_fail(e, CS_UNIMPLEMENTED, "profile %s: %s is not supported", p->name, what);
}

static cs_code plan_base(const struct aws_profile *p, struct aws_plan *out, struct cs_err *e)
{
    if (p != NULL && has_keys(p))
        return plan_keys(p, out, e);
    if (p != NULL && has(p, AWS_KEY_CREDENTIAL_SOURCE))
        return plan_source(p, out, e);
    if (p != NULL && has(p, AWS_KEY_WEB_IDENTITY))
        return plan_web_identity(p, out, e);
    if (p != NULL && (has_sso(p) || has(p, AWS_KEY_LOGIN) || has(p, AWS_KEY_PROCESS)))
        return refuse(p, e);
    const cs_code rc = aws_plan_container(out, e);
    return rc == CS_NOT_FOUND ? plan_instance(p, out, e) : rc;
}

static cs_code add_role(const struct aws_profile *p, struct aws_plan *out, struct cs_err *e)
{
    struct aws_role *r = &out->roles[out->role_count++];
    int64_t seconds = 0;
    *r = (struct aws_role){.seconds = AWS_ROLE_SECONDS};
    if (has(p, AWS_KEY_MFA))
        return cs_fail(e, CS_INVALID,
                       "assume role with MFA enabled, but AssumeRoleTokenProvider session option not set.");
    if (has(p, AWS_KEY_DURATION) &&
        cs_parse_i64(cs_slice_str(p->at[AWS_KEY_DURATION]), &seconds, NULL) == CS_OK &&
        seconds >= AWS_ROLE_SECONDS + 60) /* the SDK counts minutes */
        r->seconds = seconds;
    return copy(p, AWS_KEY_ROLE, &r->arn) && copy(p, AWS_KEY_SESSION_NAME, &r->session) &&
                   copy(p, AWS_KEY_EXTERNAL_ID, &r->external_id)
               ? CS_OK
               : cs_nomem(e);
}

cs_code aws_plan_profile(const struct aws_profiles *p, const char *name, bool needed, struct aws_plan *out,
                         struct cs_err *e)
{
    struct way w = {0};
    if (aws_profiles_find(p, name) == NULL)
        return needed ? cs_fail(e, CS_INVALID, "failed to get shared config profile, %s", name)
                      : plan_base(NULL, out, e);
    CS_TRY(find_way(p, name, &w, e));
    CS_TRY(plan_base(w.at[w.count - 1].profile, out, e));
    for (size_t i = w.count; i > 0; i--) {
        const struct step *s = &w.at[i - 1];
        const bool is_web = i == w.count && out->source == AWS_SOURCE_WEB_IDENTITY; /* has its role */
        if (s->again || is_web || !has(s->profile, AWS_KEY_ROLE))
            continue;
        if (out->role_count == AWS_ROLES_MAX)
            return too_far(&w, e);
        CS_TRY(add_role(s->profile, out, e));
    }
    return CS_OK;
}
