/* SPDX-License-Identifier: Apache-2.0
 *
 * Distinguished names (RFC 5280 section 4.1.2.4) in the shape SPIRE configures and prints them: the
 * attributes Go's pkix.Name knows, written in its order, printed in its form.
 */
#ifndef CS_CRYPTO_X509_NAME_H
#define CS_CRYPTO_X509_NAME_H

#include "base/buf.h"
#include "base/mem.h"

/* Values of one attribute type; all values of a type share one RDN, as Go writes them. */
struct x509_values {
    const char *const *at;
    size_t count;
};
/* An attribute of any type; `oid` is the content of the OID. */
struct x509_name_attribute {
    struct cs_slice oid;
    const char *value;
};
/* Zero-initialised is the empty name. Everything is borrowed. UTF-8. */
struct x509_name {
    struct x509_values country, organization, organizational_unit, locality, province, street, postal_code;
    const char *common_name, *serial_number; /* NULL or "": absent */
    const char *unique_id;                   /* x500UniqueIdentifier 2.5.4.45, written last; NULL: absent */
    /* Written behind the others, an RDN each. The fields above count nothing for a type that is in here
     * (Go's pkix.Name.ExtraNames). */
    const struct x509_name_attribute *extra;
    size_t extra_count;
};
/* Is this one whole RDNSequence of the right shape, values unread? */
bool x509_name_sound(struct cs_slice der);
bool x509_name_empty(const struct x509_name *n);
/* Append the RDNSequence's DER (an empty SEQUENCE for the empty name). Order: C, O, OU, L, ST, street,
 * postalCode, CN, serialNumber, unique ID, extra; PrintableString where it fits, UTF8String otherwise. Text
 * that is not UTF-8 makes out fail. */
void x509_name_write(struct cs_buf *out, const struct x509_name *n);
/* Read an RDNSequence (whole element) into memory of the arena; attributes that the struct does not
 * know are dropped. CS_INVALID. */
CS_CHECKED cs_code x509_name_parse(struct cs_arena *a, struct cs_slice der, struct x509_name *out,
                                   struct cs_err *e);
/* Go's pkix.Name.String / RFC 2253 text of any RDNSequence, last RDN first: "CN=a,O=SPIRE,C=US";
 * unknown types print as "1.2.3=#hex". CS_INVALID when broken. */
CS_CHECKED cs_code x509_name_text(struct cs_buf *out, struct cs_slice der, struct cs_err *e);

#endif
