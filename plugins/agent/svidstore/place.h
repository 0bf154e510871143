/* SPDX-License-Identifier: Apache-2.0
 *
 * Selectors of SVIDStore "disk" (docs/plugins/agent-svidstore-disk.md): which files, whose, and who is told.
 */
#ifndef CS_PLUGINS_SVIDSTORE_PLACE_H
#define CS_PLUGINS_SVIDSTORE_PLACE_H

#include "base/mem.h"
#include "config/plugin_config.h"

#include <sys/types.h>

enum { DISK_CHAIN, DISK_KEY, DISK_BUNDLE, DISK_FILES };

/* Strings are of the arena, of the metadata or of the configuration. */
struct disk_place {
    const char *base; /* one of the configured directories */
    const char *dir;  /* inside of it; "": itself */
    const char *names[DISK_FILES];
    /* Of disk_place_options: */
    mode_t modes[DISK_FILES];
    int64_t uid, gid; /* -1: the agent's */
    bool with_federated;
    const struct config_svidstore_hook *hook; /* NULL: none */
};

/* The paths only, as deleting needs them. CS_INVALID. */
CS_CHECKED cs_code disk_place_paths(const char *const *metadata, size_t count,
                                    const struct config_svidstore_disk *cfg, struct cs_arena *a,
                                    struct disk_place *out, struct cs_err *e);
/* The rest. Looks users and groups up. CS_INVALID, also for selectors that are none; CS_NOT_FOUND: a user or
 * group that is not there. */
CS_CHECKED cs_code disk_place_options(const char *const *metadata, size_t count,
                                      const struct config_svidstore_disk *cfg, struct disk_place *out,
                                      struct cs_err *e);

#endif
