/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a credentials file, and as each of the answers of Google's: what is taken can go where it
 * goes, into forms, headers and paths.
 */
#include "base/mem.h"
#include "plugins/modules/gcp/gcp.h"
#include "plugins/modules/gcp/secret.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW 1700000000

static void must(bool is)
{
    if (!is)
        abort();
}

static void check_credentials(struct cs_slice in)
{
    struct gcp_credentials *c;
    struct cs_err e = {0};
    struct cs_buf form = {0};
    if (gcp_credentials_parse(in, &c, &e) != CS_OK) {
        must(c == NULL && e.text[0] != '\0');
        return;
    }
    must(gcp_url_check(c->token_uri, NULL) == CS_OK);
    must(c->quota_project == NULL || gcp_project_ok(c->quota_project));
    must(c->kind == GCP_SERVICE_ACCOUNT ? c->signer != NULL && c->email != NULL
                                        : c->client_id != NULL && c->refresh_token != NULL);
    must(gcp_token_form(c, NOW, &form, &e) == CS_OK);
    for (size_t i = 0; i < form.len; i++) /* a form, whatever went into it */
        must(form.data[i] > 0x20 && form.data[i] < 0x7f);
    cs_buf_wipe(&form);
    gcp_credentials_free(c);
}

static void check_token(int status, struct cs_slice in)
{
    struct gcp_token t;
    struct cs_err e = {0};
    const cs_code rc = gcp_token_read(status, in, NOW, &t, &e);
    must((rc == CS_OK) == (t.value != NULL) && (rc == CS_OK) == (t.expires > NOW));
    must(rc != CS_OK || status == 200);
    for (size_t i = 0; rc == CS_OK && i < t.value->len; i++) /* it goes into a header */
        must(t.value->data[i] > 0x20 && t.value->data[i] < 0x7f);
    gcp_token_free(&t);
}

static void check_answer(int status, struct cs_slice in)
{
    static const struct gcp_place place = {"n", "p", "roles/r", "a@b", NULL};
    struct cs_err e = {0};
    struct gcp_secret s;
    json_t *answer;
    const cs_code rc = gcp_answer_read(status, in, &answer, &e);
    must((rc == CS_OK) == (answer != NULL) && (rc == CS_OK || e.code == rc));
    must(rc != CS_NOT_FOUND || memmem(in.data, in.len, "error", 5) != NULL);
    if (rc == CS_OK && gcp_secret_read(answer, &place, "label", &s, NULL) == CS_OK) {
        must(strspn(s.resource, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/") ==
             strlen(s.resource)); /* it goes into a path */
        must(strstr(s.resource, "//") == NULL && strstr(s.resource, "/../") == NULL);
        must(!s.ours || memmem(in.data, in.len, "label", 5) != NULL);
    }
    if (rc == CS_OK)
        (void)gcp_policy_is(answer, &place);
    json_decref(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 400, 404, 409, 503};
    const struct cs_slice in = cs_slice_of(data, size);
    check_credentials(in);
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        check_token(statuses[i], in);
        check_answer(statuses[i], in);
    }
    return 0;
}
