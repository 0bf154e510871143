/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of the agent's SVIDStore "sconecas_sessionmanager", with the names of the plugin of UFCG.
 */
#include "config/plugin_config.h"

#include <strings.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct sconecas_file {
    const char *cas_connection_string, *cas_client_certificate, *cas_client_key, *trust_anchor_certificate;
    const char *cas_predecessor_dir, *svid_template, *bundle_template, *federated_template;
    struct config_bool insecure_skip_verify_tls;
};
#define AT(field) offsetof(struct sconecas_file, field)
static const struct config_option sconecas_options[] = {
    {"cas_connection_string", CONFIG_STRING, CONFIG_READY, AT(cas_connection_string), NULL,
     "Where the CAS is, `https://HOST:PORT`. Needed.", NULL},
    {"cas_client_certificate", CONFIG_STRING, CONFIG_READY, AT(cas_client_certificate), NULL,
     "PEM file with the certificate that the CAS knows us by. Needed.", NULL},
    {"cas_client_key", CONFIG_STRING, CONFIG_READY, AT(cas_client_key), NULL,
     "PEM file with its private key. Needed.", NULL},
    {"trust_anchor_certificate", CONFIG_STRING, CONFIG_READY, AT(trust_anchor_certificate), NULL,
     "PEM file with the certificates that the CAS's own must come from. Needed, also when it is not "
     "verified.",
     NULL},
    {"insecure_skip_verify_tls", CONFIG_BOOL, CONFIG_READY, AT(insecure_skip_verify_tls), "false",
     "Take any server for the CAS. Whoever is in between then gets the private keys.", NULL},
    {"cas_predecessor_dir", CONFIG_STRING, CONFIG_READY, AT(cas_predecessor_dir), NULL,
     "Folder for the hashes of the sessions' last versions, made when it is not there. Needed.", NULL},
    {"svid_session_template_file", CONFIG_STRING, CONFIG_READY, AT(svid_template), NULL,
     "Template of the sessions with SVID and key. Needed.", NULL},
    {"bundle_session_template_file", CONFIG_STRING, CONFIG_READY, AT(bundle_template), NULL,
     "Template of the sessions with the trust domain's bundle. Needed.", NULL},
    {"federated_bundles_session_template_file", CONFIG_STRING, CONFIG_READY, AT(federated_template), NULL,
     "Template of the sessions with bundles of federated trust domains. Needed, also without federation.",
     NULL},
};
#undef AT
const struct config_section config_sconecas_section = {.title = "sconecas_sessionmanager",
                                                       .size = sizeof(struct sconecas_file),
                                                       .given = CONFIG_NO_OFFSET,
                                                       .unknown = CONFIG_NO_OFFSET,
                                                       .options = sconecas_options,
                                                       .count = COUNT(sconecas_options)};

static cs_code check(const struct config_sconecas *c, struct cs_err *e)
{
    const struct {
        const char *name, *value;
    } needed[] = {
        {"cas_connection_string", c->cas_connection_string},
        {"cas_client_certificate", c->cas_client_certificate},
        {"cas_client_key", c->cas_client_key},
        {"trust_anchor_certificate", c->trust_anchor_certificate},
        {"cas_predecessor_dir", c->cas_predecessor_dir},
        {"svid_session_template_file", c->svid_session_template_file},
        {"bundle_session_template_file", c->bundle_session_template_file},
        {"federated_bundles_session_template_file", c->federated_bundles_session_template_file},
    };
    for (size_t i = 0; i < COUNT(needed); i++)
        if (*needed[i].value == '\0')
            return cs_fail(e, CS_INVALID, "%s is required", needed[i].name);
    if (strncasecmp(c->cas_connection_string, "https://", 8) != 0 || c->cas_connection_string[8] == '\0')
        return cs_fail(e, CS_INVALID, "cas_connection_string must begin with https://");
    return CS_OK;
}

static const char *or_empty(const char *s)
{
    return s != NULL ? s : "";
}

cs_code config_read_sconecas(struct cs_slice text, struct cs_arena *a, struct config_sconecas *out,
                             struct cs_err *e)
{
    struct sconecas_file f = {0};
    struct hcl_items items;
    *out = (struct config_sconecas){0};
    cs_code code = hcl_parse(text, a, &items, e);
    if (code == CS_OK)
        code = config_decode(&config_sconecas_section, items, "root", a, &f, e);
    if (code != CS_OK)
        return code == CS_INVALID ? cs_wrap(e, "unable to decode configuration") : code;
    *out = (struct config_sconecas){
        .cas_connection_string = or_empty(f.cas_connection_string),
        .cas_client_certificate = or_empty(f.cas_client_certificate),
        .cas_client_key = or_empty(f.cas_client_key),
        .trust_anchor_certificate = or_empty(f.trust_anchor_certificate),
        .cas_predecessor_dir = or_empty(f.cas_predecessor_dir),
        .svid_session_template_file = or_empty(f.svid_template),
        .bundle_session_template_file = or_empty(f.bundle_template),
        .federated_bundles_session_template_file = or_empty(f.federated_template),
        .insecure_skip_verify_tls = f.insecure_skip_verify_tls.value,
    };
    return check(out, e);
}
