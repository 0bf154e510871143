/* SPDX-License-Identifier: Apache-2.0
 *
 * An X509-SVID, its key and its bundle as files for programs that do not speak the Workload API. The three
 * are replaced together: each name in the folder is a link to `..data/NAME`, `..data` is a link to a folder
 * of one generation, and what changes is that link alone (as Kubernetes does for the volumes it projects). So
 * at any moment certificate and key fit, and who opens the folder `..data` once and reads in there, or reads
 * the certificate again after the key and finds it the same, has a pair. The generation before stays until
 * the next one, for those who are still reading it.
 *
 * One writer per folder; one thread at a time.
 */
#ifndef CS_AGENT_SVIDFILES_H
#define CS_AGENT_SVIDFILES_H

#include "base/buf.h"

#include <stdint.h>

#define AGENT_SVID_FILES 3

struct agent_svid_files {
    const char *dir; /* absolute; made when it is missing, with mode 0755 */
    struct agent_svid_file {
        const char *name; /* no slash, no dot in front */
        struct cs_slice data;
    } at[AGENT_SVID_FILES];
    int64_t uid, gid; /* who owns the files; -1: this process */
};

/* The files with mode 0600, each on disk before anybody sees it. On failure what was there is still there. */
CS_CHECKED cs_code agent_svid_files_write(const struct agent_svid_files *f, struct cs_err *e);
/* No files any more, nor older generations; the data are not looked at. CS_OK when there were none. */
CS_CHECKED cs_code agent_svid_files_remove(const struct agent_svid_files *f, struct cs_err *e);

#endif
