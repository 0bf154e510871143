/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/proxy.h"

#include "base/text.h"

#include <string.h>

#define STATUS_SHOWN 120 /* bytes of a status line in an error text */

/* --- The URL --- */

static const struct scheme {
    const char *prefix;
    bool vsock, connect;
} schemes[] = {
    {"http://", false, true},
    {"http+vsock://", true, true},
    {"vsock://", true, false},
};

static const struct scheme *scheme_of(const char *url)
{
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (strncmp(url, schemes[i].prefix, strlen(schemes[i].prefix)) == 0)
            return &schemes[i];
    return NULL;
}

/* Digits only: cs_parse_i64 takes a sign. */
static bool parse_number(const char *p, size_t len, int64_t max, int64_t *out)
{
    if (len == 0 || len > 10 || p[0] == '-' || p[0] == '+')
        return false;
    return cs_parse_i64(cs_slice_of(p, len), out, NULL) == CS_OK && *out <= max;
}

/* Letters, digits and what addresses have; nothing that could end a line or mean something in a URL. */
static bool is_host(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
              c == '-' || c == '_' || c == ':'))
            return false;
    }
    return len > 0;
}

static bool parse_tcp(const char *host, size_t len, const char *port, size_t port_len, struct rpc_proxy *out)
{
    int64_t n;
    bool brackets = len >= 2 && host[0] == '[' && host[len - 1] == ']';
    if (brackets) {
        host++;
        len -= 2;
    }
    if (!is_host(host, len) || len >= sizeof out->host || (!brackets && memchr(host, ':', len) != NULL) ||
        !parse_number(port, port_len, 65535, &n) || n == 0)
        return false;
    memcpy(out->host, host, len);
    out->port = (uint16_t)n;
    return true;
}

static bool parse_vsock(const char *host, size_t len, const char *port, size_t port_len,
                        struct rpc_proxy *out)
{
    int64_t cid, n;
    if (!parse_number(host, len, UINT32_MAX, &cid) || !parse_number(port, port_len, UINT32_MAX, &n))
        return false;
    out->cid = (uint32_t)cid;
    out->vport = (uint32_t)n;
    return true;
}

cs_code rpc_proxy_parse(const char *url, struct rpc_proxy *out, struct cs_err *e)
{
    *out = (struct rpc_proxy){0};
    if (strchr(url, '@') != NULL)
        return cs_fail(e, CS_INVALID, "proxy URL has user information, which is not supported");
    const struct scheme *s = scheme_of(url);
    if (s == NULL)
        return cs_fail(e, CS_INVALID,
                       "proxy URL \"%.200s\" must begin with http://, http+vsock:// or vsock://", url);
    struct rpc_proxy p = {.vsock = s->vsock, .connect = s->connect};
    const char *host = url + strlen(s->prefix);
    size_t len = strlen(host);
    if (len > 0 && host[len - 1] == '/')
        len--;
    const char *colon = memrchr(host, ':', len);
    size_t host_len = colon != NULL ? (size_t)(colon - host) : 0;
    size_t port_len = colon != NULL ? len - host_len - 1 : 0;
    if (colon == NULL || !(s->vsock ? parse_vsock : parse_tcp)(host, host_len, colon + 1, port_len, &p))
        return cs_fail(e, CS_INVALID, "proxy URL \"%.200s\" must end with %s", url,
                       s->vsock ? "CID:PORT, two numbers" : "HOST:PORT");
    *out = p;
    return CS_OK;
}

/* --- The answer --- */

/* Where the headers end: behind an empty line. 0: not yet. */
static size_t head_length(struct cs_slice got)
{
    const uint8_t *p = got.len > 0 ? memmem(got.data, got.len, "\r\n\r\n", 4) : NULL;
    return p != NULL ? (size_t)(p - got.data) + 4 : 0;
}

/* The status line as it may be shown: the proxy must not write our log. */
static void show(struct cs_slice head, char out[STATUS_SHOWN + 1])
{
    size_t n = 0;
    for (; n < STATUS_SHOWN && n < head.len && head.data[n] != '\r' && head.data[n] != '\n'; n++)
        out[n] =
            (char)(head.data[n] >= 0x20 && head.data[n] < 0x7f && head.data[n] != '"' ? head.data[n] : '?');
    out[n] = '\0';
}

/* "HTTP/1.x NNN": the code, 0 when it is something else. */
static int status_of(struct cs_slice head)
{
    const uint8_t *p = head.data;
    if (head.len < 13 || memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') || p[8] != ' ' ||
        (p[12] != ' ' && p[12] != '\r'))
        return 0;
    int code = 0;
    for (size_t i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return 0;
        code = code * 10 + (p[i] - '0');
    }
    return code;
}

cs_code rpc_proxy_answer(struct cs_slice got, size_t *length, struct cs_err *e)
{
    *length = 0;
    size_t len = head_length(got);
    if (len > RPC_PROXY_HEAD_MAX || (len == 0 && got.len >= RPC_PROXY_HEAD_MAX))
        return cs_fail(e, CS_INVALID, "its answer has more than %d bytes of headers", RPC_PROXY_HEAD_MAX);
    if (len == 0)
        return CS_OK;
    char shown[STATUS_SHOWN + 1];
    int status = status_of(cs_slice_of(got.data, len));
    show(got, shown);
    if (status == 0)
        return cs_fail(e, CS_INVALID, "its answer is not HTTP: %s", shown);
    if (status / 100 != 2)
        return cs_fail(e, CS_UNAVAILABLE, "it answered %s", shown);
    *length = len;
    return CS_OK;
}
