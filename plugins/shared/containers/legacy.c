/* SPDX-License-Identifier: Apache-2.0
 *
 * The patterns that SPIRE's k8s attestor looked for in cgroup paths before it had the locator:
 *
 *   PUNCT pod UID PUNCT (NOT-PUNCT+ PUNCT)* ID END, where the groups of the UID may stand together
 *   (NOT-PUNCT or /)* crio PUNCT ID END, with no pod right in front of it
 *
 * A path that fits both is nobody's.
 */
#include "plugins/shared/containers/locate.h"

#include <ctype.h>

static bool is_hex(uint8_t c)
{
    return c < 0x80 && isxdigit(c) != 0;
}

static bool is_punct(uint8_t c)
{
    return c < 0x80 && ispunct(c) != 0;
}

/* Punctuation to Unicode, which has some of ASCII's among the symbols. */
static bool is_gap(uint8_t c)
{
    return is_punct(c) && strchr("$+<=>^`|~", c) == NULL;
}

/* How many bytes from `at` on are a UID, whose groups may have a mark between; 0: none. */
static size_t uid_at(struct cs_slice s, size_t at)
{
    static const size_t groups[] = {8, 4, 4, 4, 12};
    size_t i = at;
    for (size_t g = 0; g < 5; g++) {
        if (g > 0 && i < s.len && is_punct(s.data[i]))
            i++;
        for (size_t k = 0; k < groups[g]; k++, i++)
            if (i >= s.len || !is_hex(s.data[i]))
                return 0;
    }
    return i - at;
}

/* "podUID" and a mark at `at`: where that ends; 0: it is not there. */
static size_t pod_end(struct cs_slice s, size_t at)
{
    if (at + 3 > s.len || memcmp(s.data + at, "pod", 3) != 0)
        return 0;
    size_t n = uid_at(s, at + 3);
    size_t end = at + 3 + n;
    return n > 0 && end < s.len && is_punct(s.data[end]) ? end + 1 : 0;
}

static bool ends_with_id(struct cs_slice s)
{
    if (s.len < CONTAINER_ID_LEN)
        return false;
    for (size_t i = s.len - CONTAINER_ID_LEN; i < s.len; i++)
        if (!is_hex(s.data[i]))
            return false;
    return true;
}

/* From `at` to the ID: words with one mark behind each. */
static bool words_until_id(struct cs_slice s, size_t at)
{
    size_t id = s.len - CONTAINER_ID_LEN;
    if (at > id)
        return false;
    for (bool word = false; at < id; at++) {
        if (is_punct(s.data[at]) && !word)
            return false;
        word = !is_punct(s.data[at]);
        if (at + 1 == id && word)
            return false;
    }
    return true;
}

static bool in_pod(struct cs_slice s, struct container_place *out)
{
    for (size_t i = 0; i + 1 < s.len; i++) {
        size_t end = is_punct(s.data[i]) ? pod_end(s, i + 1) : 0;
        if (end == 0 || !words_until_id(s, end))
            continue;
        size_t n = end - 1 - (i + 4);
        for (size_t k = 0; k < n; k++) {
            uint8_t c = s.data[i + 4 + k];
            out->pod_uid[k] = is_gap(c) ? '-' : (char)c;
        }
        out->pod_uid[n] = '\0';
        return true;
    }
    return false;
}

static bool plain(struct cs_slice s, size_t from, size_t to)
{
    for (; from < to; from++)
        if (is_punct(s.data[from]) && s.data[from] != '/')
            return false;
    return from == to;
}

static bool in_crio(struct cs_slice s)
{
    if (s.len < CONTAINER_ID_LEN + 5)
        return false;
    size_t crio = s.len - CONTAINER_ID_LEN - 5;
    if (memcmp(s.data + crio, "crio", 4) != 0 || !is_punct(s.data[crio + 4]))
        return false;
    for (size_t i = 0; i <= crio; i++) {
        size_t end = pod_end(s, i);
        if (end > 0 && plain(s, end, crio))
            return false;
        if (plain(s, i, crio))
            return true;
    }
    return false;
}

bool container_place_of_path_legacy(struct cs_slice path, struct container_place *out)
{
    static const char scope[] = ".scope";
    const size_t n = sizeof scope - 1;
    *out = (struct container_place){0};
    if (path.len >= n && memcmp(path.data + path.len - n, scope, n) == 0)
        path.len -= n;
    if (!ends_with_id(path))
        return false;
    bool pod = in_pod(path, out);
    if (pod == in_crio(path)) {
        *out = (struct container_place){0};
        return false;
    }
    memcpy(out->id, path.data + path.len - CONTAINER_ID_LEN, CONTAINER_ID_LEN);
    return true;
}

static cs_code on_cgroup(void *arg, size_t index, struct cs_slice path, struct cs_err *e)
{
    struct container_place *sum = arg, next;
    (void)index;
    if (!container_place_of_path_legacy(path, &next))
        return CS_OK;
    if (sum->id[0] == '\0')
        *sum = next;
    if (strcmp(sum->id, next.id) != 0)
        return cs_fail(e, CS_PRECONDITION, "multiple container IDs found in cgroups (%s, %s)", sum->id,
                       next.id);
    if (strcmp(sum->pod_uid, next.pod_uid) != 0)
        return cs_fail(e, CS_PRECONDITION, "multiple pod UIDs found in cgroups (%s, %s)", sum->pod_uid,
                       next.pod_uid);
    return CS_OK;
}

cs_code container_locate_legacy(const char *proc, pid_t pid, struct container_place *out, struct cs_err *e)
{
    struct container_place sum = {0};
    *out = sum;
    cs_code rc = container_each_cgroup(proc, pid, "unable to obtain cgroups", on_cgroup, &sum, e);
    if (rc == CS_NOT_FOUND) {
        if (e != NULL)
            e->code = CS_INTERNAL;
        return CS_INTERNAL;
    }
    CS_TRY(rc);
    *out = sum;
    return CS_OK;
}
