/* SPDX-License-Identifier: Apache-2.0
 *
 * What the server's and the agent's configuration have in common: reading the file, notes, plugin
 * blocks, health checks, key types.
 */
#ifndef CS_CONFIG_CONFIG_H
#define CS_CONFIG_CONFIG_H

#include "base/log.h"
#include "config/option.h"

/* --- Notes: what is to be logged once there is a logger, in order. --- */
struct config_note {
    enum cs_level level;
    char *text;
    struct {
        char *key, *value; /* NULL: unused */
    } field[2];
};
/* Zero-initialise; owned by the caller, free also after an error. Not thread-safe. */
struct config_notes {
    struct config_note *at;
    size_t len, cap;
};
void config_notes_free(struct config_notes *n);
/* Writes all of them. */
void config_notes_log(const struct config_notes *n, const struct cs_log *log);

enum config_key_type { CONFIG_KEY_EC_P256, CONFIG_KEY_EC_P384, CONFIG_KEY_RSA_2048, CONFIG_KEY_RSA_4096 };
/* "ec-p256" and so on. */
const char *config_key_type_name(enum config_key_type t);

/* --- Plugin blocks (the `plugins` section), in the order of the file. --- */
struct config_plugin {
    const char *type, *name;
    const char *cmd;            /* plugin_cmd; "": built-in */
    struct config_strings args; /* plugin_args */
    const char *checksum;       /* plugin_checksum; "" when not given */
    struct cs_slice data;       /* plugin_data printed as HCL; empty when there is none */
    const char *data_file;      /* plugin_data_file; NULL: none */
    bool disabled;              /* enabled = false */
};
struct config_plugins {
    const struct config_plugin *at;
    size_t len;
};
/* NULL: not there. */
const struct config_plugin *config_plugin_find(const struct config_plugins *p, const char *type,
                                               const char *name);
/* Reads plugin_data_file when there is one, else hands out `data`. Lives in `a`. */
CS_CHECKED cs_code config_plugin_text(const struct config_plugin *p, struct cs_arena *a, struct cs_slice *out,
                                      struct cs_err *e);

/* --- health_checks --- */
struct config_health {
    bool listener_enabled;
    const char *bind_address;           /* host or address without brackets; default "localhost" */
    const char *bind_port;              /* text; default "80" */
    const char *live_path, *ready_path; /* default "/live", "/ready" */
};

/* --- log_file, log_format, log_level, log_source_location --- */
struct config_log {
    enum cs_level level;
    enum cs_log_format format;
    const char *file; /* "": standard output */
    bool source_location;
};

/* Appends the reference page of "server" or "agent": docs/config-server.md, docs/config-agent.md. */
void config_print_reference(struct cs_buf *out, const char *program);

/* os.Expand as SPIRE uses it for -expandEnv: `$NAME` and `${NAME}` become the variable's value
 * (empty when there is none), `$$` becomes `$`. Appends to out. */
void config_expand_env(struct cs_buf *out, struct cs_slice text);

#endif
