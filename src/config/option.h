/* SPDX-License-Identifier: Apache-2.0
 *
 * The option table: one row per option says how it is read, what it may be, what it is when it is
 * not given and how it is documented. The reader, the check for unknown keys, the check for what is
 * not supported yet and the reference pages all walk these rows.
 */
#ifndef CS_CONFIG_OPTION_H
#define CS_CONFIG_OPTION_H

#include "config/hcl.h"

enum config_type {
    CONFIG_STRING,  /* const char *; NULL: not given */
    CONFIG_INT,     /* struct config_int */
    CONFIG_BOOL,    /* struct config_bool */
    CONFIG_STRINGS, /* struct config_strings; giving it again appends */
    CONFIG_BLOCK,   /* the section's struct, embedded; its `given` member is set */
    CONFIG_BLOCKS,  /* struct config_blocks of the section's struct */
    CONFIG_MAP,     /* struct config_map of the section's struct, by label */
    CONFIG_TREE,    /* struct config_tree: kept as it is; the first one given stays */
};

struct config_int {
    int64_t value;
    bool given;
};
struct config_bool {
    bool value, given;
};
struct config_strings {
    const char *const *at;
    size_t len;
};
bool config_strings_have(const struct config_strings *list, const char *text);
struct config_blocks {
    void *const *at; /* each points to one struct of the section */
    size_t len;
};
struct config_map {
    const char *const *labels;
    void *const *at;
    size_t len;
};
struct config_tree {
    bool given;
    const struct hcl_node *literal; /* a value that is no block; NULL: see items */
    struct hcl_items items;
};

enum config_status {
    CONFIG_READY,   /* does what it says */
    CONFIG_LATER,   /* known; refused unless it says what happens anyway */
    CONFIG_REMOVED, /* of an older release; refused as an unknown key, docs say what came instead */
};

struct config_option {
    const char *name;
    enum config_type type;
    enum config_status status;
    uint16_t offset;      /* in the section's struct */
    const char *fallback; /* text of the default; NULL: none. For CONFIG_LATER the one value allowed */
    const char *doc;      /* one or two sentences */
    const struct config_section *section; /* of the block types */
};

struct config_section {
    const char *title; /* as in the message about unknown keys: "server", "health check" */
    bool strict;       /* unknown keys are fatal; else they are passed over, as SPIRE does */
    uint16_t size;
    uint16_t given;   /* offset of a bool: the block is there; 0xffff: none */
    uint16_t unknown; /* offset of a struct config_strings: unknown keys; 0xffff: none */
    const struct config_option *options;
    size_t count;
};
#define CONFIG_NO_OFFSET 0xffff

/* Fills the section's struct (zeroed by the caller) from items, as HCL's decoder fills SPIRE's:
 * repeated blocks merge, later values win, lists grow, numbers are taken for strings and quoted
 * numbers for numbers. All memory from `a`. `path` ("root") begins the names in error texts:
 * `At 3:5: root.server.bind_port: unknown type *ast.ListType`. CS_INVALID, CS_INTERNAL. */
CS_CHECKED cs_code config_decode(const struct config_section *s, struct hcl_items items, const char *path,
                                 struct cs_arena *a, void *out, struct cs_err *e);

/* As config_decode, one struct of the section per first key of the items. */
CS_CHECKED cs_code config_decode_map(const struct config_section *s, struct hcl_items items, const char *path,
                                     struct cs_arena *a, struct config_map *out, struct cs_err *e);

/* True when a filled section differs from one that was never given (false, 0 and "" do not count). */
bool config_in_use(const struct config_section *s, const void *filled);

/* The first option of a section filled by config_decode that asks for something not supported yet:
 * CS_UNIMPLEMENTED `server.federation is not supported yet`. `path` may be "". */
CS_CHECKED cs_code config_check_later(const struct config_section *s, const void *filled, const char *path,
                                      struct cs_err *e);

/* For sections that are not `strict` and collect unknown keys, as SPIRE's pluginconf tells of them: all,
 * sorted. CS_INVALID `unknown configurations detected: a,b`. */
CS_CHECKED cs_code config_refuse_unknown(const struct config_strings *unknown, struct cs_arena *a,
                                         struct cs_err *e);

/* Appends the reference table of a section and its blocks as Markdown. */
void config_print_docs(struct cs_buf *out, const struct config_section *s, const char *path);

#endif
