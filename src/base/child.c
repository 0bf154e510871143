/* SPDX-License-Identifier: Apache-2.0 */
#include "base/child.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIGNAL_SET_SIZE (_NSIG / 8) /* bytes of the kernel's */

void cs_child_reset_signals(void)
{
    /* Larger than any architecture's struct sigaction in the kernel; zero is SIG_DFL without flags. */
    static const unsigned long defaults[16];
    sigset_t none;
    /* The system call, since sigaction refuses libc's own signals. SIGKILL and SIGSTOP cannot be set. */
    for (int s = 1; s < _NSIG; s++)
        (void)syscall(SYS_rt_sigaction, s, defaults, NULL, SIGNAL_SET_SIZE);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}
