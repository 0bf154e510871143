/* SPDX-License-Identifier: Apache-2.0
 *
 * gRPC status: code, message, optional details (google.rpc.Status in grpc-status-details-bin).
 */
#ifndef CS_RPC_STATUS_H
#define CS_RPC_STATUS_H

#include "base/buf.h"
#include "base/err.h"

/* Largest message received by default, both sides (grpc-go's default). */
#define RPC_MAX_MESSAGE (4u * 1024 * 1024)

/* One detail: a protobuf message packed by the caller, with its full type name. Client side: the
 * first detail of the reply. */
struct rpc_detail {
    char type_name[96]; /* "spire.api.types.PermissionDeniedDetails"; "" = none */
    uint8_t data[128];
    size_t len;
};

#endif
