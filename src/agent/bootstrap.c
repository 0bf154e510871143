/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/bootstrap.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "rpc/https_get.h"
#include "spiffe/bundle.h"

#include <stdio.h>

#define BUNDLE_MAX ((size_t)16 << 20)
#define CERTS_MAX 4096
#define FETCH_NS (INT64_C(60) * CS_NS_PER_S)

static cs_code save(struct agent_bootstrap *b, struct cs_err *e)
{
    return agent_storage_set_bootstrap(b->storage, b->use, b->start, b->attempts, e);
}

void agent_bootstrap_init(struct agent_bootstrap *b, const struct agent_config *cfg,
                          const struct cs_clock *clock, struct cs_log log, struct agent_storage *storage)
{
    *b = (struct agent_bootstrap){
        .cfg = cfg,
        .clock = clock,
        .log = log,
        .storage = storage,
        .use = storage->bootstrap_use,
        .start = storage->bootstrap_start,
        .attempts = storage->connection_attempts,
    };
    if (b->use == AGENT_USE_UNSPECIFIED)
        b->use = storage->bundle.count > 0 ? AGENT_USE_REBOOTSTRAP : AGENT_USE_BOOTSTRAP;
}

void agent_bootstrap_free(struct agent_bootstrap *b)
{
    x509_chain_free(&b->last);
}

cs_code agent_bootstrap_success(struct agent_bootstrap *b, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf msg = {0};
    cs_buf_add_str(&msg, "Success after ");
    cs_duration_format(&msg, b->start > 0 ? (cs_now_s(b->clock) - b->start) * CS_NS_PER_S : 0);
    cs_buf_printf(&msg, " attempts=%lld", (long long)b->attempts);
    cs_log_info(&b->log, cs_buf_cstr(&msg));
    b->use = AGENT_USE_REBOOTSTRAP;
    b->attempts = 0;
    b->start = 0;
    cs_log_info(&b->log, "Setting use.");
    CS_TRY(save(b, e));
    return b->last.count > 0 ? agent_storage_set_bundle(b->storage, &b->last, e) : CS_OK;
}

cs_code agent_bootstrap_success_if_running(struct agent_bootstrap *b, struct cs_err *e)
{
    return b->start != 0 ? agent_bootstrap_success(b, e) : CS_OK;
}

cs_code agent_bootstrap_force(struct agent_bootstrap *b, struct cs_err *e)
{
    b->use = AGENT_USE_REBOOTSTRAP;
    b->start = cs_now_s(b->clock);
    b->attempts = 0;
    CS_TRY(save(b, e));
    CS_TRY(agent_storage_set_svid(b->storage, NULL, false, e));
    return agent_storage_set_bundle(b->storage, NULL, e);
}

cs_code agent_bootstrap_delay(struct agent_bootstrap *b, int64_t *left_ns, struct cs_err *e)
{
    *left_ns = 0;
    if (b->start == 0) {
        b->start = cs_now_s(b->clock);
        CS_TRY(save(b, e));
    }
    int64_t passed = (cs_now_s(b->clock) - b->start) * CS_NS_PER_S;
    if (passed < b->cfg->rebootstrap_delay_ns)
        *left_ns = b->cfg->rebootstrap_delay_ns - passed;
    return CS_OK;
}

/* --- Reading a bundle --- */

static void log_attempt(const struct agent_bootstrap *b)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf msg = {0};
    cs_buf_printf(&msg, "Server %s attempt %lld. Started ",
                  b->use == AGENT_USE_REBOOTSTRAP ? "reattestation" : "attestation", (long long)b->attempts);
    cs_time_rfc3339(&msg, b->start);
    cs_buf_add_str(&msg, ".");
    cs_log_info(&b->log, cs_buf_cstr(&msg));
}

static void add_query(struct cs_buf *url, const char *key, const char *value)
{
    static const char hex[] = "0123456789ABCDEF";
    cs_buf_printf(url, "&%s=", key);
    for (const char *p = value; *p != '\0'; p++) {
        uint8_t c = (uint8_t)*p;
        bool plain =
            (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || strchr("-_.~", c) != NULL;
        if (plain) {
            cs_buf_add_byte(url, c);
            continue;
        }
        cs_buf_add_byte(url, '%');
        cs_buf_add_byte(url, (uint8_t)hex[c >> 4]);
        cs_buf_add_byte(url, (uint8_t)hex[c & 15]);
    }
}

/* A local service is told who asks, why, and how often it has done so. */
static void add_queries(const struct agent_bootstrap *b, struct cs_buf *url)
{
    if (b->cfg->trust_bundle_unix_socket[0] == '\0')
        return;
    char number[24];
    cs_buf_add_str(url, strchr(b->cfg->trust_bundle_url, '?') != NULL ? "" : "?");
    add_query(url, "spiffe-trust-domain", b->cfg->trust_domain);
    add_query(url, "spire-attest-mode", b->use == AGENT_USE_REBOOTSTRAP ? "rebootstrap" : "bootstrap");
    CS_CLEANUP(cs_buf_free) struct cs_buf started = {0};
    cs_time_rfc3339(&started, b->start);
    add_query(url, "spire-attest-start-time", cs_buf_cstr(&started));
    (void)snprintf(number, sizeof number, "%lld", (long long)b->attempts);
    add_query(url, "spire-connection-attempts", number);
    add_query(url, "spire-server-address", b->cfg->server_address);
    (void)snprintf(number, sizeof number, "%u", (unsigned)b->cfg->server_port);
    add_query(url, "spire-server-port", number);
}

static cs_code download(const struct agent_bootstrap *b, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf url = {0};
    cs_buf_add_str(&url, b->cfg->trust_bundle_url);
    add_queries(b, &url);
    if (!cs_buf_ok(&url))
        return cs_nomem(e);
    log_attempt(b);
    const struct rpc_https_get get = {
        .url = cs_buf_cstr(&url),
        .unix_path = b->cfg->trust_bundle_unix_socket[0] != '\0' ? b->cfg->trust_bundle_unix_socket : NULL,
        .max_body = BUNDLE_MAX,
        .timeout_ns = FETCH_NS,
    };
    int status = 0;
    if (rpc_https_get(&get, &status, out, e) != CS_OK)
        return cs_wrap(e, "unable to fetch trust bundle URL %s", b->cfg->trust_bundle_url);
    if (status != 200)
        return cs_fail(e, CS_UNAVAILABLE, "error downloading trust bundle: %d", status);
    return CS_OK;
}

static cs_code parse(const struct agent_bootstrap *b, struct cs_slice text, struct x509_chain *out,
                     struct cs_err *e)
{
    if (b->cfg->trust_bundle_format == AGENT_BUNDLE_PEM)
        return x509_chain_parse_pem(text, CERTS_MAX, out, e);
    CS_AUTO(spiffe_bundle) bundle = NULL;
    if (spiffe_bundle_parse_jwks(cs_slice_str(b->cfg->trust_domain), text, &bundle, e) != CS_OK)
        return cs_wrap(e, "unable to parse SPIFFE trust bundle");
    for (size_t i = 0; i < bundle->x509_count; i++)
        CS_TRY(x509_chain_add(out, bundle->x509[i].cert, e));
    return CS_OK;
}

static cs_code read_text(struct agent_bootstrap *b, struct cs_buf *text, bool *insecure, struct cs_err *e)
{
    if (b->cfg->trust_bundle_url[0] != '\0')
        return download(b, text, e);
    if (b->cfg->trust_bundle_path[0] != '\0') {
        if (cs_file_read(b->cfg->trust_bundle_path, BUNDLE_MAX, text, e) != CS_OK)
            return cs_wrap(e, "could not parse trust bundle");
        return CS_OK;
    }
    *insecure = b->cfg->insecure_bootstrap;
    return CS_OK;
}

cs_code agent_bootstrap_bundle(struct agent_bootstrap *b, struct x509_chain *out, bool *insecure,
                               struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    *insecure = false;
    b->attempts++;
    if (b->start == 0)
        b->start = cs_now_s(b->clock);
    CS_TRY(save(b, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    CS_TRY(read_text(b, &text, insecure, e));
    if (*insecure)
        return CS_OK;
    CS_CLEANUP(x509_chain_free) struct x509_chain found = {0};
    CS_TRY(parse(b, cs_buf_slice(&text), &found, e));
    if (found.count == 0)
        return cs_fail(e, CS_INVALID, "no certificates found in trust bundle");
    CS_TRY(x509_chain_copy(&found, out, e));
    struct x509_chain old = b->last;
    b->last = found;
    found = old;
    return CS_OK;
}
