/* SPDX-License-Identifier: Apache-2.0
 *
 * Checking plugins without loading them. An external one is started for it, since only it knows what its
 * configuration means, but not configured.
 */
#include "base/file.h"
#include "base/mem.h"
#include "plugin/catalog_internal.h"

struct validation {
    const struct catalog_config *cfg;
    struct plugin_runner *runner;
    void (*note)(void *arg, const char *plugin, const char *text);
    void *arg;
};

/* The configuration's text; false: it cannot be read, which was noted. */
static bool read_text(const struct validation *v, const struct config_plugin *ce, const char *id,
                      struct cs_buf *file, struct cs_slice *out)
{
    struct cs_err fault;
    *out = ce->data;
    if (ce->data_file == NULL)
        return true;
    if (cs_file_read(ce->data_file, CATALOG_DATA_FILE_MAX, file, &fault) != CS_OK) {
        (void)cs_wrap(&fault, "failed to read plugin configuration");
        v->note(v->arg, id, fault.text);
        return false;
    }
    *out = cs_buf_slice(file);
    return true;
}

/* One that is not configured by its host has nothing to say, and that is no fault. */
static cs_code ask_external(struct plugin_external *x, struct cs_slice text, struct plugin_notes *notes,
                            struct cs_err *e)
{
    struct cs_err fault = {0};
    cs_code rc = plugin_external_validate(x, text, notes, &fault);
    if (rc == CS_OK || rc == CS_UNIMPLEMENTED)
        return CS_OK;
    (void)catalog_as_status(rc, &fault);
    return plugin_notes_fault(notes, rc, &fault, e);
}

/* *counts is set when the plugin counts towards the constraint of its type: one whose configuration
 * cannot even be read does not. */
static cs_code check(struct validation *v, const struct plugin_kind *kind, const struct config_plugin *ce,
                     struct plugin_external *x, bool *counts, struct cs_err *e)
{
    const struct catalog_config *cfg = v->cfg;
    const struct plugin_builtin *builtin = NULL;
    struct cs_slice text;
    if (x == NULL && catalog_resolve_builtin(cfg->program, kind, ce, &builtin, e) != CS_OK)
        return cs_wrap(e, "failed to load plugin \"%s\"", ce->name);
    *counts = true;
    if (x == NULL && builtin->validate == NULL)
        return CS_OK;
    CS_CLEANUP(cs_freep) char *id = cs_asprintf("%s \"%s\"", ce->type, ce->name);
    if (id == NULL)
        return cs_nomem(e);
    CS_CLEANUP(cs_buf_free) struct cs_buf file = {0};
    *counts = read_text(v, ce, id, &file, &text);
    if (!*counts)
        return CS_OK;
    CS_CLEANUP(plugin_notes_free) struct plugin_notes notes = {0};
    if (x != NULL)
        CS_TRY(ask_external(x, text, &notes, e));
    else
        CS_TRY(builtin->validate(&cfg->env, text, &notes, e));
    for (size_t i = 0; i < notes.count; i++)
        v->note(v->arg, id, notes.texts[i]);
    return CS_OK;
}

static cs_code validate_one(struct validation *v, const struct config_plugin *ce, bool *counts,
                            struct cs_err *e)
{
    const struct catalog_config *cfg = v->cfg;
    *counts = false;
    if (cfg->skip_type != NULL && strcmp(ce->type, cfg->skip_type) == 0)
        return CS_OK;
    const struct plugin_kind *kind = catalog_kind(cfg, ce->type);
    if (kind == NULL)
        return cs_fail(e, CS_INVALID, "unsupported plugin type \"%s\"", ce->type);
    if (ce->disabled)
        return CS_OK;
    struct plugin_external *x = NULL;
    if (catalog_is_external(ce))
        CS_TRY(catalog_start_external(&v->runner, kind, ce, &cfg->env, NULL, &x, e));
    cs_code rc = check(v, kind, ce, x, counts, e);
    plugin_external_stop(x);
    return rc;
}

static cs_code validate_all(struct validation *v, unsigned *counts, struct cs_err *e)
{
    const struct catalog_config *cfg = v->cfg;
    for (size_t i = 0; i < cfg->plugins->len; i++) {
        bool one;
        CS_TRY(validate_one(v, &cfg->plugins->at[i], &one, e));
        if (one)
            counts[catalog_kind(cfg, cfg->plugins->at[i].type) - cfg->kinds]++;
    }
    for (size_t i = 0; i < cfg->kind_count; i++) {
        struct cs_err fault;
        catalog_count_fault(cfg, &cfg->kinds[i], counts[i], &fault);
        if (fault.text[0] == '\0')
            continue;
        (void)cs_wrap(&fault, "constraint not satisfied");
        v->note(v->arg, cfg->kinds[i].type, fault.text);
    }
    return CS_OK;
}

cs_code catalog_validate(const struct catalog_config *cfg,
                         void (*note)(void *arg, const char *plugin, const char *text), void *arg,
                         struct cs_err *e)
{
    struct cs_err local;
    struct validation v = {.cfg = cfg, .note = note, .arg = arg};
    CS_CLEANUP(cs_freep) unsigned *counts = cs_calloc(cfg->kind_count + 1, sizeof *counts);
    if (counts == NULL)
        return cs_nomem(e);
    cs_code rc = validate_all(&v, counts, e != NULL ? e : &local);
    plugin_runner_free(v.runner);
    return rc;
}
