/* SPDX-License-Identifier: Apache-2.0
 *
 * Notifier plugins: told about changes of the trust bundle (spire.plugin.server.notifier.v1 of SPIRE's
 * plugin SDK).
 */
#ifndef CS_PLUGIN_NOTIFIER_H
#define CS_PLUGIN_NOTIFIER_H

#include "plugin/plugin.h"
#include "spiffe/bundle.h"

struct notifier_ops {
    /* The bundle changed. What it answers changes nothing. */
    CS_CHECKED cs_code (*bundle_updated)(void *self, const struct spiffe_bundle *bundle, struct cs_err *e);
    /* The bundle was loaded at the start of the server; a failure stops the start. */
    CS_CHECKED cs_code (*bundle_loaded)(void *self, const struct spiffe_bundle *bundle, struct cs_err *e);
};
/* Blocking; one call of a plugin at a time. CS_UNIMPLEMENTED: the plugin does not care for it, no failure. */

#endif
