/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "cli/cli.h"

#include <stdlib.h>

#define EXIT_NO_COMMAND 127

struct line {
    bool help, version, stray_flags;
    char command[96]; /* "" when no command word was found */
    int first_arg;    /* index of the command's first argument */
};

static bool is_help(const char *a)
{
    return strcmp(a, "-h") == 0 || strcmp(a, "-help") == 0 || strcmp(a, "--help") == 0;
}

static bool is_version(const char *a)
{
    return strcmp(a, "-v") == 0 || strcmp(a, "-version") == 0 || strcmp(a, "--version") == 0;
}

/* Is `prefix` a command, or the leading words of one? */
static bool known(const struct cli_command *const *commands, size_t count, const char *prefix)
{
    size_t len = strlen(prefix);
    for (size_t i = 0; i < count; i++)
        if (strncmp(commands[i]->path, prefix, len) == 0 &&
            (commands[i]->path[len] == ' ' || commands[i]->path[len] == '\0'))
            return true;
    return false;
}

static const struct cli_command *find_command(const struct cli_command *const *commands, size_t count,
                                              const char *path)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(commands[i]->path, path) == 0)
            return commands[i];
    return NULL;
}

/* Find the longest run of words from argv[i] that names a command or a group. */
static void match_command(struct line *l, const struct cli_command *const *commands, size_t count, int argc,
                          char **argv, int i)
{
    char words[sizeof l->command] = "";
    size_t used = 0;
    l->first_arg = i + 1;
    if (strchr(argv[i], ' ') != NULL)
        return;
    for (int j = i; j < argc; j++) {
        const char *w = argv[j];
        size_t n = strlen(w);
        if (n == 0 || w[0] == '-' || strchr(w, ' ') != NULL || used + n + 2 > sizeof words)
            break;
        if (used > 0)
            words[used++] = ' ';
        memcpy(words + used, w, n + 1);
        used += n;
        if (!known(commands, count, words))
            break;
        memcpy(l->command, words, used + 1);
        l->first_arg = j + 1;
    }
}

static struct line read_line(const struct cli_command *const *commands, size_t count, int argc, char **argv)
{
    struct line l = {.first_arg = argc};
    bool found = false;
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--") == 0)
            break;
        if (is_help(a)) {
            l.help = true;
            continue;
        }
        if (found)
            continue;
        if (is_version(a)) {
            l.version = true;
            continue;
        }
        if (a[0] == '-') {
            l.stray_flags = true;
        } else if (a[0] != '\0') {
            found = true;
            match_command(&l, commands, count, argc, argv, i);
        }
    }
    return l;
}

/* The word of `path` after the group `group` ("" is the top); NULL when path is not in it. */
static const char *child_word(const char *path, const char *group, size_t *len)
{
    size_t n = strlen(group);
    if (n > 0) {
        if (strncmp(path, group, n) != 0 || path[n] != ' ')
            return NULL;
        path += n + 1;
    }
    *len = strcspn(path, " ");
    return path;
}

/* Calls fn for each direct child of a group, in order; `leaf` is NULL for a child that is only a group. */
static void each_child(const struct cli_command *const *commands, size_t count, const char *group,
                       void (*fn)(void *arg, const char *word, int len, const struct cli_command *leaf),
                       void *arg)
{
    const char *last = NULL;
    size_t last_len = 0;
    for (size_t i = 0; i < count; i++) {
        size_t len;
        const char *w = child_word(commands[i]->path, group, &len);
        if (w == NULL || (last != NULL && len == last_len && memcmp(w, last, len) == 0))
            continue;
        last = w;
        last_len = len;
        fn(arg, w, (int)len, w[len] == '\0' ? commands[i] : NULL);
    }
}

struct listing {
    FILE *to;
    int width;
    bool any;
};

static void measure_child(void *arg, const char *word, int len, const struct cli_command *leaf)
{
    (void)word;
    (void)leaf;
    struct listing *li = arg;
    li->width = len > li->width ? len : li->width;
    li->any = true;
}

static void print_child(void *arg, const char *word, int len, const struct cli_command *leaf)
{
    const struct listing *li = arg;
    fprintf(li->to, "    %.*s%*s    %s\n", len, word, li->width - len, "",
            leaf != NULL ? leaf->synopsis : "");
}

static void print_leaf_usage(struct cli_env *env, const struct cli_command *c)
{
    if (c->flags != NULL)
        cli_flags_usage(c->flags, c->set_name != NULL ? c->set_name : c->path, env->err);
}

static void print_child_usage(void *arg, const char *word, int len, const struct cli_command *leaf)
{
    (void)word;
    (void)len;
    if (leaf != NULL)
        print_leaf_usage(arg, leaf);
}

static void top_usage(struct cli_env *env, const struct cli_command *const *commands, size_t count)
{
    struct listing li = {.to = env->err};
    each_child(commands, count, "", measure_child, &li);
    fprintf(env->err, "Usage: %s [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n",
            env->program);
    each_child(commands, count, "", print_child, &li);
    fputc('\n', env->err);
}

/* Help of a command or group: its own usage, that of its children, then the list of children. */
static void command_help(struct cli_env *env, const struct cli_command *const *commands, size_t count,
                         const char *path)
{
    struct listing li = {.to = env->err};
    const struct cli_command *self = find_command(commands, count, path);
    if (self != NULL)
        print_leaf_usage(env, self);
    each_child(commands, count, path, print_child_usage, env);
    if (self == NULL)
        fputs("This command is accessed by using one of the subcommands below.", env->err);
    else if (!(self->quirks & CLI_HELP_SILENT))
        fputs("flag: help requested", env->err);
    each_child(commands, count, path, measure_child, &li);
    fputs(li.any ? "\n\nSubcommands:\n" : "\n", env->err);
    each_child(commands, count, path, print_child, &li);
}

static int flag_error(struct cli_env *env, const struct cli_command *c, const struct cs_err *e)
{
    fprintf(env->err, "%s\n", e->text);
    print_leaf_usage(env, c);
    if (c->quirks & CLI_FLAG_ERROR_TWICE)
        fprintf(env->err, "%s%s\n", c->flag_error_prefix != NULL ? c->flag_error_prefix : "", e->text);
    return EXIT_FAILURE;
}

static int report(struct cli_env *env, const struct cli_command *c, cs_code code, const struct cs_err *e)
{
    fflush(env->out);
    if (code == CS_OK)
        return EXIT_SUCCESS;
    if (!(c->quirks & CLI_SELF_REPORTING))
        fprintf(env->err, "%s%s\n", c->quirks & CLI_BARE_ERRORS ? "" : "Error: ", e->text);
    return EXIT_FAILURE;
}

static int run_command(struct cli_env *env, const struct cli_command *c, int argc, char **argv)
{
    struct cs_err e = {0};
    if (c->run == NULL) {
        fprintf(env->err, "Error: '%s %s' is not supported yet\n", env->program, c->path);
        return EXIT_FAILURE;
    }
    CS_CLEANUP(cs_freep) void *opts = cs_calloc(1, c->opts_size ? c->opts_size : 1);
    if (opts == NULL)
        return report(env, c, cs_nomem(&e), &e);
    cs_code code = cli_flags_defaults(c->flags, opts, &e);
    if (code != CS_OK)
        return report(env, c, code, &e);
    int status;
    switch (cli_flags_parse(c->flags, opts, argc, argv, NULL, &e)) {
    case CLI_FLAGS_OK:
        code = c->run(env, opts, &e);
        status = report(env, c, code, &e);
        status = code == CS_OK ? env->status : status;
        break;
    case CLI_FLAGS_HELP:
        (void)cs_fail(&e, CS_INVALID, "flag: help requested");
        print_leaf_usage(env, c);
        fprintf(env->err, "%s\n", e.text);
        status = EXIT_FAILURE;
        break;
    default:
        status = flag_error(env, c, &e);
        break;
    }
    cli_flags_free(c->flags, opts);
    return status;
}

int cli_main(struct cli_env *env, const struct cli_command *const *commands, size_t count, int argc,
             char **argv)
{
    struct line l = read_line(commands, count, argc, argv);
    if (l.version) {
        fprintf(env->err, "%s\n", env->version);
        return EXIT_SUCCESS;
    }
    if (l.command[0] == '\0') {
        top_usage(env, commands, count);
        return l.help ? EXIT_SUCCESS : EXIT_NO_COMMAND;
    }
    if (l.help) {
        command_help(env, commands, count, l.command);
        return EXIT_SUCCESS;
    }
    if (l.stray_flags) {
        fputs("Invalid flags before the subcommand. If these flags are for\n"
              "the subcommand, please put them after the subcommand.\n\n",
              env->err);
        command_help(env, commands, count, l.command);
        return EXIT_FAILURE;
    }
    const struct cli_command *c = find_command(commands, count, l.command);
    if (c == NULL) {
        command_help(env, commands, count, l.command);
        return EXIT_FAILURE;
    }
    return run_command(env, c, argc - l.first_arg, argv + l.first_arg);
}
