/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/shared/containers/locate.h"

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_word(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Cuts the last segment off; false when it is empty, which ends every search. */
static bool last_segment(struct cs_slice *rest, struct cs_slice *segment)
{
    size_t at = rest->len;
    while (at > 0 && rest->data[at - 1] != '/')
        at--;
    *segment = cs_slice_of(rest->data + at, rest->len - at);
    rest->len = at > 0 ? at - 1 : 0;
    return segment->len > 0;
}

/* A word of 64 hex digits; *at is where it begins. */
static bool find_id(struct cs_slice s, size_t *at)
{
    for (size_t i = 0; i < s.len;) {
        size_t n = 0, digits = 0;
        for (; i + n < s.len && is_word(s.data[i + n]); n++)
            digits += is_hex(s.data[i + n]);
        if (n == CONTAINER_ID_LEN && digits == n) {
            *at = i;
            return true;
        }
        i += n + 1;
    }
    return false;
}

/* 8-4-4-4-12 hex digits with `-` or `_` between (systemd allows no dash there). */
static bool is_uid(const uint8_t *p)
{
    for (size_t i = 0; i < CONTAINER_POD_LEN; i++) {
        bool gap = i == 8 || i == 13 || i == 18 || i == 23;
        if (gap ? p[i] != '-' && p[i] != '_' : !is_hex(p[i]))
            return false;
    }
    return true;
}

/* "podUID" as a word of its own. */
static bool find_pod(struct cs_slice s, char out[CONTAINER_POD_LEN + 1])
{
    for (size_t i = 0; i + 3 + CONTAINER_POD_LEN <= s.len; i++) {
        const uint8_t *uid = s.data + i + 3;
        size_t end = i + 3 + CONTAINER_POD_LEN;
        if ((i > 0 && is_word(s.data[i - 1])) || memcmp(s.data + i, "pod", 3) != 0 || !is_uid(uid) ||
            (end < s.len && is_word(s.data[end])))
            continue;
        for (size_t k = 0; k < CONTAINER_POD_LEN; k++)
            out[k] = uid[k] == '_' ? '-' : (char)uid[k];
        out[CONTAINER_POD_LEN] = '\0';
        return true;
    }
    return false;
}

/* From the last segment to the first: the container's ID, and from what is in front of it in the same
 * segment on, the pod's. */
void container_place_of_path(struct cs_slice path, bool pods, struct container_place *out)
{
    struct cs_slice segment;
    size_t at = 0;
    bool found = false;
    *out = (struct container_place){0};
    while (!found && last_segment(&path, &segment))
        found = find_id(segment, &at);
    if (!found)
        return;
    memcpy(out->id, segment.data + at, CONTAINER_ID_LEN);
    segment.len = at;
    if (!pods || (segment.len == 0 && !last_segment(&path, &segment)))
        return;
    while (!find_pod(segment, out->pod_uid))
        if (!last_segment(&path, &segment))
            return;
}

cs_code container_place_add(struct container_place *sum, const struct container_place *next, struct cs_err *e)
{
    if (sum->pod_uid[0] != '\0' && next->pod_uid[0] == '\0')
        return CS_OK;
    if (sum->pod_uid[0] == '\0' && next->pod_uid[0] != '\0')
        *sum = *next;
    if (strcmp(sum->pod_uid, next->pod_uid) != 0)
        return cs_fail(e, CS_PRECONDITION, "multiple pod UIDs found (\"%s\", \"%s\")", sum->pod_uid,
                       next->pod_uid);
    if (sum->id[0] != '\0' && strcmp(sum->id, next->id) != 0)
        return cs_fail(e, CS_PRECONDITION, "multiple container IDs found (\"%s\", \"%s\")", sum->id,
                       next->id);
    *sum = *next;
    return CS_OK;
}

/* --- The files --- */

struct search {
    struct container_place sum;
    bool pods;
    const struct cs_log *verbose;
};

static void tell(const struct search *s, const char *msg, size_t index, const char *key, struct cs_slice text,
                 struct cs_slice type)
{
    if (s->verbose == NULL || !cs_log_on(s->verbose, CS_LOG_DEBUG))
        return;
    CS_CLEANUP(cs_buf_free) struct cs_buf shown = {0}, kind = {0};
    cs_buf_add_slice(&shown, text);
    cs_buf_add_slice(&kind, type);
    cs_log_debug(s->verbose, msg, KV_INT("index", (int64_t)index), KV(key, cs_buf_cstr(&shown)),
                 type.len > 0 ? KV("type", cs_buf_cstr(&kind)) : (struct cs_kv){0});
}

static cs_code look_at(struct search *s, struct cs_slice path, struct cs_err *e)
{
    struct container_place next;
    container_place_of_path(path, s->pods, &next);
    return container_place_add(&s->sum, &next, e);
}

static cs_code on_cgroup(void *arg, size_t index, struct cs_slice path, struct cs_err *e)
{
    struct search *s = arg;
    tell(s, "PID cgroup enumerated", index, "path", path, (struct cs_slice){0});
    return look_at(s, path, e);
}

/* A whole hierarchy that is mounted, root "/", says nothing about who mounted it. */
static cs_code on_mount(void *arg, size_t index, const struct container_mount *m, struct cs_err *e)
{
    struct search *s = arg;
    tell(s, "PID mount enumerated", index, "root", m->root, m->type);
    if ((!cs_slice_is(m->type, "cgroup") && !cs_slice_is(m->type, "cgroup2")) || cs_slice_is(m->root, "/"))
        return CS_OK;
    return look_at(s, m->root, e);
}

cs_code container_locate(const char *proc, pid_t pid, bool pods, const struct cs_log *verbose,
                         struct container_place *out, struct cs_err *e)
{
    struct search s = {.pods = pods, .verbose = verbose};
    *out = (struct container_place){0};
    cs_code rc = container_each_cgroup(proc, pid, "unable to obtain cgroups", on_cgroup, &s, e);
    if (rc != CS_OK && rc != CS_NOT_FOUND)
        return rc;
    if (s.sum.id[0] == '\0') {
        s.sum = (struct container_place){0};
        rc = container_each_mount(proc, pid, on_mount, &s, e);
        if (rc != CS_OK && rc != CS_NOT_FOUND)
            return rc;
    }
    *out = s.sum;
    return CS_OK;
}
