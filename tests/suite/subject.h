/* SPDX-License-Identifier: Apache-2.0
 *
 * What a suite is run against: one plugin, called straight through its operations table or as an external one
 * through the bridge (suite_plugin). The suites know nothing of the difference.
 */
#ifndef CS_SUITE_SUBJECT_H
#define CS_SUITE_SUBJECT_H

#include "plugin/catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct suite;
struct suite_subject {
    const char *program, *type, *name;
    const char *data; /* plugin_data; `%s` stands for a folder of the subject's own */
    bool bridged;
    void *arg;                        /* what this suite wants to know of this subject */
    void (*prepare)(struct suite *s); /* makes the files that the plugin reads; may be NULL */
};

/* State of each test: the subject in a fresh folder, with the plugin loaded. */
struct suite {
    const struct suite_subject *subject;
    char dir[48];
    char data[1024];
    struct catalog *catalog;
    const void *ops;
    void *self;
};
int suite_setup(void **state);    /* *state: const struct suite_subject *, becomes struct suite * */
int suite_teardown(void **state); /* the folder goes, too */
/* Unload the plugin, and load it again in the same folder. */
void suite_reload(struct suite *s);

/* Fails the test unless rc is CS_OK. */
void suite_must(cs_code rc, const struct cs_err *e);
/* The error of a plugin without the prefix that bridges put in front. */
const char *suite_text(const struct suite *s, const struct cs_err *e);
/* Content of a file in the subject's folder; release with cs_buf_free. NULL data: not there. */
struct cs_buf suite_file(const struct suite *s, const char *name);
/* A bundle with two roots, one of them tainted, and two JWT keys; release with spiffe_bundle_unref. */
struct spiffe_bundle *suite_bundle(int64_t refresh_hint);

/* Each test against each subject, all of them in one group; the number of failures. */
int suite_run(const char *name, const struct CMUnitTest *tests, size_t test_count,
              const struct suite_subject *subjects, size_t subject_count);
#define SUITE_RUN(name, tests, subjects)                                                                     \
    suite_run(name, tests, sizeof(tests) / sizeof(tests)[0], subjects, sizeof(subjects) / sizeof(subjects)[0])

/* The suites, one for each operations table. */
int suite_keymanager(void);
int suite_nodeattestor_server(void);
int suite_nodeattestor_agent(void);
int suite_upstreamauthority(void);
int suite_notifier(void);
int suite_bundlepublisher(void);
int suite_credentialcomposer(void);
int suite_workloadattestor(void);
int suite_svidstore(void);

#endif
