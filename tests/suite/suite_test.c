/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs the suites that are named, or all.
 */
#include "tests/suite/subject.h"

static const struct {
    const char *name;
    int (*run)(void);
} suites[] = {
    {"keymanager", suite_keymanager},
    {"nodeattestor_server", suite_nodeattestor_server},
    {"nodeattestor_agent", suite_nodeattestor_agent},
    {"upstreamauthority", suite_upstreamauthority},
    {"notifier", suite_notifier},
    {"bundlepublisher", suite_bundlepublisher},
    {"credentialcomposer", suite_credentialcomposer},
    {"workloadattestor", suite_workloadattestor},
    {"svidstore", suite_svidstore},
};

static bool named(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc == 1;
}

int main(int argc, char **argv)
{
    int failed = 0, ran = 0;
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++)
        if (named(suites[i].name, argc, argv)) {
            failed += suites[i].run();
            ran++;
        }
    return failed > 0 || ran == 0;
}
