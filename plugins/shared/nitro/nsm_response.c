/* SPDX-License-Identifier: Apache-2.0
 *
 * What the Nitro Security Module answers: a map of one pair whose key is the request's name, or "Error" and
 * the name of a code.
 */
#include "crypto/cbor.h"
#include "plugins/shared/nitro/nsm.h"

#include <ctype.h>

#define ERROR_NAME_MAX 64

/* Names of codes are words; anything else is not worth showing. */
static bool is_word(struct cs_slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum(s.data[i]))
            return false;
    return s.len > 0 && s.len <= ERROR_NAME_MAX;
}

static cs_code malformed(const char *request, struct cs_err *e)
{
    return cs_fail(e, CS_INVALID, "NSM: the answer to %s is malformed", request);
}

/* Up to the value of the one pair. */
static cs_code open_response(struct cs_rd *r, const char *request, struct cs_err *e)
{
    struct cbor_map m;
    struct cs_slice code;
    if (!cbor_map_begin(r, &m, false) || m.left != 1 || !cbor_map_more(r, &m))
        return malformed(request, e);
    if (cbor_read_text_is(r, request))
        return CS_OK;
    if (!cbor_read_text_is(r, "Error") || !cbor_read_text(r, &code) || cs_rd_left(r) > 0 || !is_word(code))
        return malformed(request, e);
    return cs_fail(e, CS_INTERNAL, "NSM: %.*s", (int)code.len, (const char *)code.data);
}

/* {request: {field: bytes}} and nothing else. */
static cs_code parse_bytes(struct cs_slice response, const char *request, const char *field,
                           struct cs_slice *out, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(response);
    struct cbor_map m;
    *out = (struct cs_slice){0};
    CS_TRY(open_response(&r, request, e));
    struct cs_slice value;
    if (!cbor_map_begin(&r, &m, false) || m.left != 1 || !cbor_map_more(&r, &m) ||
        !cbor_read_text_is(&r, field) || !cbor_read_bytes(&r, &value) || cs_rd_left(&r) > 0)
        return malformed(request, e);
    if (value.len == 0)
        return cs_fail(e, CS_INVALID, "NSM: the answer to %s is empty", request);
    *out = value;
    return CS_OK;
}

cs_code nitro_nsm_parse_document(struct cs_slice response, struct cs_slice *out, struct cs_err *e)
{
    return parse_bytes(response, "Attestation", "document", out, e);
}

cs_code nitro_nsm_parse_random(struct cs_slice response, struct cs_slice *out, struct cs_err *e)
{
    return parse_bytes(response, "GetRandom", "random", out, e);
}

/* --- DescribeNSM --- */

enum field { MAJOR, MINOR, PATCH, MAX_PCRS, MODULE_ID, OTHER };
static const char *const fields[] = {
    [MAJOR] = "version_major", [MINOR] = "version_minor", [PATCH] = "version_patch",
    [MAX_PCRS] = "max_pcrs",   [MODULE_ID] = "module_id",
};

static enum field field_of(struct cs_slice key)
{
    enum field f = MAJOR;
    while (f < OTHER && !cs_slice_is(key, fields[f]))
        f++;
    return f;
}

static bool read_u16(struct cs_rd *r, uint16_t *out)
{
    uint64_t v;
    if (!cbor_read_uint(r, &v) || v > UINT16_MAX)
        return false;
    *out = (uint16_t)v;
    return true;
}

static bool read_module_id(struct cs_rd *r, struct nitro_nsm_description *out)
{
    struct cs_slice s;
    if (!cbor_read_text(r, &s) || s.len == 0 || s.len > NITRO_NSM_MODULE_ID_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!isgraph(s.data[i]))
            return false;
    memcpy(out->module_id, s.data, s.len);
    out->module_id[s.len] = '\0';
    return true;
}

static bool read_field(struct cs_rd *r, enum field f, struct nitro_nsm_description *out)
{
    switch (f) {
    case MAJOR:
        return read_u16(r, &out->major);
    case MINOR:
        return read_u16(r, &out->minor);
    case PATCH:
        return read_u16(r, &out->patch);
    case MAX_PCRS:
        return read_u16(r, &out->max_pcrs);
    case MODULE_ID:
        return read_module_id(r, out);
    default:
        return cbor_skip(r); /* locked_pcrs, digest, and what later modules may add */
    }
}

static bool read_description(struct cs_rd *r, struct nitro_nsm_description *out)
{
    struct cbor_map m;
    unsigned seen = 0;
    if (!cbor_map_begin(r, &m, false))
        return false;
    while (cbor_map_more(r, &m)) {
        struct cs_slice key;
        if (!cbor_read_text(r, &key))
            return false;
        enum field f = field_of(key);
        if (f != OTHER && (seen & 1u << f) != 0)
            return false;
        seen |= 1u << f;
        if (!read_field(r, f, out))
            return false;
    }
    return cbor_map_ended(&m) && cs_rd_left(r) == 0 && (seen & 1u << MODULE_ID) != 0;
}

cs_code nitro_nsm_parse_description(struct cs_slice response, struct nitro_nsm_description *out,
                                    struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(response);
    struct nitro_nsm_description d = {0};
    *out = d;
    CS_TRY(open_response(&r, "DescribeNSM", e));
    if (!read_description(&r, &d))
        return malformed("DescribeNSM", e);
    *out = d;
    return CS_OK;
}
