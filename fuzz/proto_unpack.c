/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages: the first byte chooses the type. What is accepted packs, and unpacks to the same bytes.
 */
#include "proto/proto.h"

#include <google/protobuf/struct.pb-c.h>
#include <stdlib.h>
#include <types.pb-c.h>
#include <workload.pb-c.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ProtobufCMessageDescriptor *const types[] = {
        &types__entry__descriptor,
        &types__bundle__descriptor,
        &types__federation_relationship__descriptor,
        &workload__x509_svidresponse__descriptor,
        &google__protobuf__struct__descriptor,
    };
    if (size == 0)
        return 0;
    const ProtobufCMessageDescriptor *d = types[data[0] % (sizeof types / sizeof types[0])];
    CS_AUTO(cs_arena) a = cs_arena_new(0, 8 << 20);
    struct cs_buf CS_CLEANUP(cs_buf_free) once = {0}, CS_CLEANUP(cs_buf_free) twice = {0};
    ProtobufCMessage *m;

    if (proto_unpack(a, d, cs_slice_of(data + 1, size - 1), &m, NULL) != CS_OK)
        return 0;
    if (proto_pack(m, &once, NULL) != CS_OK)
        abort();
    CS_AUTO(cs_arena) b = cs_arena_new(0, 0);
    if (proto_unpack(b, d, cs_buf_slice(&once), &m, NULL) != CS_OK || proto_pack(m, &twice, NULL) != CS_OK ||
        !cs_slice_eq(cs_buf_slice(&once), cs_buf_slice(&twice)))
        abort();
    return 0;
}
