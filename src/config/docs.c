/* SPDX-License-Identifier: Apache-2.0
 *
 * The option table as reference pages.
 */
#include "config/option.h"

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
