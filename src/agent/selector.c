/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/selector.h"

#include "base/mem.h"

#include <stdlib.h>

const char *agent_selector_text(const void *selector)
{
    return ((const struct agent_selector *)selector)->text;
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (struct agent_selector *const *)a;
    uintptr_t y = (uintptr_t) * (struct agent_selector *const *)b;
    return x < y ? -1 : x > y;
}

/* Sorts; duplicates go. */
static void normalise(struct agent_selset *s)
{
    if (s->count == 0)
        return;
    qsort(s->at, s->count, sizeof(struct agent_selector *), by_address);
    size_t n = 1;
    for (size_t i = 1; i < s->count; i++)
        if (s->at[i] != s->at[n - 1])
            s->at[n++] = s->at[i];
    s->count = n;
}

static void selector_free(struct agent_selector *s)
{
    if (s->groups != NULL)
        cs_vec_free(s->groups);
    cs_free(s->groups);
    cs_free(s);
}

static struct agent_selector *selector_new(struct agent_index *selectors, const char *text)
{
    size_t len = strlen(text);
    struct agent_selector *s = cs_calloc(1, sizeof *s + len + 1);
    if (s == NULL)
        return NULL;
    memcpy(s->text, text, len);
    if (agent_index_add(selectors, s) != CS_OK) {
        selector_free(s);
        return NULL;
    }
    return s;
}

void agent_selset_free(struct agent_selset *s)
{
    cs_free(s->at);
    *s = (struct agent_selset){0};
}

void agent_selset_release(struct agent_index *selectors, struct agent_selset *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (--s->at[i]->refs > 0)
            continue;
        (void)agent_index_take(selectors, s->at[i]->text);
        selector_free(s->at[i]);
    }
    agent_selset_free(s);
}

cs_code agent_selset_intern(struct agent_index *selectors, const char *const *texts, size_t count,
                            struct agent_selset *out, struct cs_err *e)
{
    struct agent_selset s = {.at = cs_calloc(count + 1, sizeof(struct agent_selector *))};
    *out = (struct agent_selset){0};
    if (s.at == NULL)
        return cs_nomem(e);
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        struct agent_selector *one = agent_index_get(selectors, texts[i]);
        if (one == NULL)
            one = selector_new(selectors, texts[i]);
        good = one != NULL;
        if (good)
            s.at[s.count++] = one;
    }
    normalise(&s);
    for (size_t i = 0; i < s.count; i++)
        s.at[i]->refs++;
    if (!good) {
        agent_selset_release(selectors, &s);
        return cs_nomem(e);
    }
    *out = s;
    return CS_OK;
}

cs_code agent_selset_find(const struct agent_index *selectors, const char *const *texts, size_t count,
                          struct agent_selset *out, struct cs_err *e)
{
    struct agent_selset s = {.at = cs_calloc(count + 1, sizeof(struct agent_selector *))};
    *out = (struct agent_selset){0};
    if (s.at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < count; i++) {
        struct agent_selector *one = agent_index_get(selectors, texts[i]);
        if (one != NULL)
            s.at[s.count++] = one;
    }
    normalise(&s);
    *out = s;
    return CS_OK;
}

bool agent_selset_contains(const struct agent_selset *super, const struct agent_selset *sub)
{
    size_t i = 0;
    for (size_t j = 0; j < sub->count; j++) {
        while (i < super->count && (uintptr_t)super->at[i] < (uintptr_t)sub->at[j])
            i++;
        if (i == super->count || super->at[i] != sub->at[j])
            return false;
    }
    return true;
}

/* --- Groups --- */

cs_code agent_selector_add_group(struct agent_selector *s, struct agent_group *g)
{
    if (s->groups == NULL && (s->groups = cs_calloc(1, sizeof *s->groups)) == NULL)
        return CS_INTERNAL;
    return cs_vec_push(s->groups, g);
}

void agent_selector_remove_group(struct agent_selector *s, const struct agent_group *g)
{
    size_t n = agent_selector_group_count(s);
    size_t i = 0;
    while (i < n && s->groups->at[i] != g)
        i++;
    if (i < n) /* their order does not matter */
        s->groups->at[i] = s->groups->at[--s->groups->len];
}
