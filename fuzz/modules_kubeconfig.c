/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a kubeconfig: it is refused with a text, or what comes of it is whole: a plain URL, a
 * certificate only with its key, no token and no name that would break a header or a URL.
 */
#include "plugins/modules/kube/access.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static bool is_line(const char *s)
{
    return s == NULL || strpbrk(s, "\r\n") == NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CS_CLEANUP(kube_access_free) struct kube_access a = {0};
    struct cs_err e = {0};
    cs_code rc = kube_access_parse(cs_slice_of(data, size), "/nonexistent", "fuzz", &a, &e);
    if (rc != CS_OK) {
        must(e.text[0] != '\0');
        return 0;
    }
    must(strncmp(a.server, "http", 4) == 0 && is_line(a.server) && strpbrk(a.server, "?#@ ") == NULL);
    must(is_line(a.server_name) && is_line(a.proxy));
    must((a.client_cert.len > 0) == (a.client_key.len > 0));
    must(!a.insecure || a.ca.len == 0);
    for (size_t i = 0; i < a.authorization.len; i++)
        must(a.authorization.data[i] >= ' ' && a.authorization.data[i] < 0x7f);
    return 0;
}
