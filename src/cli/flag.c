/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/flag.h"

#include "base/mem.h"
#include "base/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

void cli_strings_free(struct cli_strings *s)
{
    cs_free(s->at);
    cs_free(s->owned);
    *s = (struct cli_strings){0};
}

static cs_code strings_push(struct cli_strings *s, const char *v, struct cs_err *e)
{
    const char **at = cs_realloc(s->at, (s->len + 1) * sizeof *at);
    if (at == NULL)
        return cs_nomem(e);
    s->at = at;
    at[s->len++] = v;
    return CS_OK;
}

static cs_code strings_split(struct cli_strings *s, const char *v, struct cs_err *e)
{
    cli_strings_free(s);
    s->owned = cs_strdup(v);
    if (s->owned == NULL)
        return cs_nomem(e);
    for (char *p = s->owned;;) {
        char *comma = strchr(p, ',');
        if (comma != NULL)
            *comma = '\0';
        CS_TRY(strings_push(s, p, e));
        if (comma == NULL)
            return CS_OK;
        p = comma + 1;
    }
}

static bool parse_bool(const char *v, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (strcmp(v, yes[i]) == 0) {
            *out = true;
            return true;
        }
        if (strcmp(v, no[i]) == 0) {
            *out = false;
            return true;
        }
    }
    return false;
}

/* Underscores may stand between digits, and between a base prefix and a digit (Go specification,
 * "Integer literals"). */
static bool underscores_fit(const char *digits, bool prefixed)
{
    char before = prefixed ? '0' : '_';
    for (const char *p = digits; *p != '\0'; p++) {
        if (*p == '_' && (before == '_' || p[1] == '\0' || p[1] == '_'))
            return false;
        before = *p;
    }
    return true;
}

/* Go's strconv.ParseInt(s, 0, 64). Returns NULL or the reason. */
static const char *parse_int(const char *v, int64_t *out)
{
    bool negative = *v == '-';
    const char *p = v + (*v == '-' || *v == '+');
    unsigned base = 10;
    bool prefixed = false;
    if (p[0] == '0' && p[1] != '\0') {
        char c = (char)tolower((unsigned char)p[1]);
        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        prefixed = true;
        p += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    }
    if (*p == '\0' || !underscores_fit(p, prefixed))
        return "parse error";
    uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX, n = 0;
    bool over = false;
    for (; *p != '\0'; p++) {
        if (*p == '_')
            continue;
        int c = tolower((unsigned char)*p);
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                            : 99;
        if (d >= base)
            return "parse error";
        over = over || n > (limit - d) / base;
        n = n * base + d;
    }
    if (over)
        return "value out of range";
    *out = negative ? (int64_t)(0 - n) : (int64_t)n;
    return NULL;
}

static cs_code set_output(struct cli_output *o, const char *v, struct cs_err *e)
{
    bool json = strcasecmp(v, "json") == 0;
    if (!json && strcasecmp(v, "pretty") != 0)
        return cs_fail(e, CS_INVALID, "bad formatter flag: unknown format option: \"%s\"", v);
    if (o->set && o->json != json)
        return cs_fail(e, CS_INVALID, "the output format has already been set to \"%s\"",
                       o->json ? "json" : "pretty");
    *o = (struct cli_output){.set = true, .json = json};
    return CS_OK;
}

static cs_code set_duration(const struct cli_flag *f, int64_t *out, const char *v, struct cs_err *e)
{
    cs_code code = cs_duration_parse(cs_slice_str(v), out, e);
    if (code != CS_OK && f->kind == CLI_DURATION)
        return cs_fail(e, CS_INVALID, "parse error");
    return code;
}

/* Store one value; e->text is the bare reason. */
static cs_code set_value(const struct cli_flag *f, void *opts, const char *v, struct cs_err *e)
{
    void *at = (char *)opts + f->offset;
    const char *why;
    switch (f->kind) {
    case CLI_STRING:
        *(const char **)at = v;
        return CS_OK;
    case CLI_BOOL:
        return parse_bool(v, at) ? CS_OK : cs_fail(e, CS_INVALID, "parse error");
    case CLI_INT:
        why = parse_int(v, at);
        return why == NULL ? CS_OK : cs_fail(e, CS_INVALID, "%s", why);
    case CLI_DURATION:
    case CLI_TIMEOUT:
        return set_duration(f, at, v, e);
    case CLI_STRINGS:
        return strings_push(at, v, e);
    case CLI_COMMA:
        return strings_split(at, v, e);
    case CLI_OUTPUT:
        return set_output(at, v, e);
    case CLI_TRISTATE:
        *(enum cli_tristate *)at = strcmp(v, "true") == 0    ? CLI_TRUE
                                   : strcmp(v, "false") == 0 ? CLI_FALSE
                                                             : CLI_ANY;
        return CS_OK;
    case CLI_PRESENCE:
        *(bool *)at = true;
        return CS_OK;
    }
    return cs_fail(e, CS_INTERNAL, "flag -%s has no kind", f->name);
}

cs_code cli_flags_defaults(const struct cli_flag *flags, void *opts, struct cs_err *e)
{
    for (const struct cli_flag *f = flags; f->name != NULL; f++)
        if (f->def != NULL && set_value(f, opts, f->def, e) != CS_OK)
            return cs_wrap(e, "default of -%s", f->name);
    return CS_OK;
}

void cli_flags_free(const struct cli_flag *flags, void *opts)
{
    for (const struct cli_flag *f = flags; f->name != NULL; f++)
        if (f->kind == CLI_STRINGS || f->kind == CLI_COMMA)
            cli_strings_free((struct cli_strings *)((char *)opts + f->offset));
}

static const struct cli_flag *find_flag(const struct cli_flag *flags, const char *name, size_t len)
{
    for (const struct cli_flag *f = flags; f->name != NULL; f++)
        if (strlen(f->name) == len && memcmp(f->name, name, len) == 0)
            return f;
    return NULL;
}

static bool takes_no_value(const struct cli_flag *f)
{
    return f->kind == CLI_BOOL || f->kind == CLI_PRESENCE;
}

/* One argument that begins with '-'; *i moves past a separate value. */
static enum cli_flags_result parse_one(const struct cli_flag *flags, void *opts, int argc, char **argv,
                                       int *i, struct cs_err *e)
{
    const char *arg = argv[*i], *name = arg + 1 + (arg[1] == '-');
    if (*name == '\0' || *name == '-' || *name == '=') {
        (void)cs_fail(e, CS_INVALID, "bad flag syntax: %s", arg);
        return CLI_FLAGS_BAD;
    }
    const char *eq = strchr(name, '='), *value = eq != NULL ? eq + 1 : NULL;
    size_t len = eq != NULL ? (size_t)(eq - name) : strlen(name);
    const struct cli_flag *f = find_flag(flags, name, len);
    if (f == NULL) {
        if ((len == 1 && *name == 'h') || (len == 4 && memcmp(name, "help", 4) == 0))
            return CLI_FLAGS_HELP;
        (void)cs_fail(e, CS_INVALID, "flag provided but not defined: -%.*s", (int)len, name);
        return CLI_FLAGS_BAD;
    }
    if (value == NULL && takes_no_value(f)) {
        value = "true";
    } else if (value == NULL) {
        if (*i + 1 >= argc) {
            (void)cs_fail(e, CS_INVALID, "flag needs an argument: -%s", f->name);
            return CLI_FLAGS_BAD;
        }
        value = argv[++*i];
    }
    struct cs_err why;
    if (set_value(f, opts, value, &why) == CS_OK)
        return CLI_FLAGS_OK;
    if (f->kind == CLI_BOOL)
        (void)cs_fail(e, CS_INVALID, "invalid boolean value \"%s\" for -%s: %s", value, f->name, why.text);
    else
        (void)cs_fail(e, CS_INVALID, "invalid value \"%s\" for flag -%s: %s", value, f->name, why.text);
    return CLI_FLAGS_BAD;
}

enum cli_flags_result cli_flags_parse(const struct cli_flag *flags, void *opts, int argc, char **argv,
                                      int *rest, struct cs_err *e)
{
    int i = 0;
    enum cli_flags_result result = CLI_FLAGS_OK;
    for (; i < argc && result == CLI_FLAGS_OK; i++) {
        const char *arg = argv[i];
        if (arg[0] != '-' || arg[1] == '\0')
            break;
        if (strcmp(arg, "--") == 0) {
            i++;
            break;
        }
        result = parse_one(flags, opts, argc, argv, &i, e);
    }
    if (rest != NULL)
        *rest = i;
    return result;
}

static const char *type_word(enum cli_flag_kind kind)
{
    switch (kind) {
    case CLI_STRING:
        return "string";
    case CLI_INT:
        return "int";
    case CLI_DURATION:
        return "duration";
    case CLI_BOOL:
    case CLI_PRESENCE:
        return NULL;
    default:
        return "value";
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct cli_flag *const *)a)->name, (*(const struct cli_flag *const *)b)->name);
}

void cli_flags_usage(const struct cli_flag *flags, const char *name, FILE *to)
{
    const struct cli_flag *sorted[64];
    size_t n = 0;
    for (const struct cli_flag *f = flags; f->name != NULL && n < sizeof sorted / sizeof sorted[0]; f++)
        sorted[n++] = f;
    qsort(sorted, n, sizeof sorted[0], by_name);
    fprintf(to, "Usage of %s:\n", name);
    for (size_t i = 0; i < n; i++) {
        const struct cli_flag *f = sorted[i];
        const char *type = type_word(f->kind);
        fprintf(to, "  -%s%s%s\n    \t%s", f->name, type ? " " : "", type ? type : "", f->help);
        if (f->def != NULL)
            fprintf(to, f->kind == CLI_STRING ? " (default \"%s\")" : " (default %s)", f->def);
        fputc('\n', to);
    }
}
