/* SPDX-License-Identifier: Apache-2.0
 *
 * The config service, and plugin_data as a plugin reads it.
 */
#include "config/option.h"
#include "kit/kit.h"

#include "base/text.h"
#include "sdk_config.pb-c.h"

/* --- For the plugin --- */

const char *cspire_config_text(const struct cspire_config *config)
{
    return config->text;
}

const char *cspire_config_trust_domain(const struct cspire_config *config)
{
    return config->trust_domain;
}

static enum cspire_code parse(struct cspire_call *c, const struct cspire_config *config,
                              struct hcl_items *items)
{
    struct cs_err e = {0};
    if (hcl_parse(cs_slice_str(config->text), c->arena, items, &e) == CS_OK)
        return CSPIRE_OK;
    return cspire_fail(c, CSPIRE_INVALID_ARGUMENT, "unable to decode configuration: %s", e.text);
}

/* Any of the option table's kinds. */
union value {
    const char *text;
    struct config_int number;
    struct config_bool yes;
    struct config_strings list;
};

/* One option, read as HCL's decoder would: by a table of one row. */
static enum cspire_code read_option(struct cspire_call *c, const struct cspire_config *config,
                                    const char *name, enum config_type type, union value *out)
{
    memset(out, 0, sizeof *out); /* all of it: an initialiser would only reach the first member */
    struct hcl_items items;
    enum cspire_code code = parse(c, config, &items);
    if (code != CSPIRE_OK)
        return code;
    const struct config_option row = {.name = name, .type = type};
    const struct config_section section = {.size = sizeof *out,
                                           .given = CONFIG_NO_OFFSET,
                                           .unknown = CONFIG_NO_OFFSET,
                                           .options = &row,
                                           .count = 1};
    struct cs_err e = {0};
    if (config_decode(&section, items, "plugin_data", c->arena, out, &e) == CS_OK)
        return CSPIRE_OK;
    return cspire_fail(c, CSPIRE_INVALID_ARGUMENT, "unable to decode configuration: %s", e.text);
}

enum cspire_code cspire_config_string(struct cspire_call *c, const struct cspire_config *config,
                                      const char *name, const char **out)
{
    union value v;
    enum cspire_code code = read_option(c, config, name, CONFIG_STRING, &v);
    if (code == CSPIRE_OK && v.text != NULL)
        *out = v.text;
    return code;
}

enum cspire_code cspire_config_bool(struct cspire_call *c, const struct cspire_config *config,
                                    const char *name, bool *out)
{
    union value v;
    enum cspire_code code = read_option(c, config, name, CONFIG_BOOL, &v);
    if (code == CSPIRE_OK && v.yes.given)
        *out = v.yes.value;
    return code;
}

enum cspire_code cspire_config_int(struct cspire_call *c, const struct cspire_config *config,
                                   const char *name, int64_t *out)
{
    union value v;
    enum cspire_code code = read_option(c, config, name, CONFIG_INT, &v);
    if (code == CSPIRE_OK && v.number.given)
        *out = v.number.value;
    return code;
}

enum cspire_code cspire_config_duration(struct cspire_call *c, const struct cspire_config *config,
                                        const char *name, int64_t *out)
{
    const char *text = NULL;
    enum cspire_code code = cspire_config_string(c, config, name, &text);
    if (code != CSPIRE_OK || text == NULL)
        return code;
    struct cs_err e = {0};
    int64_t ns;
    if (cs_duration_parse(cs_slice_str(text), &ns, &e) != CS_OK)
        return cspire_fail(c, CSPIRE_INVALID_ARGUMENT, "%s: %s", name, e.text);
    *out = ns;
    return CSPIRE_OK;
}

enum cspire_code cspire_config_strings(struct cspire_call *c, const struct cspire_config *config,
                                       const char *name, struct cspire_texts *out)
{
    union value v;
    enum cspire_code code = read_option(c, config, name, CONFIG_STRINGS, &v);
    if (code == CSPIRE_OK && v.list.at != NULL)
        *out = (struct cspire_texts){.at = v.list.at, .count = v.list.len};
    return code;
}

static bool among(const struct hcl_key *key, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (hcl_key_is(key, names[i]))
            return true;
    }
    return false;
}

enum cspire_code cspire_config_only(struct cspire_call *c, const struct cspire_config *config,
                                    const char *const *names, size_t count)
{
    struct hcl_items items;
    enum cspire_code code = parse(c, config, &items);
    for (size_t i = 0; code == CSPIRE_OK && i < items.len; i++) {
        const struct hcl_key *key = items.at[i]->key_count > 0 ? &items.at[i]->keys[0] : NULL;
        if (key != NULL && !among(key, names, count))
            code = cspire_fail(c, CSPIRE_INVALID_ARGUMENT, "unknown option \"%s\"", key->text);
    }
    return code;
}

/* --- For the host --- */

static struct cspire_config config_of(const char *text, const Configv1__CoreConfiguration *core)
{
    return (struct cspire_config){.text = text, .trust_domain = core != NULL ? core->trust_domain : ""};
}

static cs_code configure(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                         struct cs_err *e)
{
    const Configv1__ConfigureRequest *req = (const Configv1__ConfigureRequest *)msg;
    enum cspire_code (*op)(void *, struct cspire_call *, const struct cspire_config *) =
        KIT_OP(c->env->plugin, configure);
    if (op == NULL)
        return kit_missing(e);
    struct cspire_config config = config_of(req->hcl_configuration, req->core_configuration);
    CS_TRY(kit_verdict(c, op(c->env->self, c, &config), e));
    Configv1__ConfigureResponse resp = CONFIGV1__CONFIGURE_RESPONSE__INIT;
    return proto_pack(&resp.base, response, e);
}

static cs_code validate(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                        struct cs_err *e)
{
    const Configv1__ValidateRequest *req = (const Configv1__ValidateRequest *)msg;
    enum cspire_code (*op)(void *, struct cspire_call *, const struct cspire_config *) =
        KIT_OP(c->env->plugin, validate);
    if (op == NULL)
        return kit_missing(e);
    struct cspire_config config = config_of(req->hcl_configuration, req->core_configuration);
    CS_TRY(kit_verdict(c, op(c->env->self, c, &config), e));
    Configv1__ValidateResponse resp = CONFIGV1__VALIDATE_RESPONSE__INIT;
    resp.valid = c->texts.count == 0;
    resp.notes = (char **)c->texts.at;
    resp.n_notes = c->texts.count;
    return proto_pack(&resp.base, response, e);
}

static const struct kit_handler configure_handler = {.run = configure,
                                                     .request = &configv1__configure_request__descriptor};
static const struct kit_handler validate_handler = {
    .run = validate, .request = &configv1__validate_request__descriptor, .answers = KIT_NOTE};

#define CONFIG "/spire.service.common.config.v1.Config/"
const struct rpc_method kit_config_methods[] = {
    KIT_ROW(CONFIG "Configure", configure_handler),
    KIT_ROW(CONFIG "Validate", validate_handler),
};
const size_t kit_config_method_count = sizeof kit_config_methods / sizeof kit_config_methods[0];
