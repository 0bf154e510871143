/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/handshake.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#define PARTS_MAX 6

static struct cs_slice trim(struct cs_slice s)
{
    while (s.len > 0 && strchr(" \t\r\n", s.data[0]) != NULL && s.data[0] != '\0')
        s = cs_slice_of(s.data + 1, s.len - 1);
    while (s.len > 0 && strchr(" \t\r\n", s.data[s.len - 1]) != NULL && s.data[s.len - 1] != '\0')
        s.len--;
    return s;
}

/* What lies between the bars; the last part has the rest of the line. */
static size_t split(struct cs_slice line, struct cs_slice parts[PARTS_MAX])
{
    size_t n = 0;
    while (n < PARTS_MAX - 1) {
        const uint8_t *bar = line.len > 0 ? memchr(line.data, '|', line.len) : NULL;
        if (bar == NULL)
            break;
        size_t len = (size_t)(bar - line.data);
        parts[n++] = cs_slice_of(line.data, len);
        line = cs_slice_of(bar + 1, line.len - len - 1);
    }
    parts[n++] = line;
    return n;
}

/* The line as it may be shown: cut, and with everything unprintable escaped, but without quotes. */
static cs_code unrecognised(struct cs_slice line, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf shown = {0};
    cs_quote(&shown, cs_slice_of(line.data, line.len < 200 ? line.len : 200));
    int n = shown.len >= 2 ? (int)shown.len - 2 : 0;
    return cs_fail(e, CS_INVALID, "Unrecognized remote plugin message: %.*s", n,
                   n > 0 ? (const char *)shown.data + 1 : "");
}

static cs_code check_versions(const struct cs_slice *parts, struct cs_err *e)
{
    int64_t core, protocol;
    if (cs_parse_i64(parts[0], &core, NULL) != CS_OK)
        return cs_fail(e, CS_INVALID, "error parsing core protocol version: \"%.*s\"",
                       (int)(parts[0].len < 40 ? parts[0].len : 40), (const char *)parts[0].data);
    if (core != 1)
        return cs_fail(e, CS_INVALID,
                       "incompatible core API version with plugin. Plugin version: %lld, Core version: 1",
                       (long long)core);
    if (cs_parse_i64(parts[1], &protocol, NULL) != CS_OK)
        return cs_fail(e, CS_INVALID, "Error parsing protocol version \"%.*s\"",
                       (int)(parts[1].len < 40 ? parts[1].len : 40), (const char *)parts[1].data);
    if (protocol != 1)
        return cs_fail(e, CS_INVALID,
                       "incompatible API version with plugin. Plugin version: %lld, Client versions: [1]",
                       (long long)protocol);
    return CS_OK;
}

/* "127.0.0.1:PORT" or "[::1]:PORT", in numbers: a name could lead anywhere. */
static bool on_loopback(const char *address)
{
    char host[64];
    struct in_addr v4;
    struct in6_addr v6;
    int64_t number;
    const char *port = strrchr(address, ':');
    size_t len = port != NULL ? (size_t)(port - address) : 0;
    if (len == 0 || len >= sizeof host || cs_parse_i64(cs_slice_str(port + 1), &number, NULL) != CS_OK ||
        number <= 0 || number > UINT16_MAX)
        return false;
    memcpy(host, address, len);
    host[len] = '\0';
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (host[0] != '[' || host[len - 1] != ']')
        return false;
    host[len - 1] = '\0';
    return inet_pton(AF_INET6, host + 1, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

cs_code plugin_handshake_parse(struct cs_slice line, struct plugin_handshake *out, struct cs_err *e)
{
    struct cs_slice parts[PARTS_MAX];
    *out = (struct plugin_handshake){0};
    line = trim(line);
    if (line.len > PLUGIN_HANDSHAKE_MAX ||
        memchr(line.len > 0 ? line.data : (const uint8_t *)"", '\0', line.len))
        return unrecognised(line, e);
    size_t n = split(line, parts);
    if (n < 4)
        return unrecognised(line, e);
    CS_TRY(check_versions(parts, e));
    struct cs_slice kind = n > 4 ? parts[4] : cs_slice_str("netrpc");
    out->tcp = cs_slice_is(parts[2], "tcp");
    if (!out->tcp && !cs_slice_is(parts[2], "unix"))
        return cs_fail(e, CS_INVALID, "unknown address type: %.*s",
                       (int)(parts[3].len < 100 ? parts[3].len : 100), (const char *)parts[3].data);
    if (!cs_slice_is(kind, "grpc"))
        return cs_fail(e, CS_INVALID, "unsupported plugin protocol \"%.*s\". Supported: [grpc]",
                       (int)(kind.len < 40 ? kind.len : 40), (const char *)kind.data);
    if (parts[3].len == 0 || parts[3].len >= sizeof out->address)
        return cs_fail(e, CS_INVALID, "plugin address is empty or too long");
    memcpy(out->address, parts[3].data, parts[3].len);
    if (out->tcp && !on_loopback(out->address)) {
        *out = (struct plugin_handshake){0};
        return cs_fail(e, CS_INVALID, "plugin listens on %.*s, which is not on the loopback",
                       (int)(parts[3].len < 100 ? parts[3].len : 100), (const char *)parts[3].data);
    }
    return CS_OK;
}
