/* SPDX-License-Identifier: Apache-2.0
 *
 * X509-SVIDs out of the Workload API: parsing, verifying, printing.
 */
#include "base/clock.h"
#include "base/text.h"
#include "cli/agent/internal.h"
#include "proto/proto.h"

#include <stdlib.h>

#define MAX_CERTS 1024

static const struct rpc_metadata security_header[] = {{"workload.spiffe.io", "true"}};

cs_code agt_session_open(const struct cli_common *common, int64_t timeout_ns, struct cli_session **out,
                         struct cs_err *e)
{
    CS_TRY(cli_session_open(CLI_AGENT, common, out, e));
    (*out)->metadata = security_header;
    (*out)->metadata_count = 1;
    (*out)->deadline_ns = timeout_ns > 0 ? timeout_ns : 0;
    return CS_OK;
}

static void drop_stream(struct rpc_stream **s)
{
    rpc_stream_free(*s);
}

cs_code agt_first(struct cli_session *s, const char *method, const ProtobufCMessage *request,
                  const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **reply, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf in = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf back = {0};
    CS_CLEANUP(drop_stream) struct rpc_stream *stream = NULL;
    bool end = false;
    CS_TRY(proto_pack(request, &in, e));
    cs_code code =
        rpc_stream_open(s->client, method, s->metadata, s->metadata_count, s->deadline_ns, &stream, e);
    if (code == CS_OK)
        code = rpc_stream_send(stream, cs_buf_slice(&in), e);
    if (code == CS_OK)
        code = rpc_stream_close_send(stream, e);
    if (code == CS_OK)
        code = rpc_stream_recv(stream, &back, &end, -1, NULL, e);
    if (code == CS_OK && end)
        return cs_fail(e, CS_UNKNOWN, "EOF");
    if (code == CS_OK)
        code = proto_unpack(s->arena, reply_type, cs_buf_slice(&back), reply, e);
    return code == CS_OK ? CS_OK : cli_rpc_error(code, e);
}

static struct cs_slice bytes(const ProtobufCBinaryData *b)
{
    return cs_slice_of(b->data, b->len);
}

static cs_code verify_svid(const struct agt_svid *s, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle) bundle = NULL;
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    struct spiffe_id id, got;
    CS_TRY(spiffe_id_parse(cs_slice_str(s->id), &id, e));
    CS_TRY(spiffe_bundle_builder_new(spiffe_id_td(id), &b, e));
    for (size_t i = 0; i < s->bundle.count; i++)
        CS_TRY(spiffe_bundle_add_x509(b, s->bundle.at[i], false, e));
    CS_TRY(spiffe_bundle_build(b, &bundle, e));
    if (spiffe_x509svid_verify(&s->chain, bundle, cs_now_s(&cs_clock_system), NULL, &got, NULL, e) != CS_OK)
        return cs_wrap(e, "\"%s\" SVID failed verification against bundle", s->id);
    return CS_OK;
}

static cs_code parse_svid(const Workload__X509SVID *in, struct agt_svid *out, struct cs_err *e)
{
    out->id = in->spiffe_id;
    out->hint = in->hint;
    CS_TRY(x509_chain_parse_der(bytes(&in->x509_svid), MAX_CERTS, &out->chain, e));
    if (out->chain.count == 0)
        return cs_fail(e, CS_INVALID, "no certificates found");
    if (crypto_key_parse_der(bytes(&in->x509_svid_key), &out->key, e) != CS_OK)
        return cs_wrap(e, "failed to parse private key");
    if (x509_chain_parse_der(bytes(&in->bundle), MAX_CERTS, &out->bundle, e) != CS_OK)
        return cs_wrap(e, "failed to parse trust bundle");
    return out->bundle.count > 0 ? CS_OK : cs_fail(e, CS_INVALID, "no certificates in trust bundle");
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct agt_federated *)a)->id, ((const struct agt_federated *)b)->id);
}

static cs_code parse_federated(const Workload__X509SVIDResponse *r, struct agt_svids *out, struct cs_err *e)
{
    for (size_t i = 0; i < r->n_federated_bundles; i++) {
        struct agt_federated *f = &out->federated[out->federated_count++];
        f->id = r->federated_bundles[i]->key;
        if (x509_chain_parse_der(bytes(&r->federated_bundles[i]->value), MAX_CERTS, &f->bundle, e) != CS_OK)
            return cs_wrap(e, "failed to parse bundle for federated domain \"%s\"", f->id);
        if (f->bundle.count == 0)
            return cs_fail(e, CS_INVALID, "no certificates in bundle for federated domain \"%s\"", f->id);
    }
    if (out->federated_count > 0)
        qsort(out->federated, out->federated_count, sizeof *out->federated, by_id);
    return CS_OK;
}

cs_code agt_svids_parse(const Workload__X509SVIDResponse *r, struct agt_svids *out, struct cs_err *e)
{
    if (r->n_svids == 0)
        return cs_fail(e, CS_INVALID, "workload response contains no svids");
    out->svid = cs_calloc(r->n_svids, sizeof *out->svid);
    out->federated = cs_calloc(r->n_federated_bundles + 1, sizeof *out->federated);
    if (out->svid == NULL || out->federated == NULL)
        return cs_nomem(e);
    CS_TRY(parse_federated(r, out, e));
    for (size_t i = 0; i < r->n_svids; i++) {
        struct agt_svid *s = &out->svid[out->count++];
        if (parse_svid(r->svids[i], s, e) != CS_OK)
            return cs_wrap(e, "failed to parse svid entry %zu for spiffe id \"%s\"", i,
                           r->svids[i]->spiffe_id);
    }
    for (size_t i = 0; i < out->count; i++)
        CS_TRY(verify_svid(&out->svid[i], e));
    return CS_OK;
}

void agt_svids_free(struct agt_svids *s)
{
    for (size_t i = 0; i < s->count; i++) {
        x509_chain_free(&s->svid[i].chain);
        x509_chain_free(&s->svid[i].bundle);
        crypto_key_unref(s->svid[i].key);
    }
    for (size_t i = 0; i < s->federated_count; i++)
        x509_chain_free(&s->federated[i].bundle);
    cs_free(s->svid);
    cs_free(s->federated);
    *s = (struct agt_svids){0};
}

/* --- Printing --- */

static void print_validity(struct cs_buf *b, const char *label, const struct x509_cert *c)
{
    cs_buf_printf(b, "%s Valid After:\t", label);
    cs_time_go_string(b, c->not_before);
    cs_buf_printf(b, "\n%s Valid Until:\t", label);
    cs_time_go_string(b, c->not_after);
    cs_buf_add_byte(b, '\n');
}

static void print_svid(struct cs_buf *b, const struct agt_svid *s, enum agt_style style)
{
    char label[48];
    cs_buf_printf(b, "SPIFFE ID:\t\t%s\n", s->id);
    if (s->hint[0] != '\0' && style == AGT_FETCH)
        cs_buf_printf(b, "Hint:\t\t\t%s\n", s->hint);
    print_validity(b, "SVID", s->chain.at[0]);
    for (size_t i = 1; i < s->chain.count; i++) {
        snprintf(label, sizeof label, "Intermediate #%zu", i);
        print_validity(b, label, s->chain.at[i]);
    }
    for (size_t i = 0; i < s->bundle.count; i++) {
        snprintf(label, sizeof label, "CA #%zu", i + 1);
        print_validity(b, label, s->bundle.at[i]);
    }
}

static void print_federated(struct cs_buf *b, const struct agt_federated *f, enum agt_style style)
{
    static const char scheme[] = "spiffe://";
    const char *id = f->id;
    char label[320];
    if (style == AGT_WATCH && strncmp(id, scheme, sizeof scheme - 1) == 0)
        id += sizeof scheme - 1;
    for (size_t i = 0; i < f->bundle.count; i++) {
        snprintf(label, sizeof label, "[%s] CA #%zu", id, i + 1);
        print_validity(b, label, f->bundle.at[i]);
    }
}

cs_code agt_svids_print(struct cli_env *env, const struct agt_svids *s, int64_t took_ns, enum agt_style style,
                        struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_buf_printf(&b, "Received %zu svid%s after ", s->count, s->count == 1 ? "" : "s");
    cs_duration_format(&b, took_ns);
    cs_buf_add_byte(&b, '\n');
    for (size_t i = 0; i < s->count; i++) {
        cs_buf_add_byte(&b, '\n');
        print_svid(&b, &s->svid[i], style);
        for (size_t j = 0; j < s->federated_count; j++)
            print_federated(&b, &s->federated[j], style);
    }
    CS_TRY(cli_print_line(env, &b, e));
    fflush(env->out);
    return CS_OK;
}
