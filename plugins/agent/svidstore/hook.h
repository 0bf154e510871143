/* SPDX-License-Identifier: Apache-2.0
 *
 * Telling a program that its SVID was replaced: by a command, by a signal.
 */
#ifndef CS_PLUGINS_SVIDSTORE_HOOK_H
#define CS_PLUGINS_SVIDSTORE_HOOK_H

#include "config/plugin_config.h"
#include "crypto/key.h"

/* Runs the command, then sends the signal. Blocks for up to the hook's timeout. The command has of our
 * environment PATH, HOME, LANG and TZ, and SPIFFE_ID and SVID_DIR besides; what it prints first is in the
 * error text. CS_NOT_FOUND: there is no such process to be told, or no pid file; CS_DEADLINE; CS_DENIED: the
 * pid file is not to be trusted; CS_CANCELLED; CS_INTERNAL: the command failed. */
CS_CHECKED cs_code disk_hook_run(const struct config_svidstore_hook *h, const char *spiffe_id,
                                 const char *dir, const struct crypto_stop *stop, struct cs_err *e);

#endif
