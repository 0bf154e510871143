/* SPDX-License-Identifier: Apache-2.0
 *
 * A few files that are replaced together: certificate, key and bundle of an X509-SVID, for programs that do
 * not speak the Workload API. Each name in the folder is a link to `..data/NAME`, `..data` is a link to a
 * folder of one generation, and what changes is that link alone (as Kubernetes does for the volumes it
 * projects). So at any moment certificate and key fit, and who opens the folder `..data` once and reads in
 * there, or reads the certificate again after the key and finds it the same, has a pair. The generation
 * before stays until the next one, for those who are still reading it.
 *
 * One set and one writer per folder; one thread at a time.
 */
#ifndef CS_BASE_FILESET_H
#define CS_BASE_FILESET_H

#include "base/buf.h"

#include <stdint.h>
#include <sys/types.h>

struct cs_fileset_file {
    const char *name; /* no slash, no dot in front */
    struct cs_slice data;
    mode_t mode;
};
struct cs_fileset {
    /* NULL: `dir` is taken as it is, and what has one of the names is replaced whatever it is. Else a folder
     * that is there: `dir` is inside of it, no link on the way from it to `dir` is followed, and names that
     * somebody else's files have are an error. */
    const char *base;
    const char
        *dir; /* made when it is missing, with mode 0755; with base: relative to it, "" is base itself */
    const struct cs_fileset_file *files;
    size_t count;
    int64_t uid, gid; /* who owns the files; -1: this process */
};

/* Each file is on disk before anybody sees it. On failure what was there is still there. CS_EXHAUSTED: the
 * disk is full; with base: CS_INVALID: `dir` has an empty part, "." or ".."; CS_PRECONDITION: a file of
 * somebody else, or a link on the way. */
CS_CHECKED cs_code cs_fileset_write(const struct cs_fileset *f, struct cs_err *e);
/* No files any more, nor older generations; data and modes are not looked at. CS_OK when there were none.
 * With base what is not ours stays. */
CS_CHECKED cs_code cs_fileset_remove(const struct cs_fileset *f, struct cs_err *e);
/* All names are there and ours, and lead to files. */
bool cs_fileset_present(const struct cs_fileset *f);

#endif
