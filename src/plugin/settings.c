/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/settings.h"

#include <stdatomic.h>

/* Stands before the settings, in their arena. */
struct header {
    atomic_uint refs;
    struct cs_arena *arena;
    void (*clear)(void *settings);
    max_align_t settings[];
};

static struct header *header_of(const void *settings)
{
    /* const is for their users: the count changes, and in the end all of it */
    return (struct header *)((uintptr_t)settings - offsetof(struct header, settings));
}

/* --- Settings --- */

void *plugin_settings_new(size_t size, void (*clear)(void *settings))
{
    struct cs_arena *arena = cs_arena_new(0, 0);
    struct header *h = arena != NULL ? cs_arena_zalloc(arena, sizeof *h + size) : NULL;
    if (h == NULL) {
        cs_arena_free(arena);
        return NULL;
    }
    atomic_init(&h->refs, 1);
    h->arena = arena;
    h->clear = clear;
    return h->settings;
}

struct cs_arena *plugin_settings_arena(const void *settings)
{
    return header_of(settings)->arena;
}

void plugin_settings_unref(const void *settings)
{
    if (settings == NULL)
        return;
    struct header *h = header_of(settings);
    if (atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (h->clear != NULL)
        h->clear(h->settings);
    cs_arena_free(h->arena);
}

/* --- Slot --- */

void plugin_slot_init(struct plugin_slot *slot)
{
    slot->settings = NULL;
    (void)pthread_mutex_init(&slot->lock, NULL); /* cannot fail without attributes on Linux */
}

void plugin_slot_destroy(struct plugin_slot *slot)
{
    plugin_settings_unref(slot->settings);
    slot->settings = NULL;
    pthread_mutex_destroy(&slot->lock);
}

const void *plugin_slot_get(struct plugin_slot *slot)
{
    pthread_mutex_lock(&slot->lock);
    const void *now = slot->settings;
    if (now != NULL)
        atomic_fetch_add_explicit(&header_of(now)->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&slot->lock);
    return now;
}

void plugin_slot_set(struct plugin_slot *slot, const void *settings)
{
    pthread_mutex_lock(&slot->lock);
    const void *old = slot->settings;
    slot->settings = settings;
    pthread_mutex_unlock(&slot->lock);
    plugin_settings_unref(old);
}
