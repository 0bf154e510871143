/* SPDX-License-Identifier: Apache-2.0
 *
 * What /proc says about the cgroups and mounts of a process: /proc/PID/cgroup (cgroups(7)) and
 * /proc/PID/mountinfo (proc(5)). The first is the kernel's word; the second is up to who set up the process's
 * mount namespace. Files are read line by line and never held whole.
 */
#ifndef CS_SHARED_CONTAINERS_PROC_H
#define CS_SHARED_CONTAINERS_PROC_H

#include "base/buf.h"

#include <sys/types.h>

#define CONTAINER_LINE_MAX ((size_t)64 * 1024) /* bytes of a line, as SPIRE's reader has it */
#define CONTAINER_FILE_MAX ((size_t)64 << 20)  /* bytes of a file */

/* Where /proc is: $HOST_PROC, else "/proc". Static or the environment's string. */
const char *container_proc(void);

/* The next segment of a path, between slashes; false at its end, where rest->p is NULL. "/a" has two: "" and
 * "a". */
bool container_next_segment(struct cs_rd *rest, struct cs_slice *out);

/* The path of one line "hierarchy-ID:controller-list:cgroup-path"; views the line. CS_INVALID with SPIRE's
 * text: `invalid cgroup entry, contains 2 colon separated fields but expected at least 3: "..."`. */
CS_CHECKED cs_code container_cgroup_line(struct cs_slice line, struct cs_slice *path, struct cs_err *e);

/* The fields of a mountinfo line that are looked at; they view the line. */
struct container_mount {
    struct cs_slice root, type; /* "/docker/0123...", "cgroup2" */
};
/* CS_INVALID with SPIRE's texts. */
CS_CHECKED cs_code container_mountinfo_line(struct cs_slice line, struct container_mount *out,
                                            struct cs_err *e);

/* Called with each line in turn, `index` counted from 1; a code but CS_OK ends it with that. */
typedef CS_CHECKED cs_code (*container_cgroup_fn)(void *arg, size_t index, struct cs_slice path,
                                                  struct cs_err *e);
typedef CS_CHECKED cs_code (*container_mount_fn)(void *arg, size_t index, const struct container_mount *m,
                                                 struct cs_err *e);

/* CS_NOT_FOUND: there is no such file, `open /proc/1/cgroup: no such file or directory`; CS_INTERNAL: it
 * cannot be read, or a line is malformed or too long. `before` is put in front of these texts, unless it is
 * "". Any thread. */
CS_CHECKED cs_code container_each_cgroup(const char *proc, pid_t pid, const char *before,
                                         container_cgroup_fn fn, void *arg, struct cs_err *e);
CS_CHECKED cs_code container_each_mount(const char *proc, pid_t pid, container_mount_fn fn, void *arg,
                                        struct cs_err *e);

#endif
