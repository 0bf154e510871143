/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/server/nodeattestor/nitro_path.h"

#include "base/text.h"
#include "plugins/shared/nitro/challenge.h"
#include "spiffe/id.h"

/* One piece of a template: text, or a field's name. */
struct piece {
    bool is_field;
    struct cs_slice text;
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* What stands between {{ and }}, as a field's name; false when it is something else. */
static bool field_name(struct cs_slice action, struct cs_slice *name)
{
    while (action.len > 0 && is_blank(action.data[0]))
        action = cs_slice_of(action.data + 1, action.len - 1);
    while (action.len > 0 && is_blank(action.data[action.len - 1]))
        action.len--;
    if (action.len < 2 || action.data[0] != '.')
        return false;
    *name = cs_slice_of(action.data + 1, action.len - 1);
    for (size_t i = 0; i < name->len; i++) {
        const uint8_t c = name->data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
            return false;
    }
    return true;
}

/* The next piece of what *rest holds, which is not empty. */
static cs_code next_piece(struct cs_slice *rest, struct piece *out, struct cs_err *e)
{
    const uint8_t *open = memmem(rest->data, rest->len, "{{", 2);
    if (open != rest->data) {
        const size_t len = open != NULL ? (size_t)(open - rest->data) : rest->len;
        *out = (struct piece){.text = cs_slice_of(rest->data, len)};
        *rest = cs_slice_of(rest->data + len, rest->len - len);
        return CS_OK;
    }
    const uint8_t *close = memmem(rest->data, rest->len, "}}", 2);
    if (close == NULL)
        return cs_fail(e, CS_INVALID, "agent_path_template: \"{{\" without \"}}\"");
    const struct cs_slice action = cs_slice_of(open + 2, (size_t)(close - open) - 2);
    *out = (struct piece){.is_field = true};
    if (!field_name(action, &out->text))
        return cs_fail(e, CS_INVALID,
                       "agent_path_template: \"{{%.*s}}\" is not a field: only \"{{ .Name }}\" is taken",
                       (int)(action.len < 64 ? action.len : 64), (const char *)action.data);
    *rest = cs_slice_of(close + 2, rest->len - action.len - 4);
    return CS_OK;
}

/* PCR0 to PCR31; false for any other name. */
static bool pcr_index(struct cs_slice name, size_t *out)
{
    size_t n = 0;
    if (name.len < 4 || name.len > 5 || memcmp(name.data, "PCR", 3) != 0)
        return false;
    for (size_t i = 3; i < name.len; i++) {
        if (name.data[i] < '0' || name.data[i] > '9')
            return false;
        n = n * 10 + (size_t)(name.data[i] - '0');
    }
    *out = n;
    return n < NITRO_PCR_COUNT && (name.len == 4 || n >= 10);
}

static cs_code add_field(const struct nitro_document *d, struct cs_slice name, struct cs_buf *out,
                         struct cs_err *e)
{
    struct cs_slice instance = {0}, enclave = {0};
    size_t pcr;
    const size_t before = out->len;
    (void)nitro_module_id_split(d->module_id, &instance, &enclave);
    if (pcr_index(name, &pcr))
        cs_hex_encode(out, d->pcrs[pcr]);
    else if (cs_slice_is(name, "PluginName"))
        cs_buf_add_str(out, NITRO_ATTESTOR);
    else if (cs_slice_is(name, "ModuleID"))
        cs_buf_add_slice(out, d->module_id);
    else if (cs_slice_is(name, "InstanceID"))
        cs_buf_add_slice(out, instance);
    else if (cs_slice_is(name, "EnclaveID"))
        cs_buf_add_slice(out, enclave);
    else
        return cs_fail(e, CS_INVALID, "agent_path_template: unknown field \"%.*s\"",
                       (int)(name.len < 64 ? name.len : 64), (const char *)name.data);
    if (out->len == before && cs_buf_ok(out))
        return cs_fail(e, CS_DENIED, "agent_path_template: the document has no %.*s", (int)name.len,
                       (const char *)name.data);
    return CS_OK;
}

static cs_code render(const char *template, const struct nitro_document *d, struct cs_buf *out,
                      bool *names_image, struct cs_err *e)
{
    struct cs_slice rest = cs_slice_str(template);
    *names_image = false;
    if (rest.len > NITRO_PATH_TEMPLATE_MAX)
        return cs_fail(e, CS_INVALID, "agent_path_template is longer than %d bytes", NITRO_PATH_TEMPLATE_MAX);
    while (rest.len > 0) {
        struct piece p = {0};
        CS_TRY(next_piece(&rest, &p, e));
        if (!p.is_field) {
            cs_buf_add_slice(out, p.text);
            continue;
        }
        *names_image = *names_image || cs_slice_is(p.text, "PCR0");
        CS_TRY(add_field(d, p.text, out, e));
    }
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code nitro_path_check(const char *template, bool *names_image, struct cs_err *e)
{
    static const uint8_t pcr[48];
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    struct cs_err local = {0}; /* cs_wrap needs one to keep the code */
    struct nitro_document d = {.module_id = cs_slice_str("i-0123456789abcdef0-enc0123456789abcdef")};
    bool named;
    for (size_t i = 0; i < NITRO_PCR_COUNT; i++)
        d.pcrs[i] = cs_slice_of(pcr, sizeof pcr);
    CS_TRY(render(template, &d, &path, names_image != NULL ? names_image : &named, e));
    if (path.len == 0)
        return cs_fail(e, CS_INVALID, "agent_path_template: gives an empty path");
    if (spiffe_path_check(cs_buf_slice(&path), &local) != CS_OK)
        return cs_fail(e, CS_INVALID, "agent_path_template: %s", local.text);
    return CS_OK;
}

cs_code nitro_path_render(const char *template, const struct nitro_document *d, struct cs_buf *out,
                          struct cs_err *e)
{
    const size_t start = out->len;
    bool named;
    struct cs_err local = {0};
    CS_TRY(render(template, d, out, &named, e));
    if (spiffe_path_check(cs_slice_of(out->data + start, out->len - start), &local) != CS_OK)
        return cs_fail(e, CS_DENIED, "agent_path_template: %s", local.text);
    return CS_OK;
}
