/* SPDX-License-Identifier: Apache-2.0
 *
 * The shared files, read as AWS's SDK for Go reads them: sections in brackets, "key = value" (or ':') from
 * the first column on, indented lines that go on with a value or, after an empty one, are of another use.
 */
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <strings.h>

const char *const aws_key_names[AWS_KEY_COUNT] = {
    [AWS_KEY_ID] = "aws_access_key_id",
    [AWS_KEY_SECRET] = "aws_secret_access_key",
    [AWS_KEY_TOKEN] = "aws_session_token",
    [AWS_KEY_ROLE] = "role_arn",
    [AWS_KEY_SOURCE_PROFILE] = "source_profile",
    [AWS_KEY_CREDENTIAL_SOURCE] = "credential_source",
    [AWS_KEY_EXTERNAL_ID] = "external_id",
    [AWS_KEY_MFA] = "mfa_serial",
    [AWS_KEY_SESSION_NAME] = "role_session_name",
    [AWS_KEY_DURATION] = "duration_seconds",
    [AWS_KEY_WEB_IDENTITY] = "web_identity_token_file",
    [AWS_KEY_PROCESS] = "credential_process",
    [AWS_KEY_LOGIN] = "login_session",
    [AWS_KEY_SSO_SESSION] = "sso_session",
    [AWS_KEY_SSO_REGION] = "sso_region",
    [AWS_KEY_SSO_URL] = "sso_start_url",
    [AWS_KEY_SSO_ACCOUNT] = "sso_account_id",
    [AWS_KEY_SSO_ROLE] = "sso_role_name",
    [AWS_KEY_METADATA] = "ec2_metadata_service_endpoint",
    [AWS_KEY_METADATA_MODE] = "ec2_metadata_service_endpoint_mode",
};

/* --- The profiles --- */

static void free_profile(struct aws_profile *p)
{
    aws_wipe_text(&p->name);
    for (size_t i = 0; i < AWS_KEY_COUNT; i++)
        aws_wipe_text(&p->at[i]);
    p->half = false;
}

void aws_profiles_free(struct aws_profiles *p)
{
    for (size_t i = 0; i < p->count; i++)
        free_profile(&p->at[i]);
    cs_free(p->at);
    *p = (struct aws_profiles){0};
}

static struct aws_profile *find(const struct aws_profiles *p, struct cs_slice name)
{
    for (size_t i = 0; i < p->count; i++)
        if (cs_slice_is(name, p->at[i].name))
            return &p->at[i];
    return NULL;
}

const struct aws_profile *aws_profiles_find(const struct aws_profiles *p, const char *name)
{
    return find(p, cs_slice_str(name));
}

static cs_code add_profile(struct aws_profiles *p, struct cs_slice name, struct aws_profile **out,
                           struct cs_err *e)
{
    if (p->count == AWS_PROFILES_MAX)
        return cs_fail(e, CS_EXHAUSTED, "it has more than %d profiles", AWS_PROFILES_MAX);
    if (p->count == p->cap) { /* nothing of a secret is in the array itself */
        const size_t cap = p->cap > 0 ? p->cap * 2 : 8;
        struct aws_profile *grown = cs_realloc(p->at, cap * sizeof *grown);
        if (grown == NULL)
            return cs_nomem(e);
        p->at = grown;
        p->cap = cap;
    }
    struct aws_profile fresh = {.name = aws_copy(name)};
    if (fresh.name == NULL)
        return cs_nomem(e);
    p->at[p->count] = fresh;
    *out = &p->at[p->count++];
    return CS_OK;
}

static void remove_at(struct aws_profiles *p, size_t i)
{
    free_profile(&p->at[i]);
    memmove(&p->at[i], &p->at[i + 1], (--p->count - i) * sizeof p->at[0]);
}

/* --- Lines --- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static bool is_space(uint8_t c)
{
    return is_blank(c) || (c >= '\n' && c <= '\r');
}

static struct cs_slice trim(struct cs_slice s)
{
    while (s.len > 0 && is_space(s.data[0]))
        s = cs_slice_of(s.data + 1, s.len - 1);
    while (s.len > 0 && is_space(s.data[s.len - 1]))
        s.len--;
    return s;
}

/* Without the comment, which begins with a sign after a blank; `anywhere`: blank or not. */
static struct cs_slice uncomment(struct cs_slice s, bool anywhere)
{
    for (size_t i = 0; i < s.len; i++)
        if ((s.data[i] == '#' || s.data[i] == ';') && (anywhere || (i > 0 && is_blank(s.data[i - 1]))))
            return cs_slice_of(s.data, anywhere ? i : i - 1);
    return s;
}

static struct cs_slice unquote(struct cs_slice s)
{
    const bool quoted =
        s.len >= 2 && (s.data[0] == '"' || s.data[0] == '\'') && s.data[s.len - 1] == s.data[0];
    return quoted ? cs_slice_of(s.data + 1, s.len - 2) : s;
}

static bool split(struct cs_slice s, struct cs_slice *key, struct cs_slice *value)
{
    size_t i = 0;
    while (i < s.len && s.data[i] != '=' && s.data[i] != ':')
        i++;
    if (i == s.len)
        return false;
    *key = trim(cs_slice_of(s.data, i));
    *value = unquote(trim(cs_slice_of(s.data + i + 1, s.len - i - 1)));
    return true;
}

/* --- A file --- */

struct reader {
    struct aws_profiles *profiles;
    struct aws_profile *profile; /* of the lines that come; NULL: before the first section */
    char **value;                /* the last one that is of use; NULL: the last line's is not */
    bool has_key, is_empty;      /* the last property, of use or not */
};

static cs_code set_value(struct reader *r, struct cs_slice key, struct cs_slice value, struct cs_err *e)
{
    r->value = NULL;
    if (r->profile == NULL)
        return CS_OK;
    r->has_key = true;
    r->is_empty = value.len == 0;
    for (size_t i = 0; i < AWS_KEY_COUNT; i++) {
        if (key.len != strlen(aws_key_names[i]) ||
            strncasecmp((const char *)key.data, aws_key_names[i], key.len) != 0)
            continue;
        if (value.len > AWS_VALUE_MAX)
            return cs_fail(e, CS_EXHAUSTED, "%s has more than %zu bytes", aws_key_names[i], AWS_VALUE_MAX);
        char *fresh = aws_copy(value);
        if (fresh == NULL)
            return cs_nomem(e);
        r->value = &r->profile->at[i];
        aws_wipe_text(r->value);
        *r->value = fresh;
    }
    return CS_OK;
}

static cs_code append_value(struct reader *r, struct cs_slice more, struct cs_err *e)
{
    if (r->value == NULL || **r->value == '\0')
        return CS_OK;
    const size_t old = strlen(*r->value);
    if (old >= AWS_VALUE_MAX || more.len > AWS_VALUE_MAX - old - 1) /* the line end counts, too */
        return cs_fail(e, CS_EXHAUSTED, "a value has more than %zu bytes", AWS_VALUE_MAX);
    char *grown = cs_malloc(old + more.len + 2);
    if (grown == NULL)
        return cs_nomem(e);
    memcpy(grown, *r->value, old);
    grown[old] = '\n';
    if (more.len > 0)
        memcpy(grown + old + 1, more.data, more.len);
    grown[old + 1 + more.len] = '\0';
    aws_wipe_text(r->value);
    *r->value = grown;
    return CS_OK;
}

/* "[profile  NAME]" is kept as "profile NAME", whatever the blanks. */
static cs_code read_section(struct reader *r, struct cs_slice inside, struct cs_err *e)
{
    char name[512];
    size_t first = 0, second;
    inside = trim(inside);
    if (inside.len >= sizeof name)
        return cs_fail(e, CS_EXHAUSTED, "a section's name has more than %zu bytes", sizeof name - 1);
    while (first < inside.len && !is_blank(inside.data[first]))
        first++;
    for (second = first; second < inside.len && is_blank(inside.data[second]);)
        second++;
    struct cs_buf b = cs_buf_on(name, sizeof name);
    cs_buf_add(&b, inside.data, first);
    if (second < inside.len) {
        cs_buf_add_byte(&b, ' ');
        cs_buf_add(&b, inside.data + second, inside.len - second);
    }
    r->value = NULL;
    r->has_key = false;
    r->profile = find(r->profiles, cs_buf_slice(&b));
    return r->profile != NULL ? CS_OK : add_profile(r->profiles, cs_buf_slice(&b), &r->profile, e);
}

static cs_code read_line(struct reader *r, struct cs_slice line, struct cs_err *e)
{
    const struct cs_slice text = trim(line), head = trim(uncomment(line, true));
    struct cs_slice key, value;
    if (text.len == 0 || text.data[0] == '#' || text.data[0] == ';')
        return CS_OK;
    if (head.len >= 2 && head.data[0] == '[' && head.data[head.len - 1] == ']')
        return read_section(r, cs_slice_of(head.data + 1, head.len - 2), e);
    if (!is_blank(line.data[0]))
        return split(uncomment(line, false), &key, &value) ? set_value(r, key, value, e) : CS_OK;
    if (!split(text, &key, &value)) {
        while (is_blank(line.data[0])) /* some other character comes */
            line = cs_slice_of(line.data + 1, line.len - 1);
        return append_value(r, line, e);
    }
    if (r->has_key && r->is_empty) /* belongs to the property before it */
        return CS_OK;
    return set_value(r, key, trim(uncomment(value, false)), e);
}

/* Of the file of configuration those count that are called "profile NAME", and "default". */
static cs_code keep_profiles(struct aws_profiles *p, enum aws_file kind, struct cs_err *e)
{
    static const char prefix[] = "profile ";
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        struct aws_profile *f = &p->at[i];
        const bool prefixed = strncmp(f->name, prefix, sizeof prefix - 1) == 0;
        f->half = (f->at[AWS_KEY_ID] == NULL) != (f->at[AWS_KEY_SECRET] == NULL);
        if (kind == AWS_FILE_CREDENTIALS ? !prefixed : prefixed || strcasecmp(f->name, "default") == 0)
            p->at[kept++] = *f;
        else
            free_profile(f);
    }
    p->count = kept;
    for (size_t i = 0; kind == AWS_FILE_CONFIG && i < p->count; i++) {
        if (strncmp(p->at[i].name, prefix, sizeof prefix - 1) != 0)
            continue;
        char *name = cs_strdup(p->at[i].name + sizeof prefix - 1);
        if (name == NULL)
            return cs_nomem(e);
        struct aws_profile *other = find(p, cs_slice_str(name)); /* [default] beside [profile default] */
        aws_wipe_text(&p->at[i].name);
        p->at[i].name = name;
        if (other != NULL) {
            const size_t at = (size_t)(other - p->at);
            remove_at(p, at);
            i -= at < i ? 1 : 0;
        }
    }
    return CS_OK;
}

cs_code aws_profiles_parse(struct cs_slice text, enum aws_file kind, struct aws_profiles *out,
                           struct cs_err *e)
{
    struct reader r = {.profiles = out};
    cs_code rc = CS_OK;
    if (text.len > 0 && memchr(text.data, '\0', text.len) != NULL)
        rc = cs_fail(e, CS_INVALID, "it has a NUL byte");
    for (size_t from = 0; rc == CS_OK && from < text.len;) {
        const uint8_t *end = memchr(text.data + from, '\n', text.len - from);
        const size_t n = end != NULL ? (size_t)(end - text.data) - from : text.len - from;
        rc = read_line(&r, cs_slice_of(text.data + from, n), e);
        from += n + 1;
    }
    if (rc == CS_OK)
        rc = keep_profiles(out, kind, e);
    if (rc != CS_OK)
        aws_profiles_free(out);
    return rc;
}

/* --- Two files --- */

static void move_value(struct aws_profile *into, struct aws_profile *from, enum aws_key key)
{
    if (from->at[key] == NULL)
        return;
    aws_wipe_text(&into->at[key]);
    into->at[key] = CS_MOVE(from->at[key]);
}

cs_code aws_profiles_merge(struct aws_profiles *into, struct aws_profiles *from, struct cs_err *e)
{
    for (size_t i = 0; i < from->count; i++) {
        struct aws_profile *f = &from->at[i], *t = find(into, cs_slice_str(f->name));
        const bool fresh = t == NULL;
        if (fresh)
            CS_TRY(add_profile(into, cs_slice_str(f->name), &t, e));
        t->half = f->half;
        /* an access key is of one file, with its token */
        const bool keys = f->at[AWS_KEY_ID] != NULL && f->at[AWS_KEY_SECRET] != NULL;
        if (keys)
            aws_wipe_text(&t->at[AWS_KEY_TOKEN]);
        for (enum aws_key k = 0; k < AWS_KEY_COUNT; k++)
            if (fresh || keys || k > AWS_KEY_TOKEN)
                move_value(t, f, k);
    }
    aws_profiles_free(from);
    return CS_OK;
}
