/* SPDX-License-Identifier: Apache-2.0
 *
 * SVIDStore "aws_secretsmanager": selectors, calls, tag and texts are SPIRE's
 * (doc/plugin_agent_svidstore_aws_secretsmanager.md).
 */
#include "base/mem.h"
#include "base/text.h"
#include "config/plugin_config.h"
#include "crypto/jose.h"
#include "plugin/settings.h"
#include "plugin/svidstore.h"
#include "plugins/modules/aws/aws.h"
#include "plugins/modules/aws/plugins.h"

#define CALLS_MAX 4 /* at a time; AWS's quota of CreateSecret is 50 a second for an account */

struct settings {
    struct aws *aws;
};

struct store {
    struct plugin_env env;
    struct plugin_slot settings; /* of struct settings */
};

/* --- Life --- */

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct store *s = cs_calloc(1, sizeof *s);
    *self = s;
    if (s == NULL)
        return cs_nomem(e);
    s->env = *env;
    plugin_slot_init(&s->settings);
    return CS_OK;
}

static void destroy(void *self)
{
    struct store *s = self;
    plugin_slot_destroy(&s->settings);
    cs_free(s);
}

static void clear(void *settings)
{
    const struct settings *s = settings;
    aws_free(s->aws);
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct store *s = self;
    struct config_aws_secretsmanager c;
    CS_CLEANUP(plugin_settings_drop) struct settings *fresh = plugin_settings_new(sizeof *fresh, clear);
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct cs_err why;
    if (fresh == NULL || a == NULL)
        return cs_nomem(e);
    CS_TRY(config_read_aws_secretsmanager(data, a, &c, e));
    const cs_code rc = aws_new(c.region, c.access_key_id, c.secret_access_key, s->env.stop, s->env.clock,
                               &s->env.log, &fresh->aws, &why);
    if (rc != CS_OK) /* SPIRE's code for whatever it is */
        return cs_fail(e, CS_INTERNAL, "failed to create secrets manager client: %s", why.text);
    plugin_slot_set(&s->settings, CS_MOVE(fresh));
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    struct config_aws_secretsmanager c;
    struct cs_err fault;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    return plugin_notes_fault(notes, config_read_aws_secretsmanager(data, a, &c, &fault), &fault, e);
}

/* --- Calls --- */

/* An operation, with the settings that it began with. */
struct job {
    const struct cs_log *log;
    struct aws *aws;
};

struct place {
    const char *name, *arn, *key; /* "" when not given */
};

static const char *value_of(const char *const *metadata, size_t count, const char *key)
{
    const char *value = plugin_svid_metadata(metadata, count, key);
    return value != NULL ? value : "";
}

static cs_code read_place(const char *const *metadata, size_t count, struct place *out, struct cs_err *e)
{
    if (plugin_svid_metadata_check(metadata, count, e) != CS_OK)
        return cs_wrap(e, "failed to parse Metadata");
    *out = (struct place){value_of(metadata, count, "secretname"), value_of(metadata, count, "arn"),
                          value_of(metadata, count, "kmskeyid")};
    if (*out->name == '\0' && *out->arn == '\0')
        return cs_fail(e, CS_INVALID, "either the secret name or ARN is required");
    return CS_OK;
}

static const char *id_of(const struct place *p)
{
    return *p->arn != '\0' ? p->arn : p->name;
}

static void add_text(struct cs_buf *b, const char *name, const char *value)
{
    cs_buf_add_byte(b, b->len == 0 ? '{' : ',');
    cs_buf_printf(b, "\"%s\":", name);
    jose_json_string(b, cs_slice_str(value));
}

/* With the secret and a token that makes the call one, however often it is sent. */
static cs_code add_secret(struct cs_buf *b, struct cs_slice secret, struct cs_err *e)
{
    char token[37];
    CS_TRY(cs_uuid(token, e));
    add_text(b, "ClientRequestToken", token);
    cs_buf_add_str(b, ",\"SecretBinary\":\"");
    cs_b64_encode(b, secret, CS_B64_STD);
    cs_buf_add_byte(b, '"');
    return CS_OK;
}

/* CS_NOT_FOUND: there is no such secret. */
static cs_code ask(const struct job *j, const char *action, struct cs_buf *body, const char *failed,
                   json_t **answer, struct cs_err *e)
{
    cs_buf_add_byte(body, '}');
    if (!cs_buf_ok(body))
        return cs_nomem(e);
    const cs_code rc = aws_secrets_call(j->aws, action, cs_buf_slice(body), answer, e);
    if (rc == CS_OK || rc == CS_CANCELLED)
        return rc;
    (void)cs_wrap(e, "%s", failed);
    e->code = CS_INTERNAL; /* as SPIRE's, whatever it is */
    return rc == CS_NOT_FOUND ? rc : CS_INTERNAL;
}

static cs_code call(const struct job *j, const char *action, struct cs_buf *body, const char *failed,
                    json_t **answer, struct cs_err *e)
{
    const cs_code rc = ask(j, action, body, failed, answer, e);
    return rc == CS_NOT_FOUND ? CS_INTERNAL : rc;
}

static bool is_ours(const json_t *secret)
{
    size_t i;
    json_t *tag;
    json_array_foreach(json_object_get(secret, "Tags"), i, tag)
    {
        const char *key = json_string_value(json_object_get(tag, "Key"));
        const char *value = json_string_value(json_object_get(tag, "Value"));
        if (key != NULL && value != NULL && strcmp(key, "spire-svid") == 0 && strcmp(value, "true") == 0)
            return true;
    }
    return false;
}

/* Scheduled for deletion, which a description says for some days. */
static bool is_deleted(const json_t *secret)
{
    const json_t *date = json_object_get(secret, "DeletedDate");
    return date != NULL && !json_is_null(date);
}

/* CS_NOT_FOUND: there is none. */
static cs_code describe(const struct job *j, const char *id, json_t **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
    add_text(&body, "SecretId", id);
    CS_TRY(ask(j, "DescribeSecret", &body, "failed to describe secret", out, e));
    if (is_ours(*out))
        return CS_OK;
    aws_json_drop(out);
    return cs_fail(e, CS_INVALID, "secret does not contain the 'spire-svid' tag");
}

/* Seconds since 1970 with a fraction, as Go prints a time. */
static void add_time(struct cs_buf *b, const json_t *seconds)
{
    const double at = json_number_value(seconds);
    if (!(at > 0 && at < 253402300800.0)) /* of four-digit years */
        return;
    CS_CLEANUP(cs_buf_free) struct cs_buf whole = {0};
    const int ms = (int)((at - (double)(int64_t)at) * 1000 + 0.5) % 1000;
    cs_time_go_string(&whole, (int64_t)at);
    const char *text = cs_buf_cstr(&whole);
    const size_t clock = strlen("2006-01-02 15:04:05");
    if (strlen(text) < clock)
        return;
    cs_buf_add(b, text, clock);
    if (ms > 0) {
        cs_buf_printf(b, ".%03d", ms);
        while (b->data != NULL && b->data[b->len - 1] == '0')
            b->len--;
    }
    cs_buf_add_str(b, text + clock);
}

static const char *text_in(const json_t *answer, const char *name)
{
    return json_string_value(json_object_get(answer, name));
}

static void log_version(const struct job *j, const char *msg, const json_t *answer)
{
    cs_log_debug(j->log, msg, KV("arn", text_in(answer, "ARN")), KV("name", text_in(answer, "Name")),
                 KV("version_id", text_in(answer, "VersionId")));
}

static cs_code create_secret(const struct job *j, const struct place *p, struct cs_slice secret,
                             struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf body = {0};
    CS_CLEANUP(aws_json_drop) json_t *answer = NULL;
    if (*p->name == '\0')
        return cs_fail(e, CS_INVALID, "failed to create secret: name selector is required");
    if (!cs_buf_reserve(&body, secret.len * 2 + 8192))
        return cs_nomem(e);
    add_text(&body, "Name", p->name);
    if (*p->key != '\0')
        add_text(&body, "KmsKeyId", p->key);
    cs_buf_add_str(&body, ",\"Tags\":[{\"Key\":\"spire-svid\",\"Value\":\"true\"}]");
    CS_TRY(add_secret(&body, secret, e));
    cs_code rc = call(j, "CreateSecret", &body, "failed to create secret", &answer, e);
    if (rc == CS_OK)
        log_version(j, "Secret created", answer);
    return rc;
}

static cs_code restore(const struct job *j, const char *id, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
    CS_CLEANUP(aws_json_drop) json_t *answer = NULL;
    add_text(&body, "SecretId", id);
    CS_CLEANUP(cs_freep) char *failed = cs_asprintf("failed to restore secret \"%s\"", id);
    if (failed == NULL)
        return cs_nomem(e);
    CS_TRY(call(j, "RestoreSecret", &body, failed, &answer, e));
    cs_log_debug(j->log, "Secret was scheduled for deletion and has been restored",
                 KV("arn", text_in(answer, "ARN")), KV("name", text_in(answer, "Name")));
    return CS_OK;
}

static cs_code put_value(const struct job *j, const json_t *secret, struct cs_slice value, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf body = {0};
    CS_CLEANUP(aws_json_drop) json_t *answer = NULL;
    const char *arn = json_string_value(json_object_get(secret, "ARN"));
    if (arn == NULL)
        return cs_fail(e, CS_INTERNAL, "failed to put secret value: the description has no ARN");
    if (!cs_buf_reserve(&body, value.len * 2 + 8192))
        return cs_nomem(e);
    add_text(&body, "SecretId", arn);
    CS_TRY(add_secret(&body, value, e));
    CS_TRY(call(j, "PutSecretValue", &body, "failed to put secret value", &answer, e));
    log_version(j, "Secret value updated", answer);
    return CS_OK;
}

static cs_code put_place(const struct job *j, const struct place *p, const struct svidstore_svid *svid,
                         struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf value = {0};
    CS_CLEANUP(aws_json_drop) json_t *secret = NULL;
    CS_TRY(plugin_svid_secret_json(svid, &value, e));
    cs_code rc = describe(j, id_of(p), &secret, e);
    if (rc == CS_NOT_FOUND)
        return create_secret(j, p, cs_buf_slice(&value), e);
    CS_TRY(rc);
    if (is_deleted(secret))
        CS_TRY(restore(j, id_of(p), e));
    return put_value(j, secret, cs_buf_slice(&value), e);
}

static cs_code put(void *self, const struct svidstore_svid *svid, const char *const *metadata, size_t count,
                   struct cs_err *e)
{
    struct store *s = self;
    struct place p;
    struct cs_err local;
    e = e != NULL ? e : &local;
    CS_TRY(read_place(metadata, count, &p, e));
    CS_CLEANUP(plugin_settings_drop) const struct settings *now = plugin_slot_get(&s->settings);
    if (now == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    return put_place(&(struct job){&s->env.log, now->aws}, &p, svid, e);
}

static cs_code remove_place(const struct job *j, const char *id, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
    CS_CLEANUP(aws_json_drop) json_t *secret = NULL, *answer = NULL;
    cs_code rc = describe(j, id, &secret, e);
    if (rc == CS_NOT_FOUND) {
        cs_log_warn(j->log, "Secret not found", KV("secret_id", id));
        return CS_OK;
    }
    CS_TRY(rc);
    if (is_deleted(
            secret)) /* by an earlier call whose answer was lost, or by somebody else: AWS would refuse */
        return CS_OK;
    const char *arn = json_string_value(json_object_get(secret, "ARN"));
    CS_CLEANUP(cs_freep) char *failed = cs_asprintf("failed to delete secret \"%s\"", id);
    if (failed == NULL)
        return cs_nomem(e);
    add_text(&body, "SecretId", arn != NULL ? arn : id);
    cs_buf_add_str(&body, ",\"RecoveryWindowInDays\":7");
    CS_TRY(call(j, "DeleteSecret", &body, failed, &answer, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf gone = {0};
    add_time(&gone, json_object_get(answer, "DeletionDate"));
    cs_log_debug(j->log, "Secret deleted", KV("arn", text_in(answer, "ARN")),
                 KV("name", text_in(answer, "Name")), KV("deletion_date", cs_buf_cstr(&gone)));
    return CS_OK;
}

static cs_code remove_svid(void *self, const char *const *metadata, size_t count, struct cs_err *e)
{
    struct store *s = self;
    struct place p;
    struct cs_err local;
    e = e != NULL ? e : &local;
    CS_TRY(read_place(metadata, count, &p, e));
    CS_CLEANUP(plugin_settings_drop) const struct settings *now = plugin_slot_get(&s->settings);
    if (now == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    return remove_place(&(struct job){&s->env.log, now->aws}, id_of(&p), e);
}

static const struct svidstore_ops ops = {.put = put, .remove = remove_svid, .calls_max = CALLS_MAX};

const struct plugin_builtin plugin_svidstore_aws_secretsmanager = {
    .name = "aws_secretsmanager",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
