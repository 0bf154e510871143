/* SPDX-License-Identifier: Apache-2.0
 *
 * Text that the datastore reads: connection strings, times of rows, and packed bundles. The first byte
 * chooses.
 */
#include "datastore/bundle_codec.h"
#include "datastore/dsn.h"
#include "datastore/timetext.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void dsn(struct cs_slice in)
{
    CS_CLEANUP(ds_dsn_free) struct ds_dsn d = {0};
    char *s = cs_strndup((const char *)in.data, in.len);
    if (s && ds_dsn_parse(s, &d, NULL) == CS_OK &&
        (strlen((const char *)d.uri.data) != d.uri.len || d.busy_timeout_ms < 0))
        __builtin_trap();
    cs_free(s);
}

static void time_text(struct cs_slice in)
{
    int32_t ns = 0;
    char out[DS_TIME_MAX];
    int64_t s = ds_time_parse(in, &ns);
    if (s == DS_TIME_ZERO)
        return;
    ds_time_text(s, ns, out);
    if (s >= INT64_C(-62135596800) && s < INT64_C(253402214400) &&
        ds_time_parse(cs_slice_str(out), NULL) != s)
        __builtin_trap();
}

static void bundle(struct cs_slice in)
{
    struct cs_log quiet = {0};
    struct ds_bundle plain;
    Common__Bundle *b = NULL;
    bool changed = false;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (!a || ds_bundle_unpack(a, in, &b, NULL) != CS_OK)
        return;
    if (ds_bundle_merge(a, b, b, &changed, NULL) == CS_OK && changed)
        __builtin_trap();
    if (ds_bundle_drop_expired(&quiet, b, 1800000000, &changed, NULL) == CS_OK && b->n_root_cas == 0)
        __builtin_trap();
    (void)!ds_bundle_from_proto(a, b, &plain, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct cs_slice in = cs_slice_of(data + 1, size - 1);
    switch (data[0] % 3) {
    case 0:
        dsn(in);
        break;
    case 1:
        time_text(in);
        break;
    default:
        bundle(in);
        break;
    }
    return 0;
}
