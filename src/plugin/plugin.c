/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/plugin.h"

#include "base/mem.h"
#include "spiffe/bundle.h"

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
