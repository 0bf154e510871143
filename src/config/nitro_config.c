/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of the server's NodeAttestor "nitro_enclave". Unlike SPIRE's plugins it refuses unknown ones: a
 * misspelt require_key_binding must not go by unseen.
 */
#include "config/plugin_config.h"

#include "base/text.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define PCR0_BYTES 48 /* SHA-384, the one digest of attestation documents */

struct nitro_file {
    const char *root_ca_path, *max_age, *agent_path_template;
    struct config_bool allow_debug, require_key_binding;
    struct config_strings allowed_pcr0, unknown;
};
#define AT(field) offsetof(struct nitro_file, field)
static const struct config_option nitro_options[] = {
    {"root_ca_path", CONFIG_STRING, CONFIG_READY, AT(root_ca_path), NULL,
     "PEM file with the roots that documents are trusted from, in place of AWS's root \"G1\" of the "
     "commercial "
     "regions, which is compiled in.",
     NULL},
    {"allow_debug", CONFIG_BOOL, CONFIG_READY, AT(allow_debug), "false",
     "Take enclaves in debug mode, whose PCR0 is zero and whose parent can read their console. For "
     "development only.",
     NULL},
    {"max_age", CONFIG_STRING, CONFIG_READY, AT(max_age), "5m",
     "How old the timestamp of a document may be, a positive duration.", NULL},
    {"allowed_pcr0", CONFIG_STRINGS, CONFIG_READY, AT(allowed_pcr0), NULL,
     "Images that may attest, as PCR0 in 96 hex digits each. Not given: any.", NULL},
    {"agent_path_template", CONFIG_STRING, CONFIG_READY, AT(agent_path_template),
     "/nitro-enclave/{{ .PCR0 }}", "Path of the agent ID below `/spire/agent`, with fields of the document.",
     NULL},
    {"require_key_binding", CONFIG_BOOL, CONFIG_READY, AT(require_key_binding), "false",
     "Take only documents that name the key the SVID is for, or answer a challenge. Enclaver's agent cannot "
     "do that.",
     NULL},
};
#undef AT
const struct config_section config_nitro_enclave_section = {.title = "nitro_enclave",
                                                            .strict = true,
                                                            .size = sizeof(struct nitro_file),
                                                            .given = CONFIG_NO_OFFSET,
                                                            .unknown = offsetof(struct nitro_file, unknown),
                                                            .options = nitro_options,
                                                            .count = COUNT(nitro_options)};

static cs_code read_max_age(const char *text, int64_t *out, struct cs_err *e)
{
    if (cs_duration_parse(cs_slice_str(text), out, e) != CS_OK)
        return cs_wrap(e, "max_age");
    return *out > 0 ? CS_OK : cs_fail(e, CS_INVALID, "max_age: \"%.64s\" is not positive", text);
}

/* The same digits in lower case. */
static cs_code read_pcr0(const char *text, struct cs_arena *a, const char **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf bytes = {0}, hex = {0};
    if (strlen(text) != 2 * PCR0_BYTES ||
        cs_hex_decode(&bytes, cs_slice_of(text, 2 * PCR0_BYTES), NULL) != CS_OK)
        return cs_fail(e, CS_INVALID, "allowed_pcr0: \"%.128s\" is not %d hex digits", text, 2 * PCR0_BYTES);
    cs_hex_encode(&hex, cs_buf_slice(&bytes));
    *out = cs_buf_ok(&hex) ? cs_arena_strndup(a, cs_buf_cstr(&hex), hex.len) : NULL;
    return *out == NULL ? cs_nomem(e) : CS_OK;
}

static cs_code read_allowed(const struct config_strings *in, struct cs_arena *a, struct config_strings *out,
                            struct cs_err *e)
{
    const char **at = cs_arena_alloc(a, (in->len + 1) * sizeof *at);
    if (at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < in->len; i++)
        CS_TRY(read_pcr0(in->at[i], a, &at[i], e));
    *out = (struct config_strings){at, in->len};
    return CS_OK;
}

cs_code config_read_nitro_enclave(struct cs_slice text, struct cs_arena *a, struct config_nitro_enclave *out,
                                  struct cs_err *e)
{
    struct nitro_file f = {0};
    struct hcl_items items;
    *out = (struct config_nitro_enclave){0};
    cs_code code = hcl_parse(text, a, &items, e);
    if (code == CS_OK)
        code = config_decode(&config_nitro_enclave_section, items, "root", a, &f, e);
    if (code != CS_OK)
        return code == CS_INVALID ? cs_wrap(e, "unable to decode configuration") : code;
    if (f.unknown.len > 0)
        return cs_fail(e, CS_INVALID, "unknown setting \"%.128s\" encountered", f.unknown.at[0]);
    out->root_ca_path = f.root_ca_path != NULL ? f.root_ca_path : "";
    out->agent_path_template = f.agent_path_template != NULL ? f.agent_path_template : "";
    out->allow_debug = f.allow_debug.value;
    out->require_key_binding = f.require_key_binding.value;
    CS_TRY(read_max_age(f.max_age != NULL ? f.max_age : "5m", &out->max_age_ns, e));
    return read_allowed(&f.allowed_pcr0, a, &out->allowed_pcr0, e);
}
