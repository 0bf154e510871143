/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a template: a session made of it is the template, with each placeholder once replaced by what
 * was given for it, found here by searching and replacing as the original plugin does. And any bytes as an
 * answer of a CAS.
 */
#include "base/mem.h"
#include "plugins/modules/sconecas/cas.h"
#include "plugins/modules/sconecas/template.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is put in has no '<', so that the order of replacing does not matter. */
static const struct {
    const char *word, *value, *indented;
} svid[SCONE_PLACEHOLDERS] = {
    [SCONE_PREDECESSOR] = {"<\\predecessor>", "~", "~"},
    [SCONE_LEAF] = {"<\\svid>", "A\nB\n", "A\n        B\n        "},
    [SCONE_INTERMEDIATES] = {"<\\svid-intermediates>", "I\n", "I\n        "},
    [SCONE_KEY] = {"<\\svid-key>", "K\n", "K\n        "},
    [SCONE_SESSION_NAME] = {"<\\session-name-selector>", "NS/n", "NS/n"},
    [SCONE_SESSION_HASH] = {"<\\session-hash-selector>", "77", "77"},
};

static void replace(struct cs_buf *text, const char *word, const char *value)
{
    const size_t n = strlen(word);
    struct cs_buf out = {0};
    for (size_t i = 0; i < text->len;) {
        if (text->len - i >= n && memcmp(text->data + i, word, n) == 0) {
            cs_buf_add_str(&out, value);
            i += n;
        } else {
            cs_buf_add_byte(&out, text->data[i++]);
        }
    }
    cs_buf_free(text);
    *text = out;
}

static void check_render(const struct scone_template *t, struct cs_slice in)
{
    struct scone_values v = {0};
    struct cs_buf have = {0}, want = {0}, name = {0};
    for (int i = 0; i <= SCONE_SESSION_HASH; i++)
        v.at[i] = cs_slice_str(svid[i].value);
    cs_buf_add_slice(&want, in);
    for (int i = 0; i <= SCONE_SESSION_HASH; i++)
        replace(&want, svid[i].word, svid[i].indented);
    if (scone_template_render(t, &v, &have, NULL) != CS_OK ||
        !cs_slice_eq(cs_buf_slice(&have), cs_buf_slice(&want)))
        abort();
    if (scone_template_name(t, &v, &name, NULL) != CS_OK)
        abort();
    /* a name that passes stays below its folder */
    const char *text = cs_buf_cstr(&name);
    if (name.len == strlen(text) && scone_name_check(text, NULL) == CS_OK &&
        (text[0] == '/' || strstr(text, "//") != NULL || strncmp(text, "../", 3) == 0 ||
         strstr(text, "/../") != NULL))
        abort();
    cs_buf_free(&have);
    cs_buf_free(&want);
    cs_buf_free(&name);
}

static void check_answer(int status, struct cs_slice in)
{
    struct scone_outcome o;
    struct cs_err e;
    const cs_code rc = scone_cas_read(status, in, cs_slice_str("MIGHAgEAMBMGByqGSM49"), &o, &e);
    if ((rc == CS_OK) != (o.answer == SCONE_CREATED) || (rc == CS_OK) != scone_hash_ok(cs_slice_str(o.hash)))
        abort();
    for (const char *p = e.text; rc != CS_OK && *p != '\0'; p++)
        if ((uint8_t)*p < 0x20)
            abort();
    if (rc != CS_OK && strstr(e.text, "MIGHAgEAMBMG") != NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {201, 404, 409, 500};
    const struct cs_slice in = cs_slice_of(data, size);
    for (int kind = 0; kind < SCONE_KINDS; kind++) {
        struct scone_template *t;
        if (scone_template_parse(kind, in, &t, NULL) != CS_OK)
            continue;
        if (kind == SCONE_SVID)
            check_render(t, in);
        scone_template_free(t);
    }
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        check_answer(statuses[i], in);
    return 0;
}
