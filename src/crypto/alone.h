/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CS_CRYPTO_ALONE_H
#define CS_CRYPTO_ALONE_H

/* For programs that are linked statically: OpenSSL must not read openssl.cnf, which may name modules to be
 * loaded. From main, before any other call of this folder. */
void crypto_stay_alone(void);

#endif
