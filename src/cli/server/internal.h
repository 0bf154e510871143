/* SPDX-License-Identifier: Apache-2.0
 *
 * What the families of server commands share. Not for other folders.
 */
#ifndef CS_CLI_SERVER_INTERNAL_H
#define CS_CLI_SERVER_INTERNAL_H

#include "cli/session.h"
#include "types.pb-c.h"

/* The protobuf message inside a generated struct. */
#define MSG(m) (&(m).base)

/* Parse a SPIFFE ID flag into the arena; the error is go-spiffe's. */
CS_CHECKED cs_code srv_id_arg(struct cs_arena *a, const char *text, Types__SPIFFEID **out, struct cs_err *e);
/* "spiffe://td/path" of an ID; "" for NULL. In the arena; NULL when memory is out. */
const char *srv_id_text(struct cs_arena *a, const Types__SPIFFEID *id);
/* One "type:value" flag. */
CS_CHECKED cs_code srv_selector_arg(struct cs_arena *a, const char *text, Types__Selector **out,
                                    struct cs_err *e);
/* Repeated "type:value" flags; errors get `prefix` in front when it is not NULL. */
CS_CHECKED cs_code srv_selectors_arg(struct cs_arena *a, const struct cli_strings *in, size_t *n,
                                     Types__Selector ***out, struct cs_err *e);
/* Copies of repeated flags, as protobuf-c wants them. */
CS_CHECKED cs_code srv_strings(struct cs_arena *a, const struct cli_strings *in, size_t *n, char ***out,
                               struct cs_err *e);
/* exact, any, superset, subset to the value that both match enums use; false: none of them. */
bool srv_match_arg(const char *text, int *out);
/* A flag's integer as an int32 of the API; `invalid value for WHAT: ...`. */
CS_CHECKED cs_code srv_int32_arg(int64_t v, const char *what, int32_t *out, struct cs_err *e);
/* Whole seconds of a duration flag, rounded up; `invalid value for TTL: ...`. */
CS_CHECKED cs_code srv_ttl_arg(int64_t ns, int32_t *seconds, struct cs_err *e);
/* Read a file, or standard input for "-", at most 64 MiB; appended to out. */
CS_CHECKED cs_code srv_read_input(struct cli_env *env, const char *path, struct cs_buf *out,
                                  struct cs_err *e);
static inline const char *srv_plural(size_t n, const char *one, const char *many)
{
    return n == 1 ? one : many;
}

/* --- Command rows, by family --- */
extern const struct cli_command srv_agent_ban, srv_agent_count, srv_agent_evict, srv_agent_list,
    srv_agent_purge, srv_agent_show;
extern const struct cli_command srv_bundle_count, srv_bundle_delete, srv_bundle_list, srv_bundle_set,
    srv_bundle_show;
extern const struct cli_command srv_entry_count, srv_entry_create, srv_entry_delete, srv_entry_show,
    srv_entry_update;
extern const struct cli_command srv_healthcheck, srv_jwt_mint, srv_token_generate, srv_x509_mint;
extern const struct cli_command srv_run, srv_validate;

#endif
