/* SPDX-License-Identifier: Apache-2.0
 *
 * A node's certificate: its subject, and what its key signs to prove itself.
 */
#include "crypto/der.h"
#include "plugins/shared/k8s_csr/k8s_csr.h"

#include <unistd.h>

#define CONTEXT "cspire NodeAttestor k8s_csr: proof of possession, version 1"

static const uint8_t oid_common_name[] = {0x55, 0x04, 0x03};
static const uint8_t oid_organization[] = {0x55, 0x04, 0x0a};

bool k8s_csr_node_name_ok(struct cs_slice name)
{
    if (name.len == 0 || name.len > K8S_CSR_NODE_MAX || cs_slice_is(name, ".") || cs_slice_is(name, ".."))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        const uint8_t c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
              c == '_' || c == '.'))
            return false;
    }
    return true;
}

bool k8s_csr_host_name(char out[K8S_CSR_HOST_SIZE])
{
    memset(out, 0, K8S_CSR_HOST_SIZE);
    if (gethostname(out, K8S_CSR_HOST_SIZE - 1) != 0)
        return false;
    for (char *c = out; *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return true;
}

/* One RDN: a SET of one attribute whose value is text of one byte a character, where it is ASCII. */
static bool next_attribute(struct cs_rd *names, struct cs_slice *oid, struct cs_slice *value)
{
    struct cs_rd set, attribute;
    uint8_t tag;
    return der_enter(names, DER_SET, &set) && der_enter(&set, DER_SEQUENCE, &attribute) &&
           cs_rd_left(&set) == 0 && der_read(&attribute, DER_OID, oid) &&
           der_next(&attribute, &tag, value, NULL) && cs_rd_left(&attribute) == 0 &&
           (tag == DER_UTF8_STRING || tag == DER_PRINTABLE_STRING);
}

/* Kubernetes takes users from CN and groups from each O; anything besides would mean something to others. */
cs_code k8s_csr_subject(struct cs_slice subject, struct cs_slice *node, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(subject), names;
    struct cs_slice oid, value, user = {0};
    unsigned organizations = 0, users = 0;
    *node = (struct cs_slice){0};
    if (!der_enter(&r, DER_SEQUENCE, &names))
        return cs_fail(e, CS_DENIED, "certificate: the subject is broken");
    while (cs_rd_left(&names) > 0) {
        const bool read = next_attribute(&names, &oid, &value);
        if (read && cs_slice_eq(oid, cs_slice_of(oid_common_name, sizeof oid_common_name))) {
            user = value;
            users++;
        } else if (read && cs_slice_eq(oid, cs_slice_of(oid_organization, sizeof oid_organization)) &&
                   cs_slice_is(value, K8S_CSR_ORGANIZATION)) {
            organizations++;
        } else {
            return cs_fail(e, CS_DENIED,
                           "certificate: the subject is not O=" K8S_CSR_ORGANIZATION
                           " and CN=" K8S_CSR_USER_PREFIX "NAME alone");
        }
    }
    const size_t prefix = strlen(K8S_CSR_USER_PREFIX);
    if (organizations != 1 || users != 1 || user.len < prefix ||
        memcmp(user.data, K8S_CSR_USER_PREFIX, prefix) != 0)
        return cs_fail(e, CS_DENIED,
                       "certificate: the subject is not O=" K8S_CSR_ORGANIZATION
                       " and CN=" K8S_CSR_USER_PREFIX "NAME");
    *node = cs_slice_of(user.data + prefix, user.len - prefix);
    if (k8s_csr_node_name_ok(*node))
        return CS_OK;
    *node = (struct cs_slice){0};
    return cs_fail(e, CS_DENIED, "certificate: CN does not hold the name of a node");
}

static void add_field(struct cs_buf *out, struct cs_slice field)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        cs_buf_add_byte(out, (uint8_t)(field.len >> shift));
    cs_buf_add_slice(out, field);
}

void k8s_csr_claim_write(struct cs_buf *out, const struct k8s_csr_claim *c)
{
    cs_buf_add(out, CONTEXT, sizeof CONTEXT); /* with its NUL */
    add_field(out, cs_slice_str(c->trust_domain));
    add_field(out, cs_slice_str(c->cluster));
    add_field(out, c->server_nonce);
    add_field(out, c->agent_nonce);
    add_field(out, c->spki);
    add_field(out, cs_slice_of(c->cert_hash, 32));
}
