/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as lines of /proc/PID/cgroup and /proc/PID/mountinfo: no crash; what is found lies inside the
 * line and looks as it should; both ways to find a container agree on what an ID is.
 */
#include "plugins/shared/containers/locate.h"
#include "plugins/shared/containers/matchers.h"

#include <ctype.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct cs_slice part, struct cs_slice whole)
{
    if (part.len > 0 && (part.data < whole.data || part.data + part.len > whole.data + whole.len))
        abort();
}

static void check_place(const struct container_place *p, struct cs_slice path)
{
    if (p->id[0] == '\0') {
        if (p->pod_uid[0] != '\0')
            abort();
        return;
    }
    if (strlen(p->id) != CONTAINER_ID_LEN || memmem(path.data, path.len, p->id, CONTAINER_ID_LEN) == NULL)
        abort();
    for (size_t i = 0; i < CONTAINER_ID_LEN; i++)
        if (isxdigit((unsigned char)p->id[i]) == 0)
            abort();
    if (p->pod_uid[0] != '\0' && (strlen(p->pod_uid) < 32 || strlen(p->pod_uid) > CONTAINER_POD_LEN))
        abort();
}

static void look_at(struct cs_slice path, struct container_place *sum)
{
    static const char *const patterns[] = {"/docker/<id>", "/my.slice/*/<id>/*"};
    struct container_place p;
    struct cs_slice id = {0};
    struct cs_err e;
    container_place_of_path(path, true, &p);
    check_place(&p, path);
    if (container_place_add(sum, &p, &e) != CS_OK && e.code != CS_PRECONDITION)
        abort();
    bool found = container_place_of_path_legacy(path, &p);
    if (found != (p.id[0] != '\0'))
        abort();
    check_place(&p, path);
    if (container_matchers_find(patterns, 2, path, &id))
        inside(id, path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct container_place sum = {0};
    struct cs_rd r = cs_rd_of(cs_slice_of(data, size));
    while (cs_rd_left(&r) > 0) {
        const uint8_t *eol = memchr(r.p, '\n', cs_rd_left(&r));
        size_t n = eol != NULL ? (size_t)(eol - r.p) : cs_rd_left(&r);
        struct cs_slice line = cs_slice_of(r.p, n), path;
        struct container_mount m;
        struct cs_err e;
        if (container_cgroup_line(line, &path, &e) == CS_OK) {
            inside(path, line);
            look_at(path, &sum);
        }
        if (container_mountinfo_line(line, &m, &e) == CS_OK) {
            inside(m.root, line);
            inside(m.type, line);
            look_at(m.root, &sum);
        }
        r.p += n + (eol != NULL);
    }
    return 0;
}
