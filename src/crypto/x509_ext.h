/* SPDX-License-Identifier: Apache-2.0
 *
 * The extensions (RFC 5280 section 4.2) that certificates and CSRs share. Views into the DER they
 * were read from; nothing is allocated.
 */
#ifndef CS_CRYPTO_X509_EXT_H
#define CS_CRYPTO_X509_EXT_H

#include "base/buf.h"

/* Bits of keyUsage, numbered as in RFC 5280 section 4.2.1.3. */
#define X509_KU_DIGITAL_SIGNATURE (1u << 0)
#define X509_KU_CONTENT_COMMITMENT (1u << 1)
#define X509_KU_KEY_ENCIPHERMENT (1u << 2)
#define X509_KU_DATA_ENCIPHERMENT (1u << 3)
#define X509_KU_KEY_AGREEMENT (1u << 4)
#define X509_KU_CERT_SIGN (1u << 5)
#define X509_KU_CRL_SIGN (1u << 6)
#define X509_KU_ENCIPHER_ONLY (1u << 7)
#define X509_KU_DECIPHER_ONLY (1u << 8)

/* Purposes of extKeyUsage that we know. */
#define X509_EKU_ANY (1u << 0)
#define X509_EKU_SERVER_AUTH (1u << 1)
#define X509_EKU_CLIENT_AUTH (1u << 2)
#define X509_EKU_OTHER (1u << 31) /* at least one that we do not know */

/* Subject alternative names: the raw GeneralNames content, checked once, counted by kind. */
struct x509_sans {
    struct cs_slice raw; /* content of the GeneralNames SEQUENCE; empty: no extension */
    unsigned uris, dns, emails, ips, others;
};
enum x509_san_kind {
    X509_SAN_OTHER = -1,
    X509_SAN_EMAIL = 1,
    X509_SAN_DNS = 2,
    X509_SAN_URI = 6,
    X509_SAN_IP = 7
};
/* Iterate: struct cs_rd it = x509_san_begin(&sans); while (x509_san_next(&it, &kind, &value)) ... */
static inline struct cs_rd x509_san_begin(const struct x509_sans *s)
{
    return cs_rd_of(s->raw);
}
bool x509_san_next(struct cs_rd *it, enum x509_san_kind *kind, struct cs_slice *value);
/* The n-th name of a kind (0 is the first); false when there is none. */
bool x509_san_get(const struct x509_sans *s, enum x509_san_kind kind, unsigned n, struct cs_slice *value);

struct x509_extensions {
    struct x509_sans san;
    struct cs_slice ski, aki;         /* key identifiers; empty when absent */
    struct cs_slice name_constraints; /* content of the NameConstraints SEQUENCE; empty when absent */
    uint32_t eku;                     /* X509_EKU_*; 0 without the extension */
    uint16_t key_usage;               /* X509_KU_*; 0 without the extension */
    bool has_key_usage, has_eku, has_basic_constraints, has_san, has_name_constraints;
    bool san_critical, name_constraints_critical;
    bool is_ca;
    int path_len;          /* -1: no limit */
    int explicit_policy;   /* certificates below it that need no policy; -1: policies are not asked for */
    bool unknown_critical; /* a critical extension that we do not process */
};
/* Read the content of an Extensions SEQUENCE. CS_INVALID with Go-like texts ("x509: certificate
 * contains duplicate extension ..."). At most 64 extensions and 4,096 names. */
CS_CHECKED cs_code x509_extensions_parse(struct cs_slice seq_content, struct x509_extensions *out,
                                         struct cs_err *e);

#endif
