/* SPDX-License-Identifier: Apache-2.0
 *
 * What a configuration of the plugin comes to once its files are read: the CAS, and three templates.
 */
#ifndef CS_MODULES_SCONECAS_SETTINGS_H
#define CS_MODULES_SCONECAS_SETTINGS_H

#include "plugin/settings.h"
#include "plugins/modules/sconecas/session.h"

/* Of the plugin's slot. */
struct scone_settings {
    struct scone_cas *cas;
    struct scone_template *templates[SCONE_KINDS];
};
/* Reads the configuration (plugin_data) and all files it names, and makes the folder of predecessors. What
 * may be wrong with a template is logged. *out: the caller's reference. CS_INVALID, or what the file or
 * folder gave. */
CS_CHECKED cs_code scone_settings_new(struct cs_slice data, const struct cs_log *log,
                                      struct scone_settings **out, struct cs_err *e);

#endif
