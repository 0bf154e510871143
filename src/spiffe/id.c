/* SPDX-License-Identifier: Apache-2.0 */
#include "spiffe/id.h"

#include "base/text.h"
#include "crypto/hash.h"

#define SCHEME "spiffe://"
#define SCHEME_LEN (sizeof SCHEME - 1)

static bool is_td_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

static bool is_path_char(uint8_t c)
{
    return is_td_char(c) || (c >= 'A' && c <= 'Z');
}

static cs_code bad_td_char(struct cs_err *e)
{
    return cs_fail(e, CS_INVALID,
                   "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and "
                   "underscores");
}

static cs_code bad_path_char(struct cs_err *e)
{
    return cs_fail(e, CS_INVALID,
                   "path segment characters are limited to letters, numbers, dots, dashes, and underscores");
}

static cs_code dot_segment(struct cs_err *e)
{
    return cs_fail(e, CS_INVALID, "path cannot contain dot segments");
}

static bool is_dots(struct cs_slice s)
{
    return cs_slice_is(s, ".") || cs_slice_is(s, "..");
}

/* A segment in the middle of a path; at the end an empty one is a trailing slash. */
static cs_code check_segment(struct cs_slice s, bool last, struct cs_err *e)
{
    if (s.len == 0)
        return cs_fail(e, CS_INVALID,
                       last ? "path cannot have a trailing slash" : "path cannot contain empty segments");
    return is_dots(s) ? dot_segment(e) : CS_OK;
}

cs_code spiffe_path_check(struct cs_slice path, struct cs_err *e)
{
    if (path.len == 0)
        return CS_OK;
    if (path.data[0] != '/')
        return cs_fail(e, CS_INVALID, "path must have a leading slash");
    size_t start = 1; /* of the segment being read */
    for (size_t i = 1; i < path.len; i++) {
        if (path.data[i] == '/') {
            CS_TRY(check_segment(cs_slice_of(path.data + start, i - start), false, e));
            start = i + 1;
        } else if (!is_path_char(path.data[i])) {
            return bad_path_char(e);
        }
    }
    return check_segment(cs_slice_of(path.data + start, path.len - start), true, e);
}

cs_code spiffe_path_segment_check(struct cs_slice segment, struct cs_err *e)
{
    CS_TRY(check_segment(segment, false, e));
    for (size_t i = 0; i < segment.len; i++)
        if (!is_path_char(segment.data[i]))
            return bad_path_char(e);
    return CS_OK;
}

cs_code spiffe_id_parse(struct cs_slice s, struct spiffe_id *out, struct cs_err *e)
{
    *out = (struct spiffe_id){0};
    if (s.len == 0)
        return cs_fail(e, CS_INVALID, "cannot be empty");
    if (s.len < SCHEME_LEN || memcmp(s.data, SCHEME, SCHEME_LEN) != 0)
        return cs_fail(e, CS_INVALID, "scheme is missing or invalid");
    size_t at = SCHEME_LEN;
    for (; at < s.len && s.data[at] != '/'; at++)
        if (!is_td_char(s.data[at]))
            return bad_td_char(e);
    if (at == SCHEME_LEN)
        return cs_fail(e, CS_INVALID, "trust domain is missing");
    CS_TRY(spiffe_path_check(cs_slice_of(s.data + at, s.len - at), e));
    *out = (struct spiffe_id){s, at};
    return CS_OK;
}

cs_code spiffe_td_parse(struct cs_slice s, struct cs_slice *name, struct cs_err *e)
{
    *name = (struct cs_slice){0};
    if (s.len == 0)
        return cs_fail(e, CS_INVALID, "trust domain is missing");
    if (memmem(s.data, s.len, ":/", 2) != NULL) { /* meant as an ID; its diagnostics are better */
        struct spiffe_id id;
        CS_TRY(spiffe_id_parse(s, &id, e));
        *name = spiffe_id_td(id);
        return CS_OK;
    }
    for (size_t i = 0; i < s.len; i++)
        if (!is_td_char(s.data[i]))
            return bad_td_char(e);
    *name = s;
    return CS_OK;
}

cs_code spiffe_id_make(struct cs_arena *a, struct cs_slice td, struct cs_slice path, struct spiffe_id *out,
                       struct cs_err *e)
{
    struct cs_slice name;
    *out = (struct spiffe_id){0};
    CS_TRY(spiffe_td_parse(td, &name, e));
    CS_TRY(spiffe_path_check(path, e));
    size_t at = SCHEME_LEN + name.len, len = at + path.len;
    char *text = cs_arena_alloc(a, len + 1);
    if (text == NULL)
        return cs_nomem(e);
    memcpy(text, SCHEME, SCHEME_LEN);
    memcpy(text + SCHEME_LEN, name.data, name.len);
    if (path.len > 0)
        memcpy(text + at, path.data, path.len);
    text[len] = '\0';
    *out = (struct spiffe_id){cs_slice_of(text, len), at};
    return CS_OK;
}

cs_code spiffe_id_dup(struct cs_arena *a, struct spiffe_id id, struct spiffe_id *out)
{
    *out = (struct spiffe_id){0};
    const char *from = (const char *)id.text.data;
    char *text = a != NULL ? cs_arena_strndup(a, id.text.len ? from : "", id.text.len)
                           : cs_strndup(id.text.len ? from : "", id.text.len);
    if (text == NULL)
        return CS_INTERNAL;
    *out = (struct spiffe_id){cs_slice_of(text, id.text.len), id.path_at};
    return CS_OK;
}

/* --- SPIRE's reserved paths --- */

static bool starts_with(struct cs_slice s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.len >= n && memcmp(s.data, prefix, n) == 0;
}

bool spiffe_path_is_agent(struct cs_slice path)
{
    return starts_with(path, "/spire/agent/");
}

bool spiffe_path_is_agent_of(struct cs_slice path, const char *attestor)
{
    if (!spiffe_path_is_agent(path))
        return false;
    struct cs_slice rest = cs_slice_of(path.data + 13, path.len - 13);
    size_t n = strlen(attestor);
    return starts_with(rest, attestor) && rest.len > n && rest.data[n] == '/';
}

bool spiffe_path_is_reserved(struct cs_slice path)
{
    return cs_slice_is(path, "/spire") || starts_with(path, "/spire/");
}

/* "ID" what "TD"more, with the ID and domain cut where the error text has no room for them. */
static cs_code refuse(struct spiffe_id id, const char *what, struct cs_slice td, const char *more,
                      struct cs_err *e)
{
    return cs_fail(e, CS_INVALID, "\"%.*s\" %s \"%.*s\"%s", (int)(id.text.len < 300 ? id.text.len : 300),
                   (const char *)id.text.data, what, (int)(td.len < 100 ? td.len : 100),
                   (const char *)td.data, more);
}

#define NOT_MEMBER "is not a member of trust domain"

cs_code spiffe_id_check_member(struct spiffe_id id, struct cs_slice td, struct cs_err *e)
{
    if (!spiffe_id_member_of(id, td))
        return refuse(id, NOT_MEMBER, td, "", e);
    if (spiffe_id_path(id).len == 0)
        return refuse(id, NOT_MEMBER, td, "; path is empty", e);
    return CS_OK;
}

cs_code spiffe_id_check_agent(struct spiffe_id id, struct cs_slice td, struct cs_err *e)
{
    static const char what[] = "is not an agent in trust domain";
    if (!spiffe_id_member_of(id, td))
        return refuse(id, NOT_MEMBER, td, "", e);
    if (spiffe_id_path(id).len == 0)
        return refuse(id, what, td, "; path is empty", e);
    if (!spiffe_path_is_agent(spiffe_id_path(id)))
        return refuse(id, what, td, "; path is not in the agent namespace", e);
    return CS_OK;
}

cs_code spiffe_id_check_agent_of(struct spiffe_id id, struct cs_slice td, const char *attestor,
                                 struct cs_err *e)
{
    if (!spiffe_id_member_of(id, td))
        return refuse(id, NOT_MEMBER, td, "", e);
    if (!spiffe_path_is_agent_of(spiffe_id_path(id), attestor))
        return refuse(id, "is not in the agent namespace for attestor", cs_slice_str(attestor), "", e);
    return CS_OK;
}

cs_code spiffe_id_check_workload(struct spiffe_id id, struct cs_slice td, struct cs_err *e)
{
    static const char what[] = "is not a workload in trust domain";
    if (!spiffe_id_member_of(id, td))
        return refuse(id, NOT_MEMBER, td, "", e);
    if (spiffe_id_path(id).len == 0)
        return refuse(id, what, td, "; path is empty", e);
    if (spiffe_path_is_reserved(spiffe_id_path(id)))
        return refuse(id, what, td, "; path is in the reserved namespace", e);
    return CS_OK;
}

cs_code spiffe_id_unique(struct spiffe_id id, char out[33], struct cs_err *e)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t digest[32];
    CS_TRY(crypto_digest(CRYPTO_SHA256, id.text, digest, e));
    for (size_t i = 0; i < 16; i++) {
        out[2 * i] = hex[digest[i] >> 4];
        out[2 * i + 1] = hex[digest[i] & 15];
    }
    out[32] = '\0';
    return CS_OK;
}
