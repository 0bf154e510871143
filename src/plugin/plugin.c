/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/plugin.h"

#include "base/mem.h"
#include "spiffe/bundle.h"

#include <ctype.h>
#include <stdio.h>

cs_code plugin_notes_add(struct plugin_notes *n, const char *text)
{
    char **grown = cs_realloc(n->texts, (n->count + 1) * sizeof *grown);
    if (grown == NULL)
        return CS_INTERNAL;
    n->texts = grown;
    grown[n->count] = cs_strdup(text);
    if (grown[n->count] == NULL)
        return CS_INTERNAL;
    n->count++;
    return CS_OK;
}

cs_code plugin_notes_fault(struct plugin_notes *n, cs_code rc, const struct cs_err *fault, struct cs_err *e)
{
    return rc == CS_OK || plugin_notes_add(n, fault->text) == CS_OK ? CS_OK : cs_nomem(e);
}

void plugin_notes_free(struct plugin_notes *n)
{
    for (size_t i = 0; i < n->count; i++)
        cs_free(n->texts[i]);
    cs_free(n->texts);
    *n = (struct plugin_notes){0};
}

void plugin_identity_free(struct plugin_identity *i)
{
    for (size_t n = 0; n < i->chain_count; n++)
        cs_buf_free(&i->chain[n]);
    cs_free(i->chain);
    cs_buf_wipe(&i->key);
    spiffe_bundle_unref(i->bundle);
    *i = (struct plugin_identity){0};
}

cs_code plugin_answer(const char *type, const char *name, cs_code rc, struct cs_err *e)
{
    if (rc == CS_OK || e == NULL)
        return rc;
    char prefix[CS_ERR_TEXT_MAX], text[CS_ERR_TEXT_MAX];
    snprintf(prefix, sizeof prefix, "%s(%s): ", type, name);
    for (char *c = prefix; *c != '('; c++)
        *c = (char)tolower((unsigned char)*c);
    if (strncmp(e->text, prefix, strlen(prefix)) == 0)
        return rc;
    memcpy(text, e->text, sizeof text);
    size_t n = strlen(name);
    bool old_form = strncmp(text, name, n) == 0 && strncmp(text + n, ": ", 2) == 0;
    return cs_fail(e, rc, "%s%s", prefix, old_form ? text + n + 2 : text);
}
