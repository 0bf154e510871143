/* SPDX-License-Identifier: Apache-2.0
 *
 * SPIFFE IDs and trust domains (SPIFFE-ID.md section 2), with go-spiffe v2's rules and error texts.
 */
#ifndef CS_SPIFFE_ID_H
#define CS_SPIFFE_ID_H

#include "base/buf.h"
#include "base/mem.h"

/* A checked SPIFFE ID: a view into text that somebody else keeps. Copy by value; zero is "no ID". */
struct spiffe_id {
    struct cs_slice text; /* "spiffe://example.org/foo" */
    size_t path_at;       /* offset of the path in it; == text.len when the path is empty */
};

static inline bool spiffe_id_is_zero(struct spiffe_id id)
{
    return id.text.len == 0;
}
static inline struct cs_slice spiffe_id_td(struct spiffe_id id) /* "example.org"; empty for zero */
{
    return id.text.len ? cs_slice_of(id.text.data + 9, id.path_at - 9) : (struct cs_slice){0};
}
static inline struct cs_slice spiffe_id_path(struct spiffe_id id) /* "/foo" or "" */
{
    return id.text.len ? cs_slice_of(id.text.data + id.path_at, id.text.len - id.path_at)
                       : (struct cs_slice){0};
}
static inline bool spiffe_id_equal(struct spiffe_id a, struct spiffe_id b)
{
    return cs_slice_eq(a.text, b.text);
}
static inline bool spiffe_id_member_of(struct spiffe_id id, struct cs_slice td)
{
    return cs_slice_eq(spiffe_id_td(id), td);
}

/* Parse; *out views `s`. CS_INVALID: "cannot be empty", "scheme is missing or invalid", "trust domain is
 * missing", "path cannot have a trailing slash", ... (no prefix; callers wrap). */
CS_CHECKED cs_code spiffe_id_parse(struct cs_slice s, struct spiffe_id *out, struct cs_err *e);
/* From a trust domain and an absolute path (may be ""), as the types.SPIFFEID message carries them: both are
 * checked; the trust domain may also be a URI, of which only the domain counts. Text in the arena. */
CS_CHECKED cs_code spiffe_id_make(struct cs_arena *a, struct cs_slice td, struct cs_slice path,
                                  struct spiffe_id *out, struct cs_err *e);
/* Copy with its text: into an arena, or with cs_malloc (then release with cs_free((void *)id.text.data)). The
 * copy is NUL-terminated. */
CS_CHECKED cs_code spiffe_id_dup(struct cs_arena *a, struct spiffe_id id, struct spiffe_id *out);

/* "example.org" from a name or a URI ("spiffe://example.org/x" drops the path); *name views `s`. */
CS_CHECKED cs_code spiffe_td_parse(struct cs_slice s, struct cs_slice *name, struct cs_err *e);
/* Path rules alone: "" or "/seg/seg". */
CS_CHECKED cs_code spiffe_path_check(struct cs_slice path, struct cs_err *e);
CS_CHECKED cs_code spiffe_path_segment_check(struct cs_slice segment, struct cs_err *e);

/* --- SPIRE's reserved paths --- */
#define SPIFFE_SERVER_PATH "/spire/server"
bool spiffe_path_is_agent(struct cs_slice path);                          /* under /spire/agent/ */
bool spiffe_path_is_agent_of(struct cs_slice path, const char *attestor); /* under /spire/agent/ATTESTOR/ */
bool spiffe_path_is_reserved(struct cs_slice path);                       /* /spire or under it */
/* CS_INVALID texts as upstream's pkg/server/api/id.go:
 *   `"ID" is not a member of trust domain "TD"` (also with `; path is empty`),
 *   `"ID" is not an agent in trust domain "TD"; path is not in the agent namespace`,
 *   `"ID" is not a workload in trust domain "TD"; path is in the reserved namespace`. */
CS_CHECKED cs_code spiffe_id_check_member(struct spiffe_id id, struct cs_slice td, struct cs_err *e);
CS_CHECKED cs_code spiffe_id_check_agent(struct spiffe_id id, struct cs_slice td, struct cs_err *e);
/* `"ID" is not in the agent namespace for attestor "NAME"` */
CS_CHECKED cs_code spiffe_id_check_agent_of(struct spiffe_id id, struct cs_slice td, const char *attestor,
                                            struct cs_err *e);
CS_CHECKED cs_code spiffe_id_check_workload(struct spiffe_id id, struct cs_slice td, struct cs_err *e);

/* Hex of half the SHA-256 of the ID: the value of the optional x500UniqueIdentifier. */
CS_CHECKED cs_code spiffe_id_unique(struct spiffe_id id, char out[33], struct cs_err *e);

#endif
