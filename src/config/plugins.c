/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugins section: which plugins there are, in the order of the file, and what each block says.
 * A block may be written `Type "name" { }` or `Type { name { } }`, and JSON has more ways; all are
 * runs of items whose first two keys, counted through the nesting, are type and name.
 */
#include "config/common.h"

#include "base/file.h"
#include "config/plugin_config.h"

struct plugin_file {
    const char *plugin_cmd, *plugin_checksum, *plugin_data_file;
    struct config_strings plugin_args;
    struct config_tree plugin_data;
    struct config_bool enabled;
};

#define AT(field) offsetof(struct plugin_file, field)
static const struct config_option plugin_options[] = {
    {"plugin_cmd", CONFIG_STRING, CONFIG_READY, AT(plugin_cmd), NULL, "Program of an external plugin.", NULL},
    {"plugin_args", CONFIG_STRINGS, CONFIG_READY, AT(plugin_args), NULL, "Its arguments.", NULL},
    {"plugin_checksum", CONFIG_STRING, CONFIG_READY, AT(plugin_checksum), NULL, "SHA-256 of it, in hex.",
     NULL},
    {"plugin_data", CONFIG_TREE, CONFIG_READY, AT(plugin_data), NULL, "The plugin's own options.", NULL},
    {"plugin_data_file", CONFIG_STRING, CONFIG_READY, AT(plugin_data_file), NULL,
     "File with the plugin's own options, instead of plugin_data.", NULL},
    {"enabled", CONFIG_BOOL, CONFIG_READY, AT(enabled), "true", "Whether the plugin is loaded.", NULL},
};
static const struct config_section plugin_section = {.title = "plugin",
                                                     .size = sizeof(struct plugin_file),
                                                     .given = CONFIG_NO_OFFSET,
                                                     .unknown = CONFIG_NO_OFFSET,
                                                     .options = plugin_options,
                                                     .count =
                                                         sizeof plugin_options / sizeof plugin_options[0]};
#undef AT

#define MAX_PLUGINS 256

struct plugin_list {
    struct config_plugin at[MAX_PLUGINS];
    size_t len;
};

/* SPIRE 0.x called the upstream authority so; see its getting-started guide of 2018. */
#define OLD_UPSTREAM "UpstreamCA"

static cs_code add_name(struct load *l, struct plugin_list *p, const char *type, const char *name)
{
    if (strcmp(type, OLD_UPSTREAM) == 0)
        type = "UpstreamAuthority";
    for (size_t i = 0; i < p->len; i++)
        if (strcmp(p->at[i].type, type) == 0 && strcmp(p->at[i].name, name) == 0)
            return cs_fail(l->e, CS_INVALID, "plugin %s/%s declared more than once", load_quote(l, type),
                           load_quote(l, name));
    if (p->len == MAX_PLUGINS)
        return cs_fail(l->e, CS_EXHAUSTED, "more than %d plugins", MAX_PLUGINS);
    p->at[p->len++] = (struct config_plugin){.type = type, .name = name, .cmd = "", .checksum = ""};
    return CS_OK;
}

static cs_code list_names(struct load *l, struct hcl_items items, struct plugin_list *p)
{
    for (size_t i = 0; i < items.len; i++) {
        const struct hcl_item *it = items.at[i];
        if (it->key_count >= 2) {
            CS_TRY(add_name(l, p, it->keys[0].text, it->keys[1].text));
            continue;
        }
        struct hcl_items inner = it->value->items;
        for (size_t k = 0; k < inner.len; k++)
            if (inner.at[k]->key_count > 0)
                CS_TRY(add_name(l, p, it->keys[0].text, inner.at[k]->keys[0].text));
    }
    return CS_OK;
}

static struct config_plugin *find(struct plugin_list *p, const char *type, const char *name)
{
    for (size_t i = 0; i < p->len; i++)
        if (strcmp(p->at[i].type, type) == 0 && strcmp(p->at[i].name, name) == 0)
            return &p->at[i];
    return NULL;
}

static cs_code print_data(struct load *l, const struct config_tree *t, struct cs_slice *out)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    if (t->literal != NULL)
        cs_buf_add_slice(&b, t->literal->raw);
    else
        hcl_print(&b, t->items);
    char *text = cs_buf_ok(&b) ? cs_arena_strndup(l->a, cs_buf_cstr(&b), b.len) : NULL;
    if (text == NULL)
        return cs_nomem(l->e);
    *out = cs_slice_of(text, b.len);
    return CS_OK;
}

static cs_code fill(struct load *l, const struct plugin_file *f, struct config_plugin *p)
{
    if (f->plugin_data.given && f->plugin_data_file != NULL)
        return cs_fail(
            l->e, CS_INVALID,
            "failed to create plugin config for %s/%s: only one of [plugin_data, plugin_data_file] can be "
            "used",
            load_quote(l, p->type), load_quote(l, p->name));
    p->cmd = load_pick(NULL, f->plugin_cmd, "");
    p->args = f->plugin_args;
    p->checksum = load_pick(NULL, f->plugin_checksum, "");
    p->data_file = f->plugin_data_file;
    p->disabled = f->enabled.given && !f->enabled.value;
    return f->plugin_data.given ? print_data(l, &f->plugin_data, &p->data) : CS_OK;
}

static cs_code decode_type(struct load *l, const struct hcl_item *it, size_t index, struct plugin_list *p)
{
    const char *type = it->keys[0].text;
    const char *path = cs_arena_printf(l->a, "root[%zu].%s", index, type);
    struct hcl_item rest = *it;
    const struct hcl_item *one = &rest;
    struct hcl_items items = {.at = &one, .len = 1};
    if (path == NULL)
        return cs_nomem(l->e);
    if (strcmp(type, OLD_UPSTREAM) == 0) {
        type = "UpstreamAuthority";
        CS_TRY(load_warn_deprecated(
            l, "The UpstreamCA plugin type is now named UpstreamAuthority; please rename it"));
    }
    if (it->key_count >= 2) {
        rest.keys++;
        rest.key_count--;
    } else if (it->value->kind == HCL_OBJECT) {
        items = it->value->items;
    } else {
        return cs_fail(l->e, CS_INVALID, "At %u:%u: %s: not an object type for map (%s)", it->value->pos.line,
                       it->value->pos.column, path,
                       it->value->kind == HCL_LIST ? "*ast.ListType" : "*ast.LiteralType");
    }
    struct config_map m = {0};
    CS_TRY(config_decode_map(&plugin_section, items, path, l->a, &m, l->e));
    for (size_t i = 0; i < m.len; i++) {
        struct config_plugin *to = find(p, type, m.labels[i]);
        if (to != NULL)
            CS_TRY(fill(l, m.at[i], to));
    }
    return CS_OK;
}

cs_code load_plugins(struct load *l, const struct config_tree *tree, struct config_plugins *out)
{
    if (tree->literal != NULL)
        return cs_fail(l->e, CS_INVALID, "expected plugins node type *ast.ObjectList but got %s",
                       tree->literal->kind == HCL_LIST ? "*ast.ListType" : "*ast.LiteralType");
    struct plugin_list *p = cs_arena_zalloc(l->a, sizeof *p);
    if (p == NULL)
        return cs_nomem(l->e);
    CS_TRY(list_names(l, tree->items, p));
    for (size_t i = 0; i < tree->items.len; i++) {
        cs_code code = decode_type(l, tree->items.at[i], i, p);
        if (code == CS_INVALID && l->e != NULL && strncmp(l->e->text, "At ", 3) == 0)
            return cs_wrap(l->e, "failed to decode plugins config");
        if (code != CS_OK)
            return code;
    }
    *out = (struct config_plugins){.at = p->at, .len = p->len};
    return CS_OK;
}

static bool is_built(const char *program, const struct config_plugin *p)
{
    for (const struct config_plugin_doc *d = config_plugin_docs; d->program != NULL; d++)
        if (strcmp(d->program, program) == 0 && strcmp(d->type, p->type) == 0 &&
            strcmp(d->name, p->name) == 0)
            return true;
    return false;
}

cs_code load_check_plugins(struct load *l, const char *program, const struct config_plugins *plugins)
{
    for (size_t i = 0; i < plugins->len; i++) {
        const struct config_plugin *p = &plugins->at[i];
        if (p->disabled || *p->cmd != 0)
            continue;
        if (config_plugin_is_known(program, p->type, p->name) && !is_built(program, p))
            return cs_fail(l->e, CS_UNIMPLEMENTED, "plugin %s %s is not supported yet", p->type,
                           load_quote(l, p->name));
    }
    return CS_OK;
}

const struct config_plugin *config_plugin_find(const struct config_plugins *p, const char *type,
                                               const char *name)
{
    for (size_t i = 0; i < p->len; i++)
        if (strcmp(p->at[i].type, type) == 0 && strcmp(p->at[i].name, name) == 0)
            return &p->at[i];
    return NULL;
}

cs_code config_plugin_text(const struct config_plugin *p, struct cs_arena *a, struct cs_slice *out,
                           struct cs_err *e)
{
    *out = p->data;
    if (p->data_file == NULL)
        return CS_OK;
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    CS_TRY(cs_file_read(p->data_file, HCL_MAX_SIZE, &b, e));
    void *copy = cs_arena_memdup(a, b.len > 0 ? (const void *)b.data : "", b.len);
    if (copy == NULL)
        return cs_nomem(e);
    *out = cs_slice_of(copy, b.len);
    return CS_OK;
}
