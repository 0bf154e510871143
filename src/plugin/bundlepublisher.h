/* SPDX-License-Identifier: Apache-2.0
 *
 * BundlePublisher plugins: bring the trust bundle to where others read it
 * (spire.plugin.server.bundlepublisher.v1 of SPIRE's plugin SDK).
 */
#ifndef CS_PLUGIN_BUNDLEPUBLISHER_H
#define CS_PLUGIN_BUNDLEPUBLISHER_H

#include "plugin/plugin.h"
#include "spiffe/bundle.h"

struct bundlepublisher_ops {
    /* Blocking; one call of a plugin at a time. A bundle that was published already is no failure. */
    CS_CHECKED cs_code (*publish)(void *self, const struct spiffe_bundle *bundle, struct cs_err *e);
};

#endif
