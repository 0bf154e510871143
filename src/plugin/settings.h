/* SPDX-License-Identifier: Apache-2.0
 *
 * What a plugin's configuration comes to once it is read. A plugin may be configured again while its
 * operations run: an operation keeps the settings that it began with, however many come after them, and a
 * configuration that fails leaves the older ones in force.
 *
 *     struct attestor {
 *         struct plugin_slot settings;
 *     };
 *     configure:  CS_CLEANUP(plugin_settings_drop) struct settings *s = plugin_settings_new(sizeof *s, NULL);
 *                 if (s == NULL)
 *                     return cs_nomem(e);
 *                 CS_TRY(config_read_...(data, plugin_settings_arena(s), &s->config, e));
 *                 plugin_slot_set(&a->settings, CS_MOVE(s));
 *     operation:  CS_CLEANUP(plugin_settings_drop) const struct settings *s = plugin_slot_get(&a->settings);
 *                 if (s == NULL)
 *                     return cs_fail(e, CS_PRECONDITION, "not configured");
 */
#ifndef CS_PLUGIN_SETTINGS_H
#define CS_PLUGIN_SETTINGS_H

#include "base/mem.h"

#include <pthread.h>

/* --- Settings: any struct of the plugin's, with a reference count --- */

/* `size` zero bytes in an arena of their own, with one reference, the caller's; NULL when memory is out. They
 * may be written until they are in a slot, and are const from then on. `clear` (NULL: nothing to do) releases
 * what they hold besides memory of the arena; it is called once, by whoever gives the last reference back,
 * and must do with settings that were filled in by half. */
void *plugin_settings_new(size_t size, void (*clear)(void *settings));
/* Ends with the settings. Whoever makes them fills it; no operation allocates from it. */
struct cs_arena *plugin_settings_arena(const void *settings);
/* Gives a reference back. NULL is fine. Any thread; `clear` must not need a lock that is held here. */
void plugin_settings_unref(const void *settings);
static inline void plugin_settings_drop(void *pp) /* for CS_CLEANUP on any pointer to settings */
{
    void **p = (void **)pp;
    plugin_settings_unref(*p);
    *p = NULL;
}

/* --- Slot: the settings in force, or none. Any thread. --- */

struct plugin_slot {
    pthread_mutex_t lock; /* held to copy or replace the pointer only */
    const void *settings; /* one reference is the slot's */
};
void plugin_slot_init(struct plugin_slot *slot);
/* Gives the slot's reference back. One thread, and no other after it. */
void plugin_slot_destroy(struct plugin_slot *slot);
/* A new reference to the settings in force; NULL: not configured. */
const void *plugin_slot_get(struct plugin_slot *slot);
/* Takes the caller's reference: from now on these are in force (NULL: none), and those before end with the
 * last operation that has them. */
void plugin_slot_set(struct plugin_slot *slot, const void *settings);

#endif
