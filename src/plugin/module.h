/* SPDX-License-Identifier: Apache-2.0
 *
 * Loadable modules: built-in plugins that need a large library live in lib/cspire/MODULE.so, which is opened
 * only when a configuration names one of them. A module is a part of the program that is mapped later: it
 * uses the program's own functions (base to plugin, see exports.list), so it must come from the same build.
 *
 * A module is a folder plugins/modules/MODULE with one use of PLUGIN_MODULE, and rows in modules.c.
 */
#ifndef CS_PLUGIN_MODULE_H
#define CS_PLUGIN_MODULE_H

#include "plugin/plugin.h"

/* One plugin of a module. */
struct plugin_module_entry {
    const char *program, *type; /* "server" or "agent"; "NodeAttestor" */
    const struct plugin_builtin *plugin;
};

/* The one symbol of a module. `magic` and `build` stay where they are for ever, so that what was made by
 * another build can be told. */
struct plugin_module {
    char magic[16];    /* PLUGIN_MODULE_MAGIC */
    const char *build; /* plugin_build_stamp() of the same build */
    const struct plugin_module_entry *entries;
    size_t count;
};
#define PLUGIN_MODULE_MAGIC "cspire module 1"
#define PLUGIN_MODULE_SYMBOL "cspire_module"

/* What a module says in one of its files, with `list` an array of struct plugin_module_entry.
 * CSPIRE_BUILD_STAMP is of the generated build_stamp.h, which the file named module.c can include. */
#define PLUGIN_MODULE(list)                                                                                  \
    extern const struct plugin_module cspire_module;                                                         \
    const struct plugin_module cspire_module = {.magic = PLUGIN_MODULE_MAGIC,                                \
                                                .build = CSPIRE_BUILD_STAMP,                                 \
                                                .entries = (list),                                           \
                                                .count = sizeof(list) / sizeof(list)[0]}

/* Version, and a digest over all headers and messages: what a module and its program must agree on. */
const char *plugin_build_stamp(void);

/* The module that has this plugin (modules.c); NULL: none has it. */
const char *plugin_module_name(const char *program, const char *type, const char *name);

/* Opens `name`.so and finds the plugin in it. Looked for beside the program (../lib/cspire), then in the
 * folder it was installed to; nowhere else. The file and its folder must belong to root, to who runs the
 * program or to who owns the program's own file, and not be writable by others. What was opened stays, for
 * the life of the process; opening it again costs nothing. Any thread.
 * CS_NOT_FOUND: no such file; CS_DENIED: not to be trusted; CS_PRECONDITION: of another build, or the system
 * lacks a library it needs; CS_UNIMPLEMENTED: the static build has no modules. */
CS_CHECKED cs_code plugin_module_plugin(const char *module, const char *program, const char *type,
                                        const char *name, const struct plugin_builtin **out,
                                        struct cs_err *e);

/* The same from a folder of one's choice: for tests. */
CS_CHECKED cs_code plugin_module_plugin_in(const char *folder, const char *module, const char *program,
                                           const char *type, const char *name,
                                           const struct plugin_builtin **out, struct cs_err *e);

#endif
