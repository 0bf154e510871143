/* SPDX-License-Identifier: Apache-2.0
 *
 * The audit log (audit_log_enabled): one "API accessed" line for each call, or for each item of a
 * batch, with who asked for what and how it ended. Field names are SPIRE's.
 */
#include "base/text.h"
#include "crypto/hash.h"
#include "server/api/internal.h"

#include <stdio.h>
#include <unistd.h>

#define AUDIT_FIELDS_MAX 48

static const char *exe_path(struct api_call *c, pid_t pid)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
    ssize_t n = readlink(link, path, sizeof path - 1);
    return n > 0 ? cs_arena_strndup(c->arena, path, (size_t)n) : NULL;
}

cs_code api_audit_begin(struct api_call *c, struct cs_err *e)
{
    if (!c->api->cfg.audit_log)
        return CS_OK;
    if (c->local) {
        const struct loop_peer *peer = rpc_conn_peer(rpc_call_conn(c->rpc));
        if (peer == NULL)
            return cs_fail(e, CS_INTERNAL, "failed to get peertracker");
        api_field(c, KV_INT("caller_uid", peer->uid));
        api_field(c, KV_INT("caller_gid", peer->gid));
        const char *path = exe_path(c, peer->pid);
        if (path != NULL)
            api_field(c, KV("caller_path", path));
        if (loop_peer_check(peer, e) != CS_OK)
            return cs_fail(e, CS_INTERNAL, "peertracker fails: process is no longer alive");
    }
    c->audit = true;
    c->audited_fields = c->field_count;
    return CS_OK;
}

void api_audit_add(struct api_call *c, struct cs_kv kv)
{
    struct api_fields *f = &c->audit_fields;
    if (!c->audit)
        return;
    for (size_t i = 0; i < f->len; i++)
        if (strcmp(f->at[i].key, kv.key) == 0) {
            f->at[i] = kv;
            return;
        }
    if (f->len == f->cap) {
        if (f->cap >= AUDIT_FIELDS_MAX)
            return;
        size_t cap = f->cap == 0 ? 8 : f->cap * 2;
        struct cs_kv *at = cs_arena_alloc(c->arena, cap * sizeof *at);
        if (at == NULL)
            return;
        if (f->len > 0)
            memcpy(at, f->at, f->len * sizeof *at);
        f->at = at;
        f->cap = cap;
    }
    f->at[f->len++] = kv;
}

struct lines {
    struct cs_kv at[2 * AUDIT_FIELDS_MAX + 4];
    size_t n;
};

static void lines_add(struct lines *l, const struct cs_kv *kv, size_t n)
{
    for (size_t i = 0; i < n && l->n < sizeof l->at / sizeof l->at[0]; i++)
        l->at[l->n++] = kv[i];
}

static void emit(struct api_call *c, const struct cs_err *st, bool call_fields, const struct cs_kv *kv,
                 size_t n)
{
    struct lines l = {.n = 0};
    const struct cs_kv type = KV("type", "audit");
    lines_add(&l, &type, 1);
    if (st->code == CS_OK) {
        lines_add(&l, &KV("status", "success"), 1);
    } else {
        const struct cs_kv failed[] = {KV("status", "error"), KV("status_code", cs_code_name(st->code)),
                                       KV("status_message", st->text)};
        lines_add(&l, failed, 3);
    }
    if (call_fields)
        lines_add(&l, c->audit_fields.at, c->audit_fields.len);
    lines_add(&l, kv, n);
    size_t fields = c->field_count;
    c->field_count = c->audited_fields;
    api_log(c, CS_LOG_INFO, "API accessed", l.at, l.n);
    c->field_count = fields;
}

void api_audit(struct api_call *c)
{
    api_audit_with(c, NULL, 0);
}

void api_audit_with(struct api_call *c, const struct cs_kv *kv, size_t n)
{
    const struct cs_err ok = api_ok();
    if (c->audit)
        emit(c, &ok, true, kv, n);
}

void api_audit_error(struct api_call *c, cs_code code, const char *text)
{
    if (!c->audit)
        return;
    struct cs_err st;
    (void)cs_fail(&st, code, "%s", text);
    emit(c, &st, true, NULL, 0);
}

void api_audit_status(struct api_call *c, const struct cs_err *st, const struct cs_kv *kv, size_t n)
{
    if (c->audit)
        emit(c, st, false, kv, n);
}

const char *api_hash(struct api_call *c, struct cs_slice bytes)
{
    uint8_t digest[32];
    struct cs_buf hex CS_CLEANUP(cs_buf_free) = {0};
    if (!c->audit || bytes.len == 0 || crypto_digest(CRYPTO_SHA256, bytes, digest, NULL) != CS_OK)
        return "";
    cs_hex_encode(&hex, cs_slice_of(digest, sizeof digest));
    const char *text = cs_buf_ok(&hex) ? cs_arena_strndup(c->arena, (const char *)hex.data, hex.len) : NULL;
    return text != NULL ? text : "";
}

const char *api_joined(struct api_call *c, char *const *strings, size_t n)
{
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
    if (!c->audit)
        return "";
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            cs_buf_add_byte(&b, ',');
        cs_buf_add_str(&b, strings[i]);
    }
    const char *text = cs_buf_ok(&b) ? cs_arena_strndup(c->arena, (const char *)b.data, b.len) : NULL;
    return text != NULL ? text : "";
}
