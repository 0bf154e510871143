/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/wire.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "proto/proto.h"
#include "rpcstatus.pb-c.h"

#include <stdio.h>

static const struct {
    char unit;
    int64_t ns;
} units[] = {
    {'n', 1},
    {'u', 1000},
    {'m', CS_NS_PER_MS},
    {'S', CS_NS_PER_S},
    {'M', 60 * CS_NS_PER_S},
    {'H', 3600 * CS_NS_PER_S},
};
#define UNITS (sizeof units / sizeof units[0])

static cs_code timeout_bad(struct cs_err *e, const char *what, struct cs_slice s)
{
    struct cs_buf q = {0};
    cs_quote(&q, (struct cs_slice){s.data, s.len > 32 ? 32 : s.len});
    cs_code code =
        cs_fail(e, CS_INTERNAL, "malformed grpc-timeout: transport: timeout %s: %s", what, cs_buf_cstr(&q));
    cs_buf_free(&q);
    return code;
}

cs_code rpc_timeout_parse(struct cs_slice s, int64_t *ns, struct cs_err *e)
{
    *ns = 0;
    if (s.len < 2)
        return timeout_bad(e, "string is too short", s);
    if (s.len > 9)
        return timeout_bad(e, "string is too long", s);
    int64_t unit = 0;
    for (size_t i = 0; i < UNITS; i++) {
        if (units[i].unit == (char)s.data[s.len - 1])
            unit = units[i].ns;
    }
    if (unit == 0)
        return timeout_bad(e, "unit is not recognized", s);
    int64_t v = 0;
    for (size_t i = 0; i + 1 < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return timeout_bad(e, "is not a number", s);
        v = v * 10 + (s.data[i] - '0');
    }
    if (__builtin_mul_overflow(v, unit, ns))
        *ns = INT64_MAX;
    return CS_OK;
}

void rpc_timeout_format(int64_t ns, char out[RPC_TIMEOUT_TEXT])
{
    if (ns < 0)
        ns = 0;
    size_t i = 0;
    int64_t v = ns;
    while (v > 99999999 && i + 1 < UNITS) {
        i++;
        v = ns / units[i].ns + (ns % units[i].ns != 0);
    }
    snprintf(out, RPC_TIMEOUT_TEXT, "%u%c", (unsigned)(v > 99999999 ? 99999999 : v), units[i].unit);
}

/* Length of the valid UTF-8 sequence at p, 0 when there is none. */
static size_t utf8_run(const uint8_t *p, size_t left)
{
    size_t n = p[0] < 0x80 ? 1 : (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : 4;
    if (n > left || !cs_utf8_valid(cs_slice_of(p, n)))
        return 0;
    return n;
}

void rpc_percent_encode(struct cs_buf *out, struct cs_slice s)
{
    static const char hex[] = "0123456789ABCDEF";
    static const char replacement[] = "%EF%BF%BD";
    for (size_t i = 0; i < s.len;) {
        size_t n = utf8_run(s.data + i, s.len - i);
        if (n == 0) {
            cs_buf_add_str(out, replacement);
            i++;
            continue;
        }
        for (size_t k = 0; k < n; k++) {
            uint8_t c = s.data[i + k];
            if (n == 1 && c >= 0x20 && c <= 0x7e && c != '%') {
                cs_buf_add_byte(out, c);
            } else {
                const uint8_t esc[3] = {'%', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15]};
                cs_buf_add(out, esc, sizeof esc);
            }
        }
        i += n;
    }
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void rpc_percent_decode(struct cs_buf *out, struct cs_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] == '%' && s.len - i > 2 && hex_value(s.data[i + 1]) >= 0 &&
            hex_value(s.data[i + 2]) >= 0) {
            cs_buf_add_byte(out, (uint8_t)(hex_value(s.data[i + 1]) << 4 | hex_value(s.data[i + 2])));
            i += 2;
        } else {
            cs_buf_add_byte(out, s.data[i]);
        }
    }
}

bool rpc_content_type_ok(struct cs_slice s)
{
    static const char base[] = "application/grpc";
    const size_t n = sizeof base - 1;
    if (s.len < n || memcmp(s.data, base, n) != 0)
        return false;
    return s.len == n || s.data[n] == '+' || s.data[n] == ';';
}

bool rpc_key_is_bin(struct cs_slice key)
{
    return key.len > 4 && memcmp(key.data + key.len - 4, "-bin", 4) == 0;
}

void rpc_bin_encode(struct cs_buf *out, struct cs_slice v)
{
    size_t before = out->len;
    cs_b64_encode(out, v, CS_B64_STD);
    while (out->len > before && out->data[out->len - 1] == '=')
        out->len--;
}

cs_code rpc_bin_decode(struct cs_buf *out, struct cs_slice v, struct cs_err *e)
{
    if (v.len % 4 == 0)
        return cs_b64_decode(out, v, CS_B64_STD, e);
    struct cs_buf padded CS_CLEANUP(cs_buf_free) = {0};
    cs_buf_add_slice(&padded, v);
    while (cs_buf_ok(&padded) && padded.len % 4 != 0)
        cs_buf_add_byte(&padded, '=');
    if (!cs_buf_ok(&padded))
        return cs_nomem(e);
    return cs_b64_decode(out, cs_buf_slice(&padded), CS_B64_STD, e);
}

cs_code rpc_details_encode(struct cs_buf *out, cs_code code, const char *text, const struct rpc_detail *d,
                           struct cs_err *e)
{
    char url[sizeof d->type_name + sizeof "type.googleapis.com/"];
    snprintf(url, sizeof url, "type.googleapis.com/%s", d->type_name);
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    any.type_url = url;
    any.value.data = (uint8_t *)d->data;
    any.value.len = d->len;
    Google__Protobuf__Any *list[] = {&any};
    Rpcstatus__Status st = RPCSTATUS__STATUS__INIT;
    st.code = (int32_t)code;
    st.message = (char *)(text != NULL ? text : "");
    st.n_details = 1;
    st.details = list;
    struct cs_buf packed CS_CLEANUP(cs_buf_free) = {0};
    CS_TRY(proto_pack(&st.base, &packed, e));
    rpc_bin_encode(out, cs_buf_slice(&packed));
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

void rpc_details_decode(struct cs_slice v, struct rpc_detail *d)
{
    memset(d, 0, sizeof *d);
    struct cs_buf raw CS_CLEANUP(cs_buf_free) = {0};
    if (rpc_bin_decode(&raw, v, NULL) != CS_OK)
        return;
    CS_AUTO(cs_arena) a = cs_arena_new(1024, 0);
    ProtobufCMessage *m = NULL;
    if (a == NULL || proto_unpack(a, &rpcstatus__status__descriptor, cs_buf_slice(&raw), &m, NULL) != CS_OK)
        return;
    const Rpcstatus__Status *st = (const Rpcstatus__Status *)m;
    if (st->n_details == 0)
        return;
    const Google__Protobuf__Any *any = st->details[0];
    const char *name = strrchr(any->type_url, '/');
    name = name != NULL ? name + 1 : any->type_url;
    if (strlen(name) >= sizeof d->type_name || any->value.len > sizeof d->data)
        return;
    snprintf(d->type_name, sizeof d->type_name, "%s", name);
    if (any->value.len > 0)
        memcpy(d->data, any->value.data, any->value.len);
    d->len = any->value.len;
}

static const struct {
    const char *name;
    cs_code code;
} h2_errors[] = {
    {"NO_ERROR", CS_INTERNAL},          {"PROTOCOL_ERROR", CS_INTERNAL},
    {"INTERNAL_ERROR", CS_INTERNAL},    {"FLOW_CONTROL_ERROR", CS_EXHAUSTED},
    {"SETTINGS_TIMEOUT", CS_INTERNAL},  {"STREAM_CLOSED", CS_INTERNAL},
    {"FRAME_SIZE_ERROR", CS_INTERNAL},  {"REFUSED_STREAM", CS_UNAVAILABLE},
    {"CANCEL", CS_CANCELLED},           {"COMPRESSION_ERROR", CS_INTERNAL},
    {"CONNECT_ERROR", CS_INTERNAL},     {"ENHANCE_YOUR_CALM", CS_EXHAUSTED},
    {"INADEQUATE_SECURITY", CS_DENIED}, {"HTTP_1_1_REQUIRED", CS_INTERNAL},
};
#define H2_ERRORS (sizeof h2_errors / sizeof h2_errors[0])

cs_code rpc_code_of_h2(uint32_t error)
{
    return error < H2_ERRORS ? h2_errors[error].code : CS_UNKNOWN;
}

const char *rpc_h2_error_name(uint32_t error)
{
    return error < H2_ERRORS ? h2_errors[error].name : "unknown error code";
}

static const struct {
    int status;
    const char *text;
    cs_code code;
} http_statuses[] = {
    {200, "OK", CS_UNKNOWN},
    {301, "Moved Permanently", CS_UNKNOWN},
    {302, "Found", CS_UNKNOWN},
    {307, "Temporary Redirect", CS_UNKNOWN},
    {400, "Bad Request", CS_INTERNAL},
    {401, "Unauthorized", CS_UNAUTHENTICATED},
    {403, "Forbidden", CS_DENIED},
    {404, "Not Found", CS_UNIMPLEMENTED},
    {405, "Method Not Allowed", CS_UNKNOWN},
    {415, "Unsupported Media Type", CS_UNKNOWN},
    {429, "Too Many Requests", CS_UNAVAILABLE},
    {431, "Request Header Fields Too Large", CS_UNKNOWN},
    {500, "Internal Server Error", CS_UNKNOWN},
    {502, "Bad Gateway", CS_UNAVAILABLE},
    {503, "Service Unavailable", CS_UNAVAILABLE},
    {504, "Gateway Timeout", CS_UNAVAILABLE},
};
#define HTTP_STATUSES (sizeof http_statuses / sizeof http_statuses[0])

cs_code rpc_code_of_http(int status)
{
    for (size_t i = 0; i < HTTP_STATUSES; i++) {
        if (http_statuses[i].status == status)
            return http_statuses[i].code;
    }
    return CS_UNKNOWN;
}

const char *rpc_http_status_text(int status)
{
    for (size_t i = 0; i < HTTP_STATUSES; i++) {
        if (http_statuses[i].status == status)
            return http_statuses[i].text;
    }
    return "";
}

const char *rpc_code_digits(cs_code code)
{
    static const char *const digits[] = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                         "9", "10", "11", "12", "13", "14", "15", "16"};
    return (unsigned)code < sizeof digits / sizeof digits[0] ? digits[code] : digits[CS_UNKNOWN];
}
