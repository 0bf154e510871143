/* SPDX-License-Identifier: Apache-2.0
 *
 * The option table as reference pages.
 */
#include "config/agent_config.h"
#include "config/plugin_config.h"
#include "config/server_config.h"

#include <stdio.h>

static const char *type_name(enum config_type t)
{
    static const char *const names[] = {
        [CONFIG_STRING] = "string",       [CONFIG_INT] = "number",  [CONFIG_BOOL] = "bool",
        [CONFIG_STRINGS] = "list",        [CONFIG_BLOCK] = "block", [CONFIG_BLOCKS] = "list of blocks",
        [CONFIG_MAP] = "labelled blocks", [CONFIG_TREE] = "block"};
    return names[t];
}

static bool is_block(const struct config_option *o)
{
    return o->section != NULL && o->status != CONFIG_REMOVED;
}

static void print_row(struct cs_buf *out, const struct config_option *o)
{
    cs_buf_printf(out, "| `%s` | %s | ", o->name, type_name(o->type));
    if (o->fallback != NULL)
        cs_buf_printf(out, "`%s`", o->fallback);
    cs_buf_printf(out, " | %s%s |\n", o->doc, o->status == CONFIG_LATER ? " **Not supported yet.**" : "");
}

static void print_removed(struct cs_buf *out, const struct config_section *s)
{
    bool any = false;
    for (size_t i = 0; i < s->count; i++) {
        if (s->options[i].status != CONFIG_REMOVED)
            continue;
        cs_buf_printf(
            out, "%s| `%s` | %s |\n",
            any ? ""
                : "\nOptions of older releases, refused as unknown:\n\n| option | instead |\n|---|---|\n",
            s->options[i].name, s->options[i].doc);
        any = true;
    }
}

/* Recursion is as deep as the table. */
void config_print_docs(struct cs_buf *out, const struct config_section *s, const char *path)
{
    if (s->count > 0) {
        cs_buf_printf(out, "\n## %s\n\n", *path == 0 ? "Sections of the file" : path);
        cs_buf_add_str(out, "| option | type | default | meaning |\n|---|---|---|---|\n");
    }
    for (size_t i = 0; i < s->count; i++)
        if (s->options[i].status != CONFIG_REMOVED)
            print_row(out, &s->options[i]);
    print_removed(out, s);
    if (s->count > 0 && *path != 0)
        cs_buf_printf(out, "\nUnknown keys here are %s.\n", s->strict ? "an error" : "passed over");
    for (size_t i = 0; i < s->count; i++) {
        char name[160];
        if (!is_block(&s->options[i]) || s->options[i].section->count == 0)
            continue;
        (void)snprintf(name, sizeof name, "%s%s%s", path, *path == 0 ? "" : ".", s->options[i].name);
        config_print_docs(out, s->options[i].section, name);
    }
}

void config_print_plugin_options(struct cs_buf *out, const struct config_plugin_doc *d)
{
    cs_buf_add_str(out, "| option | type | default | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; d->section != NULL && i < d->section->count; i++)
        print_row(out, &d->section->options[i]);
    for (size_t i = 0; d->section != NULL && i < d->section->count; i++) {
        const struct config_option *o = &d->section->options[i];
        if (!is_block(o))
            continue;
        cs_buf_printf(out, "\nIn each of `%s`:\n\n| option | type | default | meaning |\n|---|---|---|---|\n",
                      o->name);
        for (size_t k = 0; k < o->section->count; k++)
            print_row(out, &o->section->options[k]);
    }
}

static void print_plugins(struct cs_buf *out, const char *program)
{
    cs_buf_add_str(out, "\n## Plugins\n\n"
                        "Each plugin is a block `Type \"name\" { ... }` in the `plugins` section:\n\n"
                        "| option | meaning |\n|---|---|\n"
                        "| `plugin_data` | The plugin's own options, below. |\n"
                        "| `plugin_data_file` | File with them, instead. |\n"
                        "| `enabled` | `false` leaves the plugin out. |\n"
                        "| `plugin_cmd` | Program of an external plugin (docs/plugins/external.md). |\n"
                        "| `plugin_args` | Its arguments. |\n"
                        "| `plugin_checksum` | SHA-256 of the program in hex: nothing else is run. |\n");
    for (const struct config_plugin_doc *d = config_plugin_docs; d->program != NULL; d++) {
        if (strcmp(d->program, program) != 0)
            continue;
        cs_buf_printf(out, "\n### %s \"%s\"\n\n%s\n", d->type, d->name, d->doc);
        if (d->section == NULL)
            continue;
        cs_buf_add_str(out, "\n");
        config_print_plugin_options(out, d);
    }
}

void config_print_reference(struct cs_buf *out, const char *program)
{
    bool server = strcmp(program, "server") == 0;
    cs_buf_printf(
        out,
        "# Options of spire-%s\n\n"
        "Generated from the option table by `tools/gen-docs`; do not edit.\n\n"
        "The file is HCL 1, or JSON when it begins with `{`. Letter case of option names does not matter. "
        "With `-expandEnv`, `$NAME` and `${NAME}` are replaced by environment variables first, and `$$` by "
        "`$`. Durations are written like `90s`, `1h30m`. Flags of the command line win over the file.\n",
        program);
    config_print_docs(out, server ? &server_config_section : &agent_config_section, "");
    print_plugins(out, program);
}
