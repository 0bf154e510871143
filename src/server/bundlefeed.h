/* SPDX-License-Identifier: Apache-2.0
 *
 * Brings our trust bundle to the Notifier and BundlePublisher plugins: when the server has started, and after
 * each change (SPIRE's pkg/server/ca/manager and pkg/server/bundle/pubmanager).
 *
 * Each plugin is fed by itself, one call at a time, on a thread of its own: a slow one holds up neither the
 * others nor the server. Nothing queues up: a plugin that is busy gets the latest bundle when it is done.
 */
#ifndef CS_SERVER_BUNDLEFEED_H
#define CS_SERVER_BUNDLEFEED_H

#include "base/log.h"
#include "plugin/catalog.h"
#include "server/bundlestore.h"

struct bundlefeed;

/* Everything is borrowed. */
struct bundlefeed_config {
    const struct catalog *catalog;
    struct bundlestore *bundles;
    const char *trust_domain; /* name */
    struct cs_log log;
    /* A notifier refused the bundle that was loaded: the server is to end with this error,
     * `one or more notifiers returned an error: ...`. On any thread, once for each that does. */
    void (*refused)(void *arg, const struct cs_err *e);
    void *arg;
};
/* Before other threads use the bundle store. */
CS_CHECKED cs_code bundlefeed_new(const struct bundlefeed_config *cfg, struct bundlefeed **out,
                                  struct cs_err *e);
/* When nobody changes bundles any more, before the store is freed; waits for calls under way. NULL is fine.
 */
void bundlefeed_free(struct bundlefeed *f);
static inline void bundlefeed_drop(struct bundlefeed **f)
{
    bundlefeed_free(*f);
    *f = NULL;
}

/* Tell the notifiers that the bundle is loaded, and publish it. Changes from before are not told. Once. Does
 * not wait. */
void bundlefeed_start(struct bundlefeed *f);
/* From now on nobody is told anything. */
void bundlefeed_stop(struct bundlefeed *f);
/* From time to time: publish again, which publishers use to repair what others broke, and tell notifiers that
 * were not there the last time. Does not wait. False: there is nobody, and never will be. */
bool bundlefeed_refresh(struct bundlefeed *f);
#define BUNDLEFEED_REFRESH_NS (30 * CS_NS_PER_S)

#endif
