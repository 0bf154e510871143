/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/modules/sconecas/template.h"

#include "base/mem.h"

#define OPEN "<\\"
#define OPEN_LEN 2
#define INDENT "        "
#define INDENT_LEN 8
#define NAME_KEY "name:"
#define WORD_MAX 64
#define MAX_PIECES 4096
#define MAX_WARNINGS 16

struct placeholder {
    const char *word;
    unsigned kinds; /* 1 << enum scone_kind */
    bool pem;
    bool needed; /* a session without it is of no use */
};
#define IN_SVID (1u << SCONE_SVID)
#define IN_BUNDLE (1u << SCONE_BUNDLE)
#define IN_FEDERATED (1u << SCONE_FEDERATED)
static const struct placeholder placeholders[SCONE_PLACEHOLDERS] = {
    [SCONE_PREDECESSOR] = {"predecessor", IN_SVID | IN_BUNDLE | IN_FEDERATED, false, true},
    [SCONE_LEAF] = {"svid", IN_SVID, true, true},
    [SCONE_INTERMEDIATES] = {"svid-intermediates", IN_SVID, true, false},
    [SCONE_KEY] = {"svid-key", IN_SVID, true, true},
    [SCONE_SESSION_NAME] = {"session-name-selector", IN_SVID, false, true},
    [SCONE_SESSION_HASH] = {"session-hash-selector", IN_SVID, false, true},
    [SCONE_BUNDLE_NAME] = {"trust-bundle-session-name", IN_BUNDLE, false, false},
    [SCONE_BUNDLE_PEM] = {"trust-bundle", IN_BUNDLE, true, true},
    [SCONE_FEDERATED_NAME] = {"fed-bundles-session-name", IN_FEDERATED, false, false},
    [SCONE_FEDERATED_PEM] = {"federated-bundles", IN_FEDERATED, true, true},
};
static const enum scone_placeholder name_of_kind[SCONE_KINDS] = {
    [SCONE_SVID] = SCONE_SESSION_NAME,
    [SCONE_BUNDLE] = SCONE_BUNDLE_NAME,
    [SCONE_FEDERATED] = SCONE_FEDERATED_NAME,
};

/* Literal text, then a placeholder; the last piece has none. */
struct piece {
    struct cs_slice before;
    int placeholder; /* -1: none */
};

struct scone_template {
    enum scone_kind kind;
    char *text;
    struct piece *pieces;
    size_t count, cap;
    struct cs_slice name;
    char *warnings[MAX_WARNINGS];
    size_t warning_count;
    bool has[SCONE_PLACEHOLDERS];
};

void scone_template_free(struct scone_template *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->warning_count; i++)
        cs_free(t->warnings[i]);
    cs_free(t->pieces);
    cs_free(t->text);
    cs_free(t);
}

/* --- Reading --- */

/* The length of what looks like a placeholder at the beginning of s, and its word; 0: nothing does. */
static size_t scan(struct cs_slice s, struct cs_slice *word)
{
    if (s.len < OPEN_LEN || memcmp(s.data, OPEN, OPEN_LEN) != 0)
        return 0;
    for (size_t i = OPEN_LEN; i < s.len && i - OPEN_LEN <= WORD_MAX; i++) {
        const uint8_t c = s.data[i];
        if (c == '>' && i > OPEN_LEN) {
            *word = cs_slice_of(s.data + OPEN_LEN, i - OPEN_LEN);
            return i + 1;
        }
        if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_')
            return 0;
    }
    return 0;
}

static int find(enum scone_kind kind, struct cs_slice word)
{
    for (int i = 0; i < SCONE_PLACEHOLDERS; i++)
        if (cs_slice_is(word, placeholders[i].word))
            return (placeholders[i].kinds & (1u << kind)) != 0 ? i : -1;
    return -1;
}

static cs_code add_piece(struct scone_template *t, struct cs_slice before, int placeholder, struct cs_err *e)
{
    if (t->count == MAX_PIECES)
        return cs_fail(e, CS_EXHAUSTED, "more than %d placeholders", MAX_PIECES);
    if (t->count == t->cap) {
        const size_t cap = t->cap > 0 ? 2 * t->cap : 16;
        struct piece *grown = cs_realloc(t->pieces, cap * sizeof *grown);
        if (grown == NULL)
            return cs_nomem(e);
        t->pieces = grown;
        t->cap = cap;
    }
    t->pieces[t->count++] = (struct piece){before, placeholder};
    if (placeholder >= 0)
        t->has[placeholder] = true;
    return CS_OK;
}

/* Where reading is. */
struct place {
    size_t line, line_start;
};

static bool all_blank(struct cs_slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] != ' ')
            return false;
    return true;
}

static bool is_comment(struct cs_slice text, size_t line_start)
{
    while (line_start < text.len && (text.data[line_start] == ' ' || text.data[line_start] == '\t'))
        line_start++;
    return line_start < text.len && text.data[line_start] == '#';
}

static cs_code warn(struct scone_template *t, char *text, struct cs_err *e)
{
    if (text == NULL)
        return cs_nomem(e);
    if (t->warning_count == MAX_WARNINGS)
        cs_free(text);
    else
        t->warnings[t->warning_count++] = text;
    return CS_OK;
}

/* Lines after the first of a PEM stand at column eight: only there is the whole one block of YAML. */
static cs_code check_pem(struct scone_template *t, struct cs_slice text, const struct place *at, size_t i,
                         int p, struct cs_err *e)
{
    const struct cs_slice before = cs_slice_of(text.data + at->line_start, i - at->line_start);
    const char *word = placeholders[p].word;
    if (is_comment(text, at->line_start))
        return warn(t,
                    cs_asprintf("line %zu: <\\%s> stands in a comment, and what is put there has many lines",
                                at->line, word),
                    e);
    if (before.len == INDENT_LEN && all_blank(before))
        return CS_OK;
    return warn(t,
                cs_asprintf("line %zu: <\\%s> does not stand alone after eight blanks, as the lines of what "
                            "is put there do",
                            at->line, word),
                e);
}

static cs_code take(struct scone_template *t, struct cs_slice text, const struct place *at, size_t i,
                    size_t n, struct cs_slice word, size_t *from, struct cs_err *e)
{
    const int p = find(t->kind, word);
    if (p < 0) {
        if (is_comment(text, at->line_start))
            return CS_OK; /* stays as it is */
        return cs_fail(e, CS_INVALID, "line %zu: unknown placeholder \"<\\%.*s>\"", at->line, (int)word.len,
                       (const char *)word.data);
    }
    if (placeholders[p].pem)
        CS_TRY(check_pem(t, text, at, i, p, e));
    CS_TRY(add_piece(t, cs_slice_of(text.data + *from, i - *from), p, e));
    *from = i + n;
    return CS_OK;
}

static cs_code read_pieces(struct scone_template *t, struct cs_slice text, struct cs_err *e)
{
    struct place at = {.line = 1};
    size_t from = 0;
    for (size_t i = 0; i < text.len;) {
        struct cs_slice word;
        const size_t n = scan(cs_slice_of(text.data + i, text.len - i), &word);
        if (n > 0)
            CS_TRY(take(t, text, &at, i, n, word, &from, e));
        if (text.data[i] == '\n') {
            at.line++;
            at.line_start = i + 1;
        }
        i += n > 0 ? n : 1;
    }
    return add_piece(t, cs_slice_of(text.data + from, text.len - from), -1, e);
}

/* The first line that begins with `name:`, to its end or to a second `name:` in it, without blanks around. */
static cs_code read_name(struct scone_template *t, struct cs_slice text, struct cs_err *e)
{
    const size_t key = strlen(NAME_KEY);
    const char *p = (const char *)text.data, *end = p + text.len;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const char *stop = nl != NULL ? nl : end;
        if ((size_t)(stop - p) >= key && memcmp(p, NAME_KEY, key) == 0) {
            const char *from = p + key;
            const char *again = memmem(from, (size_t)(stop - from), NAME_KEY, key);
            stop = again != NULL ? again : stop;
            while (from < stop && *from == ' ')
                from++;
            while (stop > from && (stop[-1] == ' ' || stop[-1] == '\r'))
                stop--;
            t->name = cs_slice_of(from, (size_t)(stop - from));
            return CS_OK;
        }
        p = nl != NULL ? nl + 1 : end;
    }
    return cs_fail(e, CS_INVALID, "cannot find session name in template");
}

static cs_code check_needed(struct scone_template *t, struct cs_err *e)
{
    for (int i = 0; i < SCONE_PLACEHOLDERS; i++)
        if (placeholders[i].needed && (placeholders[i].kinds & (1u << t->kind)) != 0 && !t->has[i])
            CS_TRY(warn(t, cs_asprintf("there is no <\\%s>", placeholders[i].word), e));
    return CS_OK;
}

cs_code scone_template_parse(enum scone_kind kind, struct cs_slice text, struct scone_template **out,
                             struct cs_err *e)
{
    *out = NULL;
    if (text.len > SCONE_TEMPLATE_MAX)
        return cs_fail(e, CS_EXHAUSTED, "more than %zu bytes", SCONE_TEMPLATE_MAX);
    CS_AUTO(scone_template) t = cs_calloc(1, sizeof *t);
    if (t == NULL)
        return cs_nomem(e);
    t->kind = kind;
    t->text = cs_malloc(text.len + 1);
    if (t->text == NULL)
        return cs_nomem(e);
    if (text.len > 0)
        memcpy(t->text, text.data, text.len);
    text = cs_slice_of(t->text, text.len);
    CS_TRY(read_name(t, text, e));
    CS_TRY(read_pieces(t, text, e));
    CS_TRY(check_needed(t, e));
    *out = CS_MOVE(t);
    return CS_OK;
}

const char *scone_template_warning(const struct scone_template *t, size_t i)
{
    return i < t->warning_count ? t->warnings[i] : NULL;
}

bool scone_template_has(const struct scone_template *t, enum scone_placeholder p)
{
    return t->has[p];
}

/* --- Writing --- */

static size_t count_lines(struct cs_slice s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += s.data[i] == '\n';
    return n;
}

static void add_indented(struct cs_buf *out, struct cs_slice pem)
{
    for (size_t i = 0; i < pem.len; i++) {
        cs_buf_add_byte(out, pem.data[i]);
        if (pem.data[i] == '\n')
            cs_buf_add(out, INDENT, INDENT_LEN);
    }
}

cs_code scone_template_render(const struct scone_template *t, const struct scone_values *v,
                              struct cs_buf *out, struct cs_err *e)
{
    size_t size = 1;
    for (size_t i = 0; i < t->count; i++) {
        const int p = t->pieces[i].placeholder;
        size += t->pieces[i].before.len;
        if (p >= 0)
            size += v->at[p].len + (placeholders[p].pem ? INDENT_LEN * count_lines(v->at[p]) : 0);
    }
    if (!cs_buf_reserve(out, size))
        return cs_nomem(e);
    for (size_t i = 0; i < t->count; i++) {
        const int p = t->pieces[i].placeholder;
        cs_buf_add_slice(out, t->pieces[i].before);
        if (p >= 0 && placeholders[p].pem)
            add_indented(out, v->at[p]);
        else if (p >= 0)
            cs_buf_add_slice(out, v->at[p]);
    }
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code scone_template_name(const struct scone_template *t, const struct scone_values *v, struct cs_buf *out,
                            struct cs_err *e)
{
    const enum scone_placeholder p = name_of_kind[t->kind];
    for (size_t i = 0; i < t->name.len;) {
        struct cs_slice word;
        const size_t n = scan(cs_slice_of(t->name.data + i, t->name.len - i), &word);
        if (n > 0 && cs_slice_is(word, placeholders[p].word)) {
            cs_buf_add_slice(out, v->at[p]);
            i += n;
        } else {
            cs_buf_add_byte(out, t->name.data[i++]);
        }
    }
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}
