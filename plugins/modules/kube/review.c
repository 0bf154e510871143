/* SPDX-License-Identifier: Apache-2.0
 *
 * TokenReview (authentication.k8s.io/v1): whose token it is, as the API server says. Texts are SPIRE's
 * (pkg/common/plugin/k8s).
 */
#include "base/text.h"
#include "plugins/modules/kube/kube.h"

void kube_review_free(struct kube_review *r)
{
    json_decref(r->object);
    *r = (struct kube_review){0};
}

/* ["a" "b"], as Go prints a list of texts with %q. */
static void print_list(struct cs_buf *out, const json_t *list)
{
    size_t i;
    json_t *x;
    cs_buf_add_byte(out, '[');
    json_array_foreach(list, i, x)
    {
        if (i > 0)
            cs_buf_add_byte(out, ' ');
        cs_quote(out, cs_slice_of(json_string_value(x), json_string_length(x)));
    }
    cs_buf_add_byte(out, ']');
}

static bool have_common(const json_t *a, const json_t *b)
{
    size_t i, k;
    json_t *x, *y;
    json_array_foreach(a, i, x)
        json_array_foreach(b, k, y) if (json_is_string(x) && json_equal(x, y)) return true;
    return false;
}

/* That one of them is in the answer shows that the server looked at audiences at all. */
static cs_code check_audience(const json_t *wanted, const json_t *status, struct cs_err *e)
{
    const json_t *got = json_object_get(status, "audiences");
    if (json_array_size(wanted) == 0 || have_common(wanted, got))
        return CS_OK;
    CS_CLEANUP(cs_buf_free) struct cs_buf w = {0}, g = {0};
    print_list(&w, wanted);
    print_list(&g, got);
    return cs_fail(e, CS_INTERNAL, "token review API did not validate audience: wanted one of %s but got %s",
                   cs_buf_cstr(&w), cs_buf_cstr(&g));
}

static json_t *request(struct cs_slice token, const json_t *audiences)
{
    json_t *spec = json_pack("{s:s%}", "token", (const char *)token.data, token.len);
    if (spec != NULL && json_array_size(audiences) > 0 &&
        json_object_set(spec, "audiences", (json_t *)(uintptr_t)audiences) != 0) {
        json_decref(spec);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:{}, s:o}", "kind", "TokenReview", "apiVersion", "authentication.k8s.io/v1",
                     "metadata", "spec", spec);
}

cs_code kube_review_token(struct kube_client *c, struct cs_slice token, const json_t *audiences,
                          const struct crypto_stop *stop, struct kube_review *out, struct cs_err *e)
{
    static const char *const username[] = {"status", "user", "username", NULL};
    *out = (struct kube_review){.username = ""};
    if (!cs_utf8_valid(token))
        return cs_fail(e, CS_INVALID, "the token is not text");
    CS_CLEANUP(kube_json_drop) json_t *body = request(token, audiences);
    if (body == NULL)
        return cs_nomem(e);
    const struct kube_call q = {.method = "POST",
                                .path = "/apis/authentication.k8s.io/v1/tokenreviews",
                                .body = body,
                                .stop = stop,
                                .max_body = (size_t)1 << 20,
                                .repeatable = true};
    CS_CLEANUP(kube_json_drop) json_t *review = NULL;
    if (kube_call(c, &q, &review, e) != CS_OK)
        return cs_wrap(e, "unable to query token review API");
    const json_t *status = json_object_get(review, "status");
    const char *error = kube_text(status, "error");
    if (error[0] != '\0')
        return cs_fail(e, CS_INTERNAL, "token review API response contains an error: %s", error);
    const bool yes = json_is_true(json_object_get(status, "authenticated"));
    if (yes)
        CS_TRY(check_audience(audiences, status, e));
    const char *user = kube_text_at(review, username);
    *out = (struct kube_review){.authenticated = yes, .username = user, .object = CS_MOVE(review)};
    return CS_OK;
}

cs_code kube_review_extra(const struct kube_review *r, const char *key, const char *what,
                          const char *what_short, const char **out, struct cs_err *e)
{
    static const char *const extra[] = {"status", "user", "extra", NULL};
    const json_t *list = json_object_get(kube_at(r->object, extra), key);
    if (list == NULL)
        return cs_fail(e, CS_NOT_FOUND, "missing %s", what);
    if (json_array_size(list) != 1)
        return cs_fail(e, CS_INVALID, "expected 1 %s but got: %zu", what_short, json_array_size(list));
    const char *s = json_string_value(json_array_get(list, 0));
    if (s == NULL || s[0] == '\0')
        return cs_fail(e, CS_INVALID, "%s is empty", what);
    *out = s;
    return CS_OK;
}
