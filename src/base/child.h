/* SPDX-License-Identifier: Apache-2.0
 *
 * What children have in common between fork and exec.
 */
#ifndef CS_BASE_CHILD_H
#define CS_BASE_CHILD_H

/* Every signal to its default and none blocked, the two that libc keeps for itself among them: whoever
 * started us may have had them ignored, which exec would hand on. Async-signal-safe. */
void cs_child_reset_signals(void);

#endif
