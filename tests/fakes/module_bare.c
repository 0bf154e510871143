/* SPDX-License-Identifier: Apache-2.0
 *
 * A shared object that is no module.
 */
extern int cspire_nothing;
int cspire_nothing;
