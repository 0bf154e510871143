/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"
#include "cli/server/entry.h"

#include <inttypes.h>

static void print_ttl(struct cs_buf *b, const char *label, int32_t ttl)
{
    if (ttl == 0)
        cs_buf_printf(b, "%-24s: default\n", label);
    else
        cs_buf_printf(b, "%-24s: %" PRId32 "\n", label, ttl);
}

static void print_true(struct cs_buf *b, const char *label, bool yes)
{
    if (yes)
        cs_buf_printf(b, "%-24s: true\n", label);
}

static void print_id(struct cs_buf *b, const char *label, const Types__SPIFFEID *id)
{
    if (id == NULL)
        cs_buf_printf(b, "%-24s: \n", label);
    else
        cs_buf_printf(b, "%-24s: spiffe://%s%s\n", label, id->trust_domain, id->path);
}

cs_code entry_print(FILE *to, const Types__Entry *en, struct cs_err *e)
{
    if (en == NULL)
        return cs_fail(e, CS_INTERNAL, "the server's result has no entry");
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_buf_printf(&b, "%-24s: %s\n", "Entry ID", en->id[0] != '\0' ? en->id : "(none)");
    print_id(&b, "SPIFFE ID", en->spiffe_id);
    print_id(&b, "Parent ID", en->parent_id);
    cs_buf_printf(&b, "%-24s: %" PRId64 "\n", "Revision", en->revision_number);
    print_true(&b, "Downstream", en->downstream);
    print_ttl(&b, "X509-SVID TTL", en->x509_svid_ttl);
    print_ttl(&b, "JWT-SVID TTL", en->jwt_svid_ttl);
    if (en->expires_at != 0) {
        cs_buf_printf(&b, "%-24s: ", "Expiration time");
        cs_time_go_string(&b, en->expires_at);
        cs_buf_add_byte(&b, '\n');
    }
    for (size_t i = 0; i < en->n_selectors; i++)
        cs_buf_printf(&b, "%-24s: %s:%s\n", "Selector", en->selectors[i]->type, en->selectors[i]->value);
    for (size_t i = 0; i < en->n_federates_with; i++)
        cs_buf_printf(&b, "%-24s: %s\n", "FederatesWith", en->federates_with[i]);
    for (size_t i = 0; i < en->n_dns_names; i++)
        cs_buf_printf(&b, "%-24s: %s\n", "DNS name", en->dns_names[i]);
    print_true(&b, "Admin", en->admin);
    print_true(&b, "StoreSvid", en->store_svid);
    if (en->hint[0] != '\0')
        cs_buf_printf(&b, "%-24s: %s\n", "Hint", en->hint);
    const Types__Entry__AdditionalAttributes *more = en->additional_attributes;
    print_true(&b, "DisableX509SvidPrefetch", more != NULL && more->disable_x509_svid_prefetch);
    print_true(&b, "JwtSvidIncludeJti", more != NULL && more->jwt_svid_include_jti);
    cs_buf_add_byte(&b, '\n');
    if (!cs_buf_ok(&b))
        return cs_nomem(e);
    fwrite(b.data, 1, b.len, to);
    return CS_OK;
}
