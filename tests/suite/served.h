/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the files of suite_plugin: operations tables of ours served through the plugin kit.
 */
#ifndef CS_SUITE_SERVED_H
#define CS_SUITE_SERVED_H

#include "cspire/plugin.h"
#include "plugin/plugin.h"

/* self of the kit; the plugin is made at the first configuration, which brings the trust domain. */
struct served {
    const void *ops; /* of the plugin */
    struct plugin_env env;
    char *trust_domain;
    void *self;
};

static inline enum cspire_code served_pass(struct cspire_call *call, cs_code code, const struct cs_err *e)
{
    return code == CS_OK ? CSPIRE_OK : cspire_fail(call, (enum cspire_code)code, "%s", e->text);
}
static inline struct cs_slice served_slice(struct cspire_bytes b)
{
    return cs_slice_of(b.data, b.len);
}
static inline struct cspire_bytes served_bytes(struct cs_slice s)
{
    return (struct cspire_bytes){.data = s.data, .len = s.len};
}

extern const struct cspire_notifier_ops served_notifier;
extern const struct cspire_bundle_publisher_ops served_bundle_publisher;
extern const struct cspire_credential_composer_ops served_credential_composer;
extern const struct cspire_svid_store_ops served_svid_store;
/* The reference attestor alone: its operation drives the conversation, the kit's are driven by it. */
extern const struct cspire_agent_node_attestor_ops served_agent_node_attestor;

#endif
