/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's enclave mode: defaults and checks.
 */
#include "config/agent_file.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#define FAIL(l, ...) cs_fail((l)->e, CS_INVALID, __VA_ARGS__)

#define DEFAULT_DIR "/var/run/spiffe"
#define DEFAULT_API "127.0.0.1:5000"
#define NO_ID_MAX 4294967294 /* (uid_t)-1 means "leave it" to chown */

/* NULL is "not given", "" is "none". */
static const char *or_default(const char *given, const char *fallback)
{
    return given != NULL ? given : fallback;
}

/* Anybody on the machine may call, so nobody else must: a name could mean another address tomorrow. */
static bool is_loopback(const char *host, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;
    bool brackets = len >= 2 && host[0] == '[' && host[len - 1] == ']';
    if (brackets) {
        host++;
        len -= 2;
    }
    if (len >= sizeof text)
        return false;
    memcpy(text, host, len);
    text[len] = '\0';
    if (brackets)
        return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
    return inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

static cs_code check_api(struct load *l, const char *address)
{
    const char *colon = strrchr(address, ':');
    int64_t port = 0;
    if (colon == NULL || cs_parse_i64(cs_slice_str(colon + 1), &port, NULL) != CS_OK || port < 1 ||
        port > 65535)
        return FAIL(l, "enclave: workload_api_addr %s must be ADDRESS:PORT", load_quote(l, address));
    if (!is_loopback(address, (size_t)(colon - address)))
        return FAIL(l, "enclave: workload_api_addr %s must be a loopback address", load_quote(l, address));
    return CS_OK;
}

/* Names that cannot leave the folder, nor be one of those that hold it together. */
static cs_code check_names(struct load *l, const struct agent_config_enclave *c)
{
    const char *const names[] = {c->svid_file_name, c->svid_key_file_name, c->svid_bundle_file_name};
    for (size_t i = 0; i < 3; i++) {
        if (*names[i] == 0 || *names[i] == '.' || strchr(names[i], '/') != NULL || strlen(names[i]) > 200)
            return FAIL(l, "enclave: %s is no name for a file in svid_dir", load_quote(l, names[i]));
        for (size_t k = 0; k < i; k++)
            if (strcmp(names[i], names[k]) == 0)
                return FAIL(l, "enclave: two files have the name %s", load_quote(l, names[i]));
    }
    return CS_OK;
}

static cs_code take_id(struct load *l, const char *name, struct config_int given, int64_t *out)
{
    *out = given.given ? given.value : -1;
    if (given.given && (given.value < 0 || given.value > NO_ID_MAX))
        return FAIL(l, "enclave: %s must be between 0 and %lld", name, (long long)NO_ID_MAX);
    return CS_OK;
}

cs_code load_enclave(struct load *l, const struct enclave_file *f, struct agent_config_enclave *c)
{
    *c = (struct agent_config_enclave){
        .on = f->given,
        .svid_dir = or_default(f->svid_dir, DEFAULT_DIR),
        .svid_file_name = or_default(f->svid_file_name, "svid.pem"),
        .svid_key_file_name = or_default(f->svid_key_file_name, "svid_key.pem"),
        .svid_bundle_file_name = or_default(f->svid_bundle_file_name, "svid_bundle.pem"),
        .hint = or_default(f->hint, ""),
        .workload_api_addr = or_default(f->workload_api_addr, DEFAULT_API),
        .server_proxy = or_default(f->server_proxy, ""),
        .command = f->command,
    };
    if (!c->on)
        return CS_OK;
    if (*c->svid_dir != 0)
        CS_TRY(load_abs_path(l, c->svid_dir, &c->svid_dir));
    CS_TRY(check_names(l, c));
    if (*c->workload_api_addr != 0)
        CS_TRY(check_api(l, c->workload_api_addr));
    if (c->command.len > 0 && c->command.at[0][0] != '/')
        return FAIL(l, "enclave: command must begin with an absolute path");
    CS_TRY(take_id(l, "uid", f->uid, &c->uid));
    return take_id(l, "gid", f->gid, &c->gid);
}
