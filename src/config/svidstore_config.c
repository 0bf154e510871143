/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of the agent's SVIDStores. "disk" is ours and refuses unknown ones, so that what is misspelt does
 * not go by unseen; so does SPIRE's "gcp_secretmanager", and "aws_secretsmanager" does not.
 */
#include "config/plugin_config.h"

#include "base/text.h"

#include <signal.h>
#include <strings.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define HOOK_TIMEOUT "10s"
#define HOOK_TIMEOUT_MAX_NS (INT64_C(600) * 1000000000)

/* --- "disk" --- */

struct hook_file {
    struct config_strings command, unknown;
    const char *pid_file, *signal, *timeout;
};
#define AT(field) offsetof(struct hook_file, field)
static const struct config_option hook_options[] = {
    {"command", CONFIG_STRINGS, CONFIG_READY, AT(command), NULL,
     "Program (an absolute path) and its arguments, run as the agent's user, without a shell.", NULL},
    {"pid_file", CONFIG_STRING, CONFIG_READY, AT(pid_file), NULL,
     "File with the number of the process to be sent a signal. An absolute path.", NULL},
    {"signal", CONFIG_STRING, CONFIG_READY, AT(signal), "SIGHUP",
     "What that process is sent: SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM or SIGWINCH.", NULL},
    {"timeout", CONFIG_STRING, CONFIG_READY, AT(timeout), HOOK_TIMEOUT,
     "How long the command may take, 10m at most. Past it, it is killed.", NULL},
};
static const struct config_section hook_section = {.title = "hook",
                                                   .strict = true,
                                                   .size = sizeof(struct hook_file),
                                                   .given = CONFIG_NO_OFFSET,
                                                   .unknown = AT(unknown),
                                                   .options = hook_options,
                                                   .count = COUNT(hook_options)};
#undef AT

struct disk_file {
    const char *directory;
    struct config_strings more_directories, unknown;
    struct config_map hook;
};
#define AT(field) offsetof(struct disk_file, field)
static const struct config_option disk_options[] = {
    {"directory", CONFIG_STRING, CONFIG_READY, AT(directory), NULL,
     "Folder that the paths in selectors are relative to. Needed. It must be there; nothing is written "
     "outside "
     "of it.",
     NULL},
    {"more_directories", CONFIG_STRINGS, CONFIG_READY, AT(more_directories), NULL,
     "Further folders. Into these and `directory` lead selectors with an absolute path.", NULL},
    {"hook", CONFIG_MAP, CONFIG_READY, AT(hook), NULL,
     "What is done after an SVID was replaced, for entries with the selector `disk:hook:LABEL`.",
     &hook_section},
};
const struct config_section config_svidstore_disk_section = {.title = "disk",
                                                             .strict = true,
                                                             .size = sizeof(struct disk_file),
                                                             .given = CONFIG_NO_OFFSET,
                                                             .unknown = AT(unknown),
                                                             .options = disk_options,
                                                             .count = COUNT(disk_options)};
#undef AT

static cs_code read_signal(const char *name, int *out, struct cs_err *e)
{
    static const struct {
        const char *name;
        int number;
    } signals[] = {{"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT},  {"USR1", SIGUSR1},
                   {"USR2", SIGUSR2}, {"TERM", SIGTERM}, {"WINCH", SIGWINCH}};
    const char *bare = strncasecmp(name, "SIG", 3) == 0 ? name + 3 : name;
    for (size_t i = 0; i < COUNT(signals); i++)
        if (strcasecmp(bare, signals[i].name) == 0) {
            *out = signals[i].number;
            return CS_OK;
        }
    return cs_fail(e, CS_INVALID,
                   "signal \"%.64s\" is not one of SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, "
                   "SIGTERM, SIGWINCH",
                   name);
}

static cs_code read_hook(const struct hook_file *f, struct config_svidstore_hook *out, struct cs_err *e)
{
    const char *timeout = f->timeout != NULL ? f->timeout : HOOK_TIMEOUT;
    out->command = f->command;
    out->pid_file = f->pid_file != NULL ? f->pid_file : "";
    if (f->unknown.len > 0)
        return cs_fail(e, CS_INVALID, "unknown option \"%.128s\"", f->unknown.at[0]);
    if (f->command.len == 0 && *out->pid_file == 0)
        return cs_fail(e, CS_INVALID, "command or pid_file must be set");
    if (f->command.len > 0 && f->command.at[0][0] != '/')
        return cs_fail(e, CS_INVALID, "command must begin with an absolute path");
    if (*out->pid_file != 0 && *out->pid_file != '/')
        return cs_fail(e, CS_INVALID, "pid_file must be absolute");
    if (f->signal != NULL && *out->pid_file == 0)
        return cs_fail(e, CS_INVALID, "signal needs pid_file");
    CS_TRY(read_signal(f->signal != NULL ? f->signal : "HUP", &out->signal, e));
    if (cs_duration_parse(cs_slice_str(timeout), &out->timeout_ns, e) != CS_OK)
        return cs_wrap(e, "timeout");
    if (out->timeout_ns <= 0 || out->timeout_ns > HOOK_TIMEOUT_MAX_NS)
        return cs_fail(e, CS_INVALID, "timeout must be above 0 and not above 10m");
    return CS_OK;
}

static cs_code read_hooks(const struct config_map *in, struct cs_arena *a, struct config_svidstore_disk *out,
                          struct cs_err *e)
{
    struct config_svidstore_hook *hooks = cs_arena_zalloc(a, (in->len + 1) * sizeof *hooks);
    if (hooks == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < in->len; i++) {
        hooks[i].name = in->labels[i];
        if (read_hook(in->at[i], &hooks[i], e) != CS_OK)
            return cs_wrap(e, "hook \"%.64s\"", hooks[i].name);
    }
    out->hooks = hooks;
    out->hook_count = in->len;
    return CS_OK;
}

/* In the order given, `directory` first, without slashes at the end. */
static cs_code read_directories(const struct disk_file *f, struct cs_arena *a, struct config_strings *out,
                                struct cs_err *e)
{
    const char **at = cs_arena_alloc(a, (f->more_directories.len + 1) * sizeof *at);
    if (at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i <= f->more_directories.len; i++) {
        const char *path = i == 0 ? f->directory : f->more_directories.at[i - 1];
        size_t len = path != NULL ? strlen(path) : 0;
        if (len == 0)
            return cs_fail(e, CS_INVALID, "directory must be configured");
        while (len > 0 && path[len - 1] == '/')
            len--;
        if (*path != '/' || len == 0)
            return cs_fail(e, CS_INVALID, "directory \"%.128s\" must be absolute, and not the root", path);
        at[i] = cs_arena_strndup(a, path, len);
        if (at[i] == NULL)
            return cs_nomem(e);
    }
    *out = (struct config_strings){at, f->more_directories.len + 1};
    return CS_OK;
}

cs_code config_read_svidstore_disk(struct cs_slice text, struct cs_arena *a,
                                   struct config_svidstore_disk *out, struct cs_err *e)
{
    struct disk_file f = {0};
    struct hcl_items items;
    *out = (struct config_svidstore_disk){0};
    cs_code code = hcl_parse(text, a, &items, e);
    if (code == CS_OK)
        code = config_decode(&config_svidstore_disk_section, items, "root", a, &f, e);
    if (code != CS_OK)
        return code == CS_INVALID ? cs_wrap(e, "unable to decode configuration") : code;
    if (f.unknown.len > 0)
        return cs_fail(e, CS_INVALID, "unknown option \"%.128s\"", f.unknown.at[0]);
    CS_TRY(read_directories(&f, a, &out->directories, e));
    return read_hooks(&f.hook, a, out, e);
}

/* --- "aws_secretsmanager" --- */

#define AT(field) offsetof(struct config_aws_secretsmanager, field)
static const struct config_option aws_options[] = {
    {"access_key_id", CONFIG_STRING, CONFIG_READY, AT(access_key_id), NULL,
     "AWS access key ID. Not given: `AWS_ACCESS_KEY_ID` of the environment.", NULL},
    {"secret_access_key", CONFIG_STRING, CONFIG_READY, AT(secret_access_key), NULL,
     "AWS secret access key. Not given: `AWS_SECRET_ACCESS_KEY` of the environment.", NULL},
    {"region", CONFIG_STRING, CONFIG_READY, AT(region), NULL, "AWS region the secrets are kept in. Needed.",
     NULL},
};
#undef AT
const struct config_section config_aws_secretsmanager_section = {.title = "aws_secretsmanager",
                                                                 .size =
                                                                     sizeof(struct config_aws_secretsmanager),
                                                                 .given = CONFIG_NO_OFFSET,
                                                                 .unknown = CONFIG_NO_OFFSET,
                                                                 .options = aws_options,
                                                                 .count = COUNT(aws_options)};

cs_code config_read_aws_secretsmanager(struct cs_slice text, struct cs_arena *a,
                                       struct config_aws_secretsmanager *out, struct cs_err *e)
{
    struct hcl_items items;
    *out = (struct config_aws_secretsmanager){0};
    cs_code code = hcl_parse(text, a, &items, e);
    if (code == CS_OK)
        code = config_decode(&config_aws_secretsmanager_section, items, "root", a, out, e);
    const char **const texts[] = {&out->access_key_id, &out->secret_access_key, &out->region};
    for (size_t i = 0; i < COUNT(texts); i++)
        if (*texts[i] == NULL)
            *texts[i] = "";
    if (code != CS_OK)
        return code == CS_INVALID ? cs_wrap(e, "unable to decode configuration") : code;
    return *out->region == 0 ? cs_fail(e, CS_INVALID, "region is required") : CS_OK;
}

/* --- "gcp_secretmanager" --- */

#define AT(field) offsetof(struct config_gcp_secretmanager, field)
static const struct config_option gcp_options[] = {
    {"service_account_file", CONFIG_STRING, CONFIG_READY, AT(service_account_file), NULL,
     "JSON file with the credentials of a service account, or of a user. Not given: Application Default "
     "Credentials (`GOOGLE_APPLICATION_CREDENTIALS` and so on).",
     NULL},
};
const struct config_section config_gcp_secretmanager_section = {.title = "gcp_secretmanager",
                                                                .size =
                                                                    sizeof(struct config_gcp_secretmanager),
                                                                .given = CONFIG_NO_OFFSET,
                                                                .unknown = AT(unknown),
                                                                .options = gcp_options,
                                                                .count = COUNT(gcp_options)};
#undef AT

cs_code config_read_gcp_secretmanager(struct cs_slice text, struct cs_arena *a,
                                      struct config_gcp_secretmanager *out, struct cs_err *e)
{
    struct hcl_items items;
    *out = (struct config_gcp_secretmanager){0};
    cs_code code = hcl_parse(text, a, &items, e);
    if (code == CS_OK)
        code = config_decode(&config_gcp_secretmanager_section, items, "root", a, out, e);
    if (out->service_account_file == NULL)
        out->service_account_file = "";
    if (code != CS_OK)
        return code == CS_INVALID ? cs_wrap(e, "unable to decode configuration") : code;
    return config_refuse_unknown(&out->unknown, a, e);
}
