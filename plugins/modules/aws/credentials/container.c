/* SPDX-License-Identifier: Apache-2.0
 *
 * Credentials of a container: of a task of ECS, or of a pod of EKS by Pod Identity ("Container credential
 * provider" of the AWS SDKs and Tools Reference Guide).
 */
#include "base/file.h"
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <strings.h>

/* --- Whom to ask --- */

static bool is_allowed_v4(const uint8_t a[4])
{
    static const uint8_t ecs[] = {169, 254, 170, 2}, eks[] = {169, 254, 170, 23};
    return a[0] == 127 || memcmp(a, ecs, 4) == 0 || memcmp(a, eks, 4) == 0;
}

static bool is_allowed_v6(const struct in6_addr *a)
{
    static const struct in6_addr eks = {{{0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x23}}};
    if (IN6_IS_ADDR_V4MAPPED(a))
        return is_allowed_v4(a->s6_addr + 12);
    return IN6_IS_ADDR_LOOPBACK(a) || memcmp(a, &eks, sizeof eks) == 0;
}

static bool is_allowed(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return is_allowed_v4((const uint8_t *)&((const struct sockaddr_in *)(const void *)a)->sin_addr);
    return a->sa_family == AF_INET6 &&
           is_allowed_v6(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

/* All addresses of the host must be allowed; the first one as it stands in a URL. */
static cs_code resolve(const char *host, char text[INET6_ADDRSTRLEN + 2], struct cs_err *e)
{
    struct addrinfo *all = NULL;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const int rc = getaddrinfo(host, NULL, &hints, &all);
    if (rc != 0)
        return cs_fail(e, CS_UNAVAILABLE, "failed to resolve host \"%s\", %s", host, gai_strerror(rc));
    bool good = true;
    for (const struct addrinfo *a = all; a != NULL; a = a->ai_next)
        good &= is_allowed(a->ai_addr);
    if (good) {
        const struct sockaddr *a = all->ai_addr;
        const void *at = a->sa_family == AF_INET
                             ? (const void *)&((const struct sockaddr_in *)(const void *)a)->sin_addr
                             : (const void *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
        const bool six = a->sa_family == AF_INET6;
        text[0] = '[';
        good = inet_ntop(a->sa_family, at, text + six, INET6_ADDRSTRLEN) != NULL;
        const size_t n = strlen(text);
        if (six && good) {
            text[n] = ']';
            text[n + 1] = '\0';
        }
    }
    freeaddrinfo(all);
    return good ? CS_OK
                : cs_fail(e, CS_INVALID,
                          "invalid endpoint host, \"%s\", only loopback/ecs/eks hosts are allowed", host);
}

/* "HOST", "HOST:PORT", "[ADDRESS]:PORT"; *port views the authority, from the ':' on. False: none of them. */
static bool split_authority(const char *authority, char host[256], const char **port)
{
    const bool six = *authority == '[';
    const size_t n = six ? strcspn(authority, "]") : strcspn(authority, ":");
    if (n - six >= 256 || (six && authority[n] != ']'))
        return false;
    memcpy(host, authority + six, n - six);
    host[n - six] = '\0';
    *port = authority + n + six;
    return **port == '\0' || (**port == ':' && strspn(*port + 1, "0123456789") == strlen(*port + 1));
}

cs_code aws_container_url(const char *full, char **url, char **host, struct cs_err *e)
{
    char name[256], number[INET6_ADDRSTRLEN + 2];
    const char *port;
    *url = *host = NULL;
    for (const char *s = full; *s != '\0'; s++)
        if (*s <= ' ' || *s > '~' || *s == '\\')
            return cs_fail(e, CS_INVALID, "invalid URL, AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const bool plain = strncasecmp(full, "http://", 7) == 0, tls = strncasecmp(full, "https://", 8) == 0;
    const char *from = full + (tls ? 8 : 7);
    CS_CLEANUP(cs_freep) char *authority = plain || tls ? cs_strndup(from, strcspn(from, "/?#")) : NULL;
    if ((plain || tls) && authority == NULL)
        return cs_nomem(e);
    if (authority == NULL || strchr(authority, '@') != NULL || !split_authority(authority, name, &port) ||
        *name == '\0')
        return cs_fail(e, CS_INVALID, "unable to parse host from local HTTP cred provider URL");
    if (tls) {
        *url = cs_strdup(full);
        return *url != NULL ? CS_OK : cs_nomem(e);
    }
    CS_TRY(resolve(name, number, e));
    *url = cs_asprintf("http://%s%s%s", number, port, from + strlen(authority));
    *host = CS_MOVE(authority);
    if (*url != NULL)
        return CS_OK;
    cs_freep(host);
    return cs_nomem(e);
}

cs_code aws_plan_container(struct aws_plan *out, struct cs_err *e)
{
    const char *path = aws_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = aws_env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *auth = aws_env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    const char *auth_file = aws_env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    if (path == NULL && full == NULL)
        return cs_fail(e, CS_NOT_FOUND, "no container");
    out->source = AWS_SOURCE_CONTAINER;
    if (path != NULL && *path != '/') /* it would become part of the host's name */
        return cs_fail(e, CS_INVALID, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with a slash");
    if (path != NULL) {
        out->url = cs_asprintf("http://169.254.170.2%s", path);
        if (out->url == NULL)
            return cs_nomem(e);
    } else {
        CS_TRY(aws_container_url(full, &out->url, &out->host, e));
    }
    out->auth = auth != NULL ? cs_strdup(auth) : NULL;
    out->auth_file = auth_file != NULL ? cs_strdup(auth_file) : NULL;
    return (auth == NULL || out->auth != NULL) && (auth_file == NULL || out->auth_file != NULL) ? CS_OK
                                                                                                : cs_nomem(e);
}

/* --- Asking --- */

static cs_code read_authorization(const struct aws_plan *p, struct cs_buf *out, struct cs_err *e)
{
    if (!cs_buf_reserve(out, AWS_TOKEN_MAX + 1))
        return cs_nomem(e);
    if (p->auth_file == NULL && p->auth != NULL)
        cs_buf_add_str(out, p->auth);
    if (p->auth_file != NULL && cs_file_read(p->auth_file, AWS_TOKEN_MAX, out, e) != CS_OK)
        return cs_wrap(e, "resolve auth token: failed to read authorization token from %s", p->auth_file);
    for (size_t i = 0; i < out->len; i++) {
        if (out->data[i] == '\r' || out->data[i] == '\n')
            return cs_fail(e, CS_INVALID,
                           "resolve auth token: authorization token contains invalid newline sequence");
        if (out->data[i] < ' ' || out->data[i] > '~')
            return cs_fail(e, CS_INVALID, "resolve auth token: authorization token is no line of text");
    }
    return CS_OK;
}

static cs_code ask(struct aws_chain *c, struct aws_credentials *out, struct cs_err *e)
{
    const struct aws_plan *p = &c->plan;
    CS_CLEANUP(cs_buf_wipe) struct cs_buf auth = {0};
    CS_CLEANUP(http_response_free) struct http_response r = {0};
    struct http_header headers[3] = {{"Accept", "application/json"}};
    size_t count = 1;
    CS_TRY(read_authorization(p, &auth, e));
    if (auth.len > 0)
        headers[count++] = (struct http_header){"Authorization", cs_buf_cstr(&auth)};
    if (p->host != NULL)
        headers[count++] = (struct http_header){"Host", p->host};
    const struct http_request q = {.method = "GET",
                                   .url = p->url,
                                   .headers = headers,
                                   .header_count = count,
                                   .timeout_ns = AWS_NEAR_NS,
                                   .max_body = AWS_TOKEN_MAX,
                                   .stop = c->stop};
    CS_TRY(http_call(c->near, &q, &r, e));
    if (r.status < 200 || r.status > 299)
        return cs_fail(e, CS_UNAVAILABLE, "%s: status %d", p->url, r.status);
    return aws_json_credentials(cs_buf_slice(&r.body), false, out, e);
}

cs_code aws_ask_container(struct aws_chain *c, struct aws_credentials *out, struct cs_err *e)
{
    struct cs_err why;
    const cs_code rc = ask(c, out, &why);
    return rc == CS_OK ? rc : cs_fail(e, rc, "failed to load credentials, %s", why.text);
}
