/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/shared/containers/matchers.h"

#include "base/text.h"
#include "plugins/shared/containers/proc.h"

#define ANY "*"
#define ID "<id>"

static struct cs_rd segments_of(struct cs_slice s)
{
    /* a path without bytes has one segment, too */
    return s.data != NULL ? cs_rd_of(s) : cs_rd_of(cs_slice_str(""));
}

static bool is_wild(struct cs_slice segment)
{
    return cs_slice_is(segment, ANY) || cs_slice_is(segment, ID);
}

/* Is there a path that both fit? */
static bool overlap(const char *a, const char *b)
{
    struct cs_rd ra = segments_of(cs_slice_str(a)), rb = segments_of(cs_slice_str(b));
    struct cs_slice sa, sb;
    for (;;) {
        bool more = container_next_segment(&ra, &sa);
        if (more != container_next_segment(&rb, &sb))
            return false;
        if (!more)
            return true;
        if (!cs_slice_eq(sa, sb) && !is_wild(sa) && !is_wild(sb))
            return false;
    }
}

static bool overlaps_another(const char *const *patterns, size_t count, size_t i)
{
    for (size_t k = 0; k < count; k++)
        if (k != i && overlap(patterns[i], patterns[k]))
            return true;
    return false;
}

static bool seen_before(const char *const *patterns, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(patterns[k], patterns[i]) == 0)
            return true;
    return false;
}

static cs_code check_overlaps(const char *const *patterns, size_t count, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    for (size_t i = 0; i < count; i++) {
        if (!overlaps_another(patterns, count, i) || seen_before(patterns, i))
            continue;
        cs_buf_add_str(&text, text.len > 0 ? " " : "");
        cs_quote(&text, cs_slice_str(patterns[i]));
    }
    if (text.len == 0)
        return CS_OK;
    return cs_fail(e, CS_INVALID, "dockerfinder: patterns must not be ambiguous: [%.400s]",
                   cs_buf_cstr(&text));
}

static cs_code check_one(const char *pattern, struct cs_err *e)
{
    struct cs_rd r = segments_of(cs_slice_str(pattern));
    struct cs_slice segment;
    size_t ids = 0;
    while (container_next_segment(&r, &segment))
        ids += cs_slice_is(segment, ID);
    if (ids == 1)
        return CS_OK;
    CS_CLEANUP(cs_buf_free) struct cs_buf quoted = {0};
    cs_quote(&quoted, cs_slice_str(pattern));
    return cs_fail(e, CS_INVALID,
                   "pattern %.300s must contain the container id token \"" ID "\" exactly once",
                   cs_buf_cstr(&quoted));
}

cs_code container_matchers_check(const char *const *patterns, size_t count, struct cs_err *e)
{
    if (count == 0)
        return cs_fail(e, CS_INVALID, "dockerfinder: at least 1 pattern must be supplied");
    CS_TRY(check_overlaps(patterns, count, e));
    for (size_t i = 0; i < count; i++)
        CS_TRY(check_one(patterns[i], e));
    return CS_OK;
}

static bool fits(const char *pattern, struct cs_slice path, struct cs_slice *id)
{
    struct cs_rd rp = segments_of(cs_slice_str(pattern)), rs = segments_of(path);
    struct cs_slice want, have;
    for (;;) {
        bool more = container_next_segment(&rp, &want);
        if (more != container_next_segment(&rs, &have))
            return false;
        if (!more)
            return true;
        if (cs_slice_is(want, ID))
            *id = have;
        else if (!cs_slice_is(want, ANY) && !cs_slice_eq(want, have))
            return false;
    }
}

bool container_matchers_find(const char *const *patterns, size_t count, struct cs_slice path,
                             struct cs_slice *id)
{
    for (size_t i = 0; i < count; i++)
        if (fits(patterns[i], path, id))
            return true;
    return false;
}
