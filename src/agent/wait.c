/* SPDX-License-Identifier: Apache-2.0
 *
 * What all parts of the agent wait with, and end by.
 */
#include "agent/agent.h"

bool agent_stopping(struct agent *a)
{
    pthread_mutex_lock(&a->lock);
    bool stopping = a->stopping;
    pthread_mutex_unlock(&a->lock);
    return stopping;
}

bool agent_wait(struct agent *a, int64_t until_ns, bool *wanted)
{
    const struct timespec until = {.tv_sec = until_ns / CS_NS_PER_S, .tv_nsec = until_ns % CS_NS_PER_S};
    bool heed = wanted != NULL;
    int rc = 0;
    pthread_mutex_lock(&a->lock);
    while (!a->stopping && !(heed && a->wanted) && rc == 0)
        rc = pthread_cond_timedwait(&a->wake, &a->lock, &until);
    bool go_on = !a->stopping;
    if (heed) {
        *wanted = a->wanted;
        a->wanted = false;
    }
    pthread_mutex_unlock(&a->lock);
    return go_on;
}
