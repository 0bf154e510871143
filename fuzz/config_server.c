/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole load from bytes, as server.conf and as agent.conf, and the text as a plugin's options.
 * Names are not resolved and log files not made: the flags put harmless values over the file's.
 */
#include "config/agent_config.h"
#include "config/plugin_config.h"
#include "config/server_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void load_server(struct cs_slice text)
{
    const struct server_config_flags flags = {.bind_address = "127.0.0.1", .log_file = "/dev/null"};
    struct config_notes notes = {0};
    struct cs_err e;
    CS_AUTO(server_config) c = NULL;
    (void)!server_config_parse("fuzz", text, false, &flags, &c, &notes, &e);
    config_notes_free(&notes);
}

static void load_agent(struct cs_slice text)
{
    const struct agent_config_flags flags = {.log_file = "/dev/null", .join_token_file = "/dev/null"};
    struct config_notes notes = {0};
    struct cs_err e;
    CS_AUTO(agent_config) c = NULL;
    (void)!agent_config_parse("fuzz", text, false, &flags, &c, &notes, &e);
    config_notes_free(&notes);
}

static void load_plugins(struct cs_slice text)
{
    struct cs_err e;
    struct config_sql sql;
    struct config_unix unix_options;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return;
    (void)!config_read_sql(text, a, &sql, &e);
    (void)!config_read_unix(text, a, &unix_options, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf expanded = {.max = HCL_MAX_SIZE};
    struct cs_slice text = cs_slice_of(data, size);
    load_server(text);
    load_agent(text);
    load_plugins(text);
    config_expand_env(&expanded, text);
    return 0;
}
