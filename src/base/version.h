/* SPDX-License-Identifier: Apache-2.0
 *
 * The release of SPIRE that these programs stand in for: what --version prints, what agents report to
 * servers, and what the database is marked with.
 */
#ifndef CS_BASE_VERSION_H
#define CS_BASE_VERSION_H

#define CS_SPIRE_VERSION "1.15.3"

#endif
