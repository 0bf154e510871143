/* SPDX-License-Identifier: Apache-2.0
 *
 * What node and server of NodeAttestor "nitro_enclave" say to each other. The payload, and each answer to a
 * challenge, is a raw attestation document. A challenge is a nonce of NITRO_NONCE_LEN bytes; the answer is a
 * new document that has these bytes in `nonce`. A node that puts its SubjectPublicKeyInfo into `public_key`
 * is never challenged for want of a binding, but answers when it is.
 */
#ifndef CS_PLUGINS_NITRO_CHALLENGE_H
#define CS_PLUGINS_NITRO_CHALLENGE_H

#define NITRO_NONCE_LEN 32
#define NITRO_ATTESTOR "nitro_enclave"

#endif
