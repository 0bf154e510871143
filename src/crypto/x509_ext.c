/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/x509_ext.h"

#include "crypto/der.h"

#define MAX_EXTENSIONS 64
#define MAX_NAMES 4096

static const char malformed[] = "x509: malformed extension";

static bool all_ascii(struct cs_slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] >= 0x80)
            return false;
    return true;
}

static enum x509_san_kind kind_of_tag(uint8_t tag)
{
    switch (tag) {
    case DER_CONTEXT(1):
        return X509_SAN_EMAIL;
    case DER_CONTEXT(2):
        return X509_SAN_DNS;
    case DER_CONTEXT(6):
        return X509_SAN_URI;
    case DER_CONTEXT(7):
        return X509_SAN_IP;
    default:
        return X509_SAN_OTHER;
    }
}

bool x509_san_next(struct cs_rd *it, enum x509_san_kind *kind, struct cs_slice *value)
{
    uint8_t tag;
    if (!der_next(it, &tag, value, NULL))
        return false;
    *kind = kind_of_tag(tag);
    return true;
}

bool x509_san_get(const struct x509_sans *s, enum x509_san_kind kind, unsigned n, struct cs_slice *value)
{
    struct cs_rd it = x509_san_begin(s);
    enum x509_san_kind k;
    while (x509_san_next(&it, &k, value))
        if (k == kind && n-- == 0)
            return true;
    *value = (struct cs_slice){0};
    return false;
}

static cs_code read_san(struct cs_slice value, struct x509_sans *out, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(value), names;
    if (!der_enter(&r, DER_SEQUENCE, &names) || cs_rd_left(&r) != 0)
        return cs_fail(e, CS_INVALID, "x509: invalid subject alternative names");
    out->raw = cs_slice_of(names.p, cs_rd_left(&names));
    for (unsigned count = 0; cs_rd_left(&names) > 0; count++) {
        enum x509_san_kind kind;
        struct cs_slice v;
        if (count == MAX_NAMES || !x509_san_next(&names, &kind, &v))
            return cs_fail(e, CS_INVALID, "x509: invalid subject alternative name");
        bool text = kind == X509_SAN_URI || kind == X509_SAN_DNS || kind == X509_SAN_EMAIL;
        if (text && !all_ascii(v))
            return cs_fail(e, CS_INVALID, "x509: SAN %s is malformed",
                           kind == X509_SAN_URI   ? "uniformResourceIdentifier"
                           : kind == X509_SAN_DNS ? "dNSName"
                                                  : "rfc822Name");
        if (kind == X509_SAN_IP && v.len != 4 && v.len != 16)
            return cs_fail(e, CS_INVALID, "x509: cannot parse IP address of length %zu", v.len);
        out->uris += kind == X509_SAN_URI;
        out->dns += kind == X509_SAN_DNS;
        out->emails += kind == X509_SAN_EMAIL;
        out->ips += kind == X509_SAN_IP;
        out->others += kind == X509_SAN_OTHER;
    }
    return CS_OK;
}

static bool read_key_usage(struct cs_slice value, uint16_t *out)
{
    struct cs_rd r = cs_rd_of(value);
    struct cs_slice bits;
    unsigned unused;
    if (!der_read_bits(&r, &bits, &unused) || cs_rd_left(&r) != 0)
        return false;
    for (unsigned i = 0; i < 9 && i < bits.len * 8; i++)
        if (bits.data[i / 8] >> (7 - i % 8) & 1)
            *out = (uint16_t)(*out | 1u << i);
    return true;
}

static bool read_eku(struct cs_slice value, uint32_t *out)
{
    static const uint8_t any[] = {0x55, 0x1d, 0x25, 0x00};
    static const uint8_t server[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01};
    static const uint8_t client[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02};
    struct cs_rd r = cs_rd_of(value), list;
    if (!der_enter(&r, DER_SEQUENCE, &list) || cs_rd_left(&r) != 0)
        return false;
    while (cs_rd_left(&list) > 0) {
        struct cs_slice oid;
        if (!der_read(&list, DER_OID, &oid) || !der_oid_valid(oid))
            return false;
        if (cs_slice_eq(oid, cs_slice_of(any, sizeof any)))
            *out |= X509_EKU_ANY;
        else if (cs_slice_eq(oid, cs_slice_of(server, sizeof server)))
            *out |= X509_EKU_SERVER_AUTH;
        else if (cs_slice_eq(oid, cs_slice_of(client, sizeof client)))
            *out |= X509_EKU_CLIENT_AUTH;
        else
            *out |= X509_EKU_OTHER;
    }
    return true;
}

static bool read_basic_constraints(struct cs_slice value, struct x509_extensions *out)
{
    struct cs_rd r = cs_rd_of(value), seq;
    if (!der_enter(&r, DER_SEQUENCE, &seq) || cs_rd_left(&r) != 0)
        return false;
    out->path_len = -1;
    if (der_peek(&seq, DER_BOOLEAN) && !der_read_bool(&seq, &out->is_ca))
        return false;
    if (der_peek(&seq, DER_INTEGER)) {
        uint32_t n;
        if (!der_read_small(&seq, &n))
            return false;
        out->path_len = (int)n;
    }
    return cs_rd_left(&seq) == 0;
}

static bool read_ski(struct cs_slice value, struct cs_slice *out)
{
    struct cs_rd r = cs_rd_of(value);
    return der_read(&r, DER_OCTET_STRING, out) && cs_rd_left(&r) == 0;
}

/* Only the keyIdentifier counts; issuer name and serial number are read over. */
static bool read_aki(struct cs_slice value, struct cs_slice *out)
{
    struct cs_rd r = cs_rd_of(value), seq;
    bool present;
    if (!der_enter(&r, DER_SEQUENCE, &seq) || cs_rd_left(&r) != 0)
        return false;
    if (!der_optional(&seq, DER_CONTEXT(0), out, &present))
        return false;
    while (cs_rd_left(&seq) > 0)
        if (!der_next(&seq, NULL, NULL, NULL))
            return false;
    return true;
}

static bool read_name_constraints(struct cs_slice value, struct cs_slice *out)
{
    struct cs_rd r = cs_rd_of(value);
    return der_read(&r, DER_SEQUENCE, out) && cs_rd_left(&r) == 0;
}

/* PolicyConstraints ::= SEQUENCE { requireExplicitPolicy [0], inhibitPolicyMapping [1], both INTEGER OPTIONAL
 * } */
static bool read_policy_constraints(struct cs_slice value, struct x509_extensions *out)
{
    struct cs_rd r = cs_rd_of(value), seq;
    struct cs_slice number;
    bool present;
    if (!der_enter(&r, DER_SEQUENCE, &seq) || cs_rd_left(&r) != 0 ||
        !der_optional(&seq, DER_CONTEXT(0), &number, &present))
        return false;
    if (present) {
        if (number.len == 0 || number.len > 4 || number.data[0] >= 0x80)
            return false;
        out->explicit_policy = 0;
        for (size_t i = 0; i < number.len; i++)
            out->explicit_policy = out->explicit_policy << 8 | number.data[i];
    }
    return der_optional(&seq, DER_CONTEXT(1), &number, &present) && cs_rd_left(&seq) == 0;
}

/* It takes away from what a path's policies may be, and we take none of them for a reason to accept. */
static bool read_inhibit_any_policy(struct cs_slice value)
{
    struct cs_rd r = cs_rd_of(value);
    uint32_t skip;
    return der_read_small(&r, &skip) && cs_rd_left(&r) == 0;
}

/* id-ce is 2.5.29: all that we know are 55 1d n. */
static cs_code read_known(uint8_t n, bool critical, struct cs_slice value, struct x509_extensions *out,
                          struct cs_err *e)
{
    switch (n) {
    case 14:
        return read_ski(value, &out->ski) ? CS_OK
                                          : cs_fail(e, CS_INVALID, "x509: invalid subject key identifier");
    case 15:
        out->has_key_usage = true;
        return read_key_usage(value, &out->key_usage) ? CS_OK
                                                      : cs_fail(e, CS_INVALID, "x509: invalid key usage");
    case 17:
        out->has_san = true;
        out->san_critical = critical;
        return read_san(value, &out->san, e);
    case 19:
        out->has_basic_constraints = true;
        return read_basic_constraints(value, out) ? CS_OK
                                                  : cs_fail(e, CS_INVALID, "x509: invalid basic constraints");
    case 30:
        out->has_name_constraints = true;
        out->name_constraints_critical = critical;
        return read_name_constraints(value, &out->name_constraints)
                   ? CS_OK
                   : cs_fail(e, CS_INVALID, "x509: invalid NameConstraints extension");
    case 35:
        return read_aki(value, &out->aki) ? CS_OK
                                          : cs_fail(e, CS_INVALID, "x509: invalid authority key identifier");
    case 37:
        out->has_eku = true;
        return read_eku(value, &out->eku) ? CS_OK
                                          : cs_fail(e, CS_INVALID, "x509: invalid extended key usages");
    case 36:
        return read_policy_constraints(value, out)
                   ? CS_OK
                   : cs_fail(e, CS_INVALID, "x509: invalid policy constraints extension");
    case 54:
        return read_inhibit_any_policy(value)
                   ? CS_OK
                   : cs_fail(e, CS_INVALID, "x509: invalid inhibit any policy extension");
    /* CRL distribution points restrict nothing that we decide. Policies and their mappings only matter to a
     * path that must have one, see explicit_policy. */
    case 31:
    case 32:
    case 33:
        return CS_OK;
    default:
        out->unknown_critical |= critical;
        return CS_OK;
    }
}

static bool read_extension(struct cs_rd *list, struct cs_slice *oid, bool *critical, struct cs_slice *value)
{
    struct cs_rd ext;
    *critical = false;
    if (!der_enter(list, DER_SEQUENCE, &ext) || !der_read(&ext, DER_OID, oid) || !der_oid_valid(*oid))
        return false;
    if (der_peek(&ext, DER_BOOLEAN) && !der_read_bool(&ext, critical))
        return false;
    return der_read(&ext, DER_OCTET_STRING, value) && cs_rd_left(&ext) == 0;
}

cs_code x509_extensions_parse(struct cs_slice seq_content, struct x509_extensions *out, struct cs_err *e)
{
    *out = (struct x509_extensions){.path_len = -1, .explicit_policy = -1};
    struct cs_slice seen[MAX_EXTENSIONS];
    struct cs_rd list = cs_rd_of(seq_content);
    for (size_t count = 0; cs_rd_left(&list) > 0; count++) {
        struct cs_slice oid, value;
        bool critical;
        if (count == MAX_EXTENSIONS)
            return cs_fail(e, CS_INVALID, "x509: too many extensions");
        if (!read_extension(&list, &oid, &critical, &value))
            return cs_fail(e, CS_INVALID, malformed);
        for (size_t i = 0; i < count; i++)
            if (cs_slice_eq(seen[i], oid)) {
                CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
                der_oid_text(&text, oid);
                return cs_fail(e, CS_INVALID,
                               "x509: certificate contains duplicate extension with OID \"%s\"",
                               cs_buf_cstr(&text));
            }
        seen[count] = oid;
        if (oid.len == 3 && oid.data[0] == 0x55 && oid.data[1] == 0x1d)
            CS_TRY(read_known(oid.data[2], critical, value, out, e));
        else
            out->unknown_critical |= critical;
    }
    return CS_OK;
}
