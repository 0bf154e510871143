/* SPDX-License-Identifier: Apache-2.0
 *
 * KeyManager plugins: private keys by id (spire.plugin.server.keymanager.v1 and its agent twin in
 * SPIRE's plugin SDK). Used by the server for its CA keys and by the agent for its SVID key.
 */
#ifndef CS_PLUGIN_KEYMANAGER_H
#define CS_PLUGIN_KEYMANAGER_H

#include "crypto/key.h"
#include "plugin/plugin.h"

struct keymanager_ops {
    /* Make a key under an id, replacing an older one only when the new one is stored. *out is a new
     * reference. */
    CS_CHECKED cs_code (*generate_key)(void *self, const char *id, enum crypto_key_type type,
                                       struct crypto_signer **out, struct cs_err *e);
    /* New reference in *out. CS_NOT_FOUND: no such key. */
    CS_CHECKED cs_code (*get_key)(void *self, const char *id, struct crypto_signer **out, struct cs_err *e);
    /* Each key in the order of ids; `each` borrows. Stops at the first failure of it. */
    CS_CHECKED cs_code (*each_key)(void *self,
                                   cs_code (*each)(void *arg, const char *id, struct crypto_signer *key,
                                                   struct cs_err *e),
                                   void *arg, struct cs_err *e);
};
/* All of them: any thread, blocking. */

#endif
