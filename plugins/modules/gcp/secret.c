/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/modules/gcp/secret.h"

#include "base/mem.h"
#include "base/text.h"
#include "crypto/hash.h"
#include "crypto/jose.h"
#include "plugin/svidstore.h"

#define NAME_MAX_LEN 255
#define PROJECT_MAX_LEN 128

const char *gcp_text(const json_t *j, const char *name)
{
    const char *text = json_string_value(json_object_get(j, name));
    return text != NULL ? text : "";
}

/* --- Names --- */

/* Letters, digits and those of `more`, and not dots alone, which would lead out of a path. */
static bool is_name(const char *s, size_t len, size_t max, const char *more)
{
    bool dots = true;
    for (size_t i = 0; i < len; i++) {
        const char c = s[i];
        if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strchr(more, c) == NULL)
            return false;
        dots = dots && c == '.';
    }
    return len > 0 && len <= max && !dots;
}

/* "my-project", "example.com:my-project", "123456789" */
bool gcp_project_ok(const char *s)
{
    return is_name(s, strlen(s), PROJECT_MAX_LEN, "-_.:");
}

static bool is_secret_name(const char *s)
{
    return is_name(s, strlen(s), NAME_MAX_LEN, "-_");
}

/* --- Selectors --- */

static cs_code check_regions(const char *regions, struct cs_err *e)
{
    if (regions != NULL && regions[strspn(regions, ",")] == '\0')
        return cs_fail(e, CS_INVALID, "need to specify at least one region");
    return CS_OK;
}

static cs_code check_binding(const struct gcp_place *p, bool account, struct cs_err *e)
{
    if (account && *p->role == '\0')
        return cs_fail(e, CS_INVALID, "role is required when service account is set");
    if (!account && *p->role != '\0')
        return cs_fail(e, CS_INVALID, "service account is required when role is set");
    return CS_OK;
}

cs_code gcp_place_read(const char *const *metadata, size_t count, struct gcp_place *out, struct cs_err *e)
{
    *out = (struct gcp_place){0};
    if (plugin_svid_metadata_check(metadata, count, e) != CS_OK)
        return cs_wrap(e, "invalid metadata");
    const char *role = plugin_svid_metadata(metadata, count, "role");
    const char *account = plugin_svid_metadata(metadata, count, "serviceaccount");
    const struct gcp_place p = {.name = plugin_svid_metadata(metadata, count, "name"),
                                .project = plugin_svid_metadata(metadata, count, "projectid"),
                                .role = role != NULL ? role : "",
                                .account = account != NULL ? account : "",
                                .regions = plugin_svid_metadata(metadata, count, "regions")};
    if (p.name == NULL)
        return cs_fail(e, CS_INVALID, "name is required");
    if (p.project == NULL)
        return cs_fail(e, CS_INVALID, "projectid is required");
    CS_TRY(check_binding(&p, account != NULL, e));
    CS_TRY(check_regions(p.regions, e));
    if (!is_secret_name(p.name))
        return cs_fail(e, CS_INVALID, "name \"%.255s\" cannot be that of a secret", p.name);
    if (!gcp_project_ok(p.project))
        return cs_fail(e, CS_INVALID, "projectid \"%.255s\" cannot be that of a project", p.project);
    *out = p;
    return CS_OK;
}

char *gcp_place_resource(const struct gcp_place *p)
{
    return cs_asprintf("projects/%s/secrets/%s", p->project, p->name);
}

cs_code gcp_label(const char *trust_domain, char out[GCP_LABEL_LEN + 1], struct cs_err *e)
{
    uint8_t digest[GCP_LABEL_LEN / 2];
    CS_TRY(crypto_digest(CRYPTO_SHA1, cs_slice_str(trust_domain), digest, e));
    for (size_t i = 0; i < sizeof digest; i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out[GCP_LABEL_LEN] = '\0';
    return CS_OK;
}

/* --- Requests --- */

static void add_regions(struct cs_buf *out, const char *regions)
{
    const char *between = "{\"userManaged\":{\"replicas\":[";
    for (const char *at = regions; *at != '\0';) {
        const size_t len = strcspn(at, ",");
        if (len > 0) {
            cs_buf_printf(out, "%s{\"location\":", between);
            jose_json_string(out, cs_slice_of(at, len));
            cs_buf_add_byte(out, '}');
            between = ",";
        }
        at += at[len] == ',' ? len + 1 : len;
    }
    cs_buf_add_str(out, "]}}");
}

cs_code gcp_body_create(const struct gcp_place *p, const char *label, struct cs_buf *out, struct cs_err *e)
{
    cs_buf_add_str(out, "{\"replication\":");
    if (p->regions == NULL)
        cs_buf_add_str(out, "{\"automatic\":{}}");
    else
        add_regions(out, p->regions);
    cs_buf_printf(out, ",\"labels\":{\"" GCP_LABEL "\":\"%s\"}}", label);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code gcp_body_version(struct cs_slice payload, struct cs_buf *out, struct cs_err *e)
{
    if (!cs_buf_reserve(out, payload.len / 3 * 4 + 64)) /* growing would leave the key behind */
        return cs_nomem(e);
    cs_buf_add_str(out, "{\"payload\":{\"data\":\"");
    cs_b64_encode(out, payload, CS_B64_STD);
    cs_buf_add_str(out, "\"}}");
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code gcp_body_policy(const struct gcp_place *p, const char *etag, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *member = cs_asprintf("serviceAccount:%s", p->account);
    if (member == NULL)
        return cs_nomem(e);
    cs_buf_add_str(out, "{\"policy\":{\"bindings\":[{\"role\":");
    jose_json_string(out, cs_slice_str(p->role));
    cs_buf_add_str(out, ",\"members\":[");
    jose_json_string(out, cs_slice_str(member));
    cs_buf_add_str(out, "]}]");
    if (*etag != '\0') {
        cs_buf_add_str(out, ",\"etag\":");
        jose_json_string(out, cs_slice_str(etag));
    }
    cs_buf_add_str(out, "}}");
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

/* --- Answers --- */

/* Paths are made of it, so it must be what it should be. */
static bool is_resource(const char *s, const char *name)
{
    static const char projects[] = "projects/", secrets[] = "/secrets/";
    if (strncmp(s, projects, sizeof projects - 1) != 0)
        return false;
    s += sizeof projects - 1;
    const size_t len = strcspn(s, "/");
    return is_name(s, len, PROJECT_MAX_LEN, "-_.:") && strncmp(s + len, secrets, sizeof secrets - 1) == 0 &&
           strcmp(s + len + sizeof secrets - 1, name) == 0;
}

cs_code gcp_secret_read(const json_t *answer, const struct gcp_place *p, const char *label,
                        struct gcp_secret *out, struct cs_err *e)
{
    *out = (struct gcp_secret){0};
    const char *resource = gcp_text(answer, "name");
    if (!is_resource(resource, p->name))
        return cs_fail(e, CS_INTERNAL, "the answer is about \"%.128s\" and not about secret \"%.128s\"",
                       resource, p->name);
    *out = (struct gcp_secret){
        .resource = resource,
        .etag = gcp_text(answer, "etag"),
        .ours = strcmp(gcp_text(json_object_get(answer, "labels"), GCP_LABEL), label) == 0};
    return CS_OK;
}

bool gcp_policy_is(const json_t *policy, const struct gcp_place *p)
{
    static const char kind[] = "serviceAccount:";
    const json_t *bindings = json_object_get(policy, "bindings");
    const json_t *one = json_array_get(bindings, 0);
    const json_t *members = json_object_get(one, "members");
    const char *member = json_string_value(json_array_get(members, 0));
    return json_array_size(bindings) == 1 && json_array_size(members) == 1 && member != NULL &&
           strcmp(gcp_text(one, "role"), p->role) == 0 && strncmp(member, kind, sizeof kind - 1) == 0 &&
           strcmp(member + sizeof kind - 1, p->account) == 0;
}
