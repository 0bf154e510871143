/* SPDX-License-Identifier: Apache-2.0
 *
 * The tests of the JSON scanner once more, with the code for processors without SSE2 in place of the
 * library's.
 */
#undef __SSE2__
#include "plugins/modules/workload_k8s/pass.c"

#include "tests/unit/modules/workload_k8s_scan_test.c"
