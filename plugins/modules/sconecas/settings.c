/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/modules/sconecas/settings.h"

#include "base/file.h"
#include "base/mem.h"
#include "config/plugin_config.h"
#include "crypto/pem.h"
#include "crypto/x509_cert.h"

#define PEM_FILE_MAX ((size_t)1 << 20)
#define KEY_FILE_MAX ((size_t)64 * 1024)

static void clear(void *settings)
{
    struct scone_settings *s = settings;
    scone_cas_unref(s->cas);
    for (int i = 0; i < SCONE_KINDS; i++)
        scone_template_free(s->templates[i]);
}

/* --- Templates --- */

static const struct {
    const char *option, *what, *name_of;
} kinds[SCONE_KINDS] = {
    [SCONE_SVID] = {"svid_session_template_file", "svid", "svid"},
    [SCONE_BUNDLE] = {"bundle_session_template_file", "bundle", "ca"},
    [SCONE_FEDERATED] = {"federated_bundles_session_template_file", "federated bundles", "federated bundles"},
};

static cs_code read_template(enum scone_kind kind, const char *path, const struct cs_log *log,
                             struct scone_template **out, struct cs_err *e)
{
    struct cs_err fault;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    if (cs_file_read(path, SCONE_TEMPLATE_MAX, &text, &fault) != CS_OK)
        return cs_fail(e, CS_INVALID, "unable to parse %s session template: %s", kinds[kind].what,
                       fault.text);
    cs_code rc = scone_template_parse(kind, cs_buf_slice(&text), out, &fault);
    if (rc != CS_OK)
        return cs_fail(e, rc, "unable to get %s session name from template: %s: %s", kinds[kind].name_of,
                       path, fault.text);
    const char *warning;
    for (size_t i = 0; (warning = scone_template_warning(*out, i)) != NULL; i++)
        cs_log_warn(log, "The template may make sessions that the CAS refuses",
                    KV("option", kinds[kind].option), KV("path", path), KV("reason", warning));
    return CS_OK;
}

static cs_code read_templates(const struct config_sconecas *cfg, const struct cs_log *log,
                              struct scone_settings *s, struct cs_err *e)
{
    CS_TRY(
        read_template(SCONE_BUNDLE, cfg->bundle_session_template_file, log, &s->templates[SCONE_BUNDLE], e));
    CS_TRY(read_template(SCONE_FEDERATED, cfg->federated_bundles_session_template_file, log,
                         &s->templates[SCONE_FEDERATED], e));
    return read_template(SCONE_SVID, cfg->svid_session_template_file, log, &s->templates[SCONE_SVID], e);
}

/* --- TLS material --- */

static bool has_suffix(struct cs_slice s, const char *suffix)
{
    const size_t n = strlen(suffix);
    return s.len >= n && memcmp(s.data + s.len - n, suffix, n) == 0;
}

/* The certificates of a PEM file, whatever else is in it; the first that can be read is the leaf. */
static cs_code read_certificates(const char *path, struct cs_buf *pem, struct x509_cert **first,
                                 struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0}, der = {0};
    struct pem_block block;
    *first = NULL;
    CS_TRY(cs_file_read(path, PEM_FILE_MAX, &text, e));
    for (struct cs_rd rd = cs_rd_of(cs_buf_slice(&text)); pem_next(&rd, &der, &block);) {
        struct x509_cert *cert;
        if (!cs_slice_is(block.type, PEM_CERTIFICATE) || x509_cert_parse(block.der, &cert, NULL) != CS_OK)
            continue;
        pem_write(pem, PEM_CERTIFICATE, block.der);
        if (*first == NULL)
            *first = cert;
        else
            x509_cert_unref(cert);
    }
    return cs_buf_ok(pem) && cs_buf_ok(&der) ? CS_OK : cs_nomem(e);
}

/* The first private key of a PEM file, as Go finds it: there may be parameters of a curve before it. */
static cs_code read_key(const char *path, struct crypto_key **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0}, der = {0};
    struct pem_block block;
    *out = NULL;
    if (!cs_buf_reserve(&text, KEY_FILE_MAX + 1)) /* so that no copy is left behind by growing */
        return cs_nomem(e);
    CS_TRY(cs_file_read(path, KEY_FILE_MAX, &text, e));
    if (!cs_buf_reserve(&der, text.len + 1))
        return cs_nomem(e);
    for (struct cs_rd rd = cs_rd_of(cs_buf_slice(&text)); pem_next(&rd, &der, &block);)
        if (has_suffix(block.type, PEM_PRIVATE_KEY)) {
            cs_code rc = crypto_key_parse_der(block.der, out, e);
            return rc == CS_OK ? rc : cs_wrap(e, "%s", path);
        }
    return cs_fail(e, CS_INVALID, "%s: no private key", path);
}

/* What the client's options point to. */
struct material {
    struct cs_buf roots, chain;
    struct cs_secret *key;
};
static void material_free(struct material *m)
{
    cs_buf_free(&m->roots);
    cs_buf_free(&m->chain);
    cs_secret_free(m->key);
}

static cs_code read_pair(const struct config_sconecas *cfg, struct material *m, struct cs_err *e)
{
    CS_AUTO(x509_cert) leaf = NULL;
    CS_AUTO(crypto_key) key = NULL;
    struct crypto_pub *pub = NULL;
    CS_TRY(read_certificates(cfg->cas_client_certificate, &m->chain, &leaf, e));
    if (leaf == NULL)
        return cs_fail(e, CS_INVALID, "%s: no certificate", cfg->cas_client_certificate);
    CS_TRY(read_key(cfg->cas_client_key, &key, e));
    CS_TRY(x509_cert_pub(leaf, &pub, e));
    if (!crypto_pub_equal(pub, crypto_key_pub(key)))
        return cs_fail(e, CS_INVALID, "private key does not match public key");
    return crypto_key_pem(key, &m->key, e);
}

static cs_code read_material(const struct config_sconecas *cfg, struct material *m, struct cs_err *e)
{
    CS_AUTO(x509_cert) anchor = NULL;
    struct cs_err fault;
    if (read_certificates(cfg->trust_anchor_certificate, &m->roots, &anchor, &fault) != CS_OK)
        return cs_fail(e, CS_INVALID, "cannot read CAS trust anchor certificate: %s", fault.text);
    if (anchor == NULL)
        return cs_fail(e, CS_INVALID, "cannot append trust anchor certificate to CA pool: %s holds none",
                       cfg->trust_anchor_certificate);
    if (read_pair(cfg, m, &fault) != CS_OK)
        return cs_fail(e, CS_INVALID, "cannot load the client certificate for the CAS: %s", fault.text);
    return CS_OK;
}

static cs_code make_client(const struct config_sconecas *cfg, struct http_client **out, struct cs_err *e)
{
    CS_CLEANUP(material_free) struct material m = {0};
    CS_TRY(read_material(cfg, &m, e));
    const struct http_client_options o = {
        .https_only = true,
        .ca = cs_buf_slice(&m.roots),
        .client_cert = cs_buf_slice(&m.chain),
        .client_key = cs_slice_of(m.key->data, m.key->len),
        .insecure = cfg->insecure_skip_verify_tls,
    };
    return http_client_new(&o, out, e);
}

/* --- All of it --- */

cs_code scone_settings_new(struct cs_slice data, const struct cs_log *log, struct scone_settings **out,
                           struct cs_err *e)
{
    struct config_sconecas cfg;
    struct http_client *client = NULL;
    *out = NULL;
    CS_CLEANUP(plugin_settings_drop) struct scone_settings *s = plugin_settings_new(sizeof *s, clear);
    if (s == NULL)
        return cs_nomem(e);
    CS_TRY(config_read_sconecas(data, plugin_settings_arena(s), &cfg, e));
    CS_TRY(read_templates(&cfg, log, s, e));
    cs_code rc = cs_mkdir_all(cfg.cas_predecessor_dir, 0700, e);
    if (rc != CS_OK)
        return cs_wrap(e, "cannot create predecessors directory");
    CS_TRY(make_client(&cfg, &client, e));
    CS_TRY(scone_cas_new(client, cfg.cas_connection_string, cfg.cas_predecessor_dir, &s->cas, e));
    if (cfg.insecure_skip_verify_tls)
        cs_log_warn(log,
                    "insecure_skip_verify_tls enabled. The plugin sconecas_sessionmanager will trust any "
                    "CAS. Do not use this config in production!");
    *out = CS_MOVE(s);
    return CS_OK;
}
