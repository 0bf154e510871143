/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: name constraints (RFC 5280 section 4.2.1.10).
 */
#ifndef CS_CRYPTO_X509_CONSTRAINTS_H
#define CS_CRYPTO_X509_CONSTRAINTS_H

#include "crypto/x509_cert.h"

/* May `ca` stand above a certificate with the names of `below`? DNS names and hosts of URIs are matched as Go
 * does: a constraint covers the name and what is under it, with a leading dot only what is under it.
 * Constraints on addresses and mailboxes are not evaluated: names of those kinds are refused under them, as
 * is everything under a critical constraint of another kind. CS_DENIED. */
CS_CHECKED cs_code x509_check_name_constraints(const struct x509_cert *ca, const struct x509_cert *below,
                                               struct cs_err *e);

#endif
