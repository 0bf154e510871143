/* SPDX-License-Identifier: Apache-2.0
 *
 * What the loaders of the two programs share. Inside of config only.
 */
#ifndef CS_CONFIG_COMMON_H
#define CS_CONFIG_COMMON_H

#include "config/config.h"

/* --- sections both files have --- */
struct health_file {
    struct config_bool listener_enabled;
    const char *bind_address, *bind_port, *ready_path, *live_path;
    struct config_strings unknown;
};
extern const struct config_section config_health_section;

struct sink_file { /* DogStatsd, Statsd, M3, InMem: only the unknown keys matter so far */
    const char *address, *env;
    bool given;
    struct config_strings unknown;
};
struct prometheus_tls_file {
    const char *cert_file, *key_file, *client_ca_file;
    struct config_bool use_spire_svid;
    struct config_strings authorized_spiffe_ids;
    bool given;
};
struct prometheus_file {
    const char *host;
    struct config_int port;
    struct prometheus_tls_file tls;
    bool given;
    struct config_strings unknown;
};
struct telemetry_file {
    struct prometheus_file prometheus;
    struct config_blocks dogstatsd, statsd, m3;
    struct sink_file inmem;
    const char *metric_prefix;
    struct config_bool enable_trust_domain_label, enable_hostname_label;
    struct config_strings allowed_prefixes, blocked_prefixes, allowed_labels, blocked_labels;
};
extern const struct config_section config_telemetry_section;

/* --- a load in progress --- */
struct load {
    struct cs_arena *a;
    struct config_notes *notes;
    struct cs_err *e;
};

/* Appends a note; the first field may be left out with key NULL. */
CS_CHECKED cs_code load_note(struct load *l, enum cs_level level, const char *text, const char *key,
                             const char *value, const char *key2, const char *value2);
CS_CHECKED cs_code load_warn_deprecated(struct load *l, const char *text);

/* Reads and expands the file, `unable to read configuration at "x"` and so on. *text in the arena. */
CS_CHECKED cs_code load_file(struct load *l, const char *path, struct cs_slice *text);
CS_CHECKED cs_code load_decode(struct load *l, const char *name, struct cs_slice text, bool expand_env,
                               const struct config_section *s, void *out);

static inline bool is_set(const char *s)
{
    return s != NULL && *s != 0;
}
/* The first that is not empty; "" when none is. */
const char *load_pick(const char *flag, const char *file, const char *fallback);
/* Copy of text that outlives the caller's. "" for NULL. */
CS_CHECKED cs_code load_keep(struct load *l, const char **text);

/* text as %q, in the arena; "?" when memory is out. */
const char *load_quote(struct load *l, const char *text);

/* NULL or "": *ns stays. On a fault: `PREFIX: time: invalid duration "x"`. */
CS_CHECKED cs_code load_duration(struct load *l, const char *text, const char *prefix, int64_t *ns);

CS_CHECKED cs_code load_log(struct load *l, const char *level, const char *format, const char *file,
                            bool source_location, struct config_log *out);
CS_CHECKED cs_code load_trust_domain(struct load *l, const char *text, const char **name);
/* `NAME` relative to the working directory made absolute and clean, as Go's filepath.Abs does. */
CS_CHECKED cs_code load_abs_path(struct load *l, const char *path, const char **out);
CS_CHECKED cs_code load_key_type(struct load *l, const char *text, const char *prefix,
                                 const char *const *allowed, enum config_key_type *out);
CS_CHECKED cs_code load_feature_flags(struct load *l, const struct config_strings *flags);
/* The line logged per flag; refuses those that do nothing yet. */
CS_CHECKED cs_code load_note_flags(struct load *l, const struct config_strings *flags);
CS_CHECKED cs_code load_note_experimental(struct load *l);
CS_CHECKED cs_code load_health(struct load *l, const struct health_file *f, struct config_health *out);

/* Adds a note per section with unknown keys and sets *bad. */
CS_CHECKED cs_code load_unknown(struct load *l, const char *section, const struct config_strings *keys,
                                bool *bad);
CS_CHECKED cs_code load_unknown_telemetry(struct load *l, const struct telemetry_file *t, bool *bad);

CS_CHECKED cs_code load_plugins(struct load *l, const struct config_tree *tree, struct config_plugins *out);
/* Refuses enabled plugins that SPIRE has and we have not yet. Names nobody knows are left to the
 * catalog, which refuses them with SPIRE's text. */
CS_CHECKED cs_code load_check_plugins(struct load *l, const char *program,
                                      const struct config_plugins *plugins);

#endif
