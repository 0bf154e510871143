/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/alone.h"

#include <openssl/crypto.h>

void crypto_stay_alone(void)
{
    (void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
}
