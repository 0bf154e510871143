/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates, keys and bundles as they travel to and from plugins (spire.plugin.types; SPIRE's
 * pkg/common/coretypes). All functions: any thread, not blocking.
 */
#ifndef CS_PLUGIN_BRIDGE_CONVERT_H
#define CS_PLUGIN_BRIDGE_CONVERT_H

#include "plugin/upstreamauthority.h"
#include "spiffe/bundle.h"

#include "sdk_types.pb-c.h"

/* Everything in the bundle; the message lives in the arena and views the bundle. */
CS_CHECKED cs_code convert_plugin_bundle(struct cs_arena *a, const struct spiffe_bundle *bundle,
                                         Sdktypes__Bundle **out, struct cs_err *e);

/* Check a certificate of a plugin. CS_INVALID `missing X.509 certificate data`,
 * `failed to parse X.509 certificate data: ...`. */
CS_CHECKED cs_code convert_certificate(const Sdktypes__X509Certificate *in, struct cs_err *e);

/* Check a JWT key of a plugin; *out views it. CS_INVALID `missing key ID for JWT key`,
 * `missing public key for JWT key "ID"`, `failed to unmarshal public key for JWT key "ID": ...`. */
CS_CHECKED cs_code convert_jwt_key(const Sdktypes__JWTKey *in, struct upstreamauthority_jwt_key *out,
                                   struct cs_err *e);

#endif
