/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CS_BASE_PRINTABLE_H
#define CS_BASE_PRINTABLE_H

#include <stdbool.h>
#include <stdint.h>

/* Would Go's strconv.Quote show this character as it is? (Unicode 15.0.) */
bool cs_rune_printable(uint32_t rune);

#endif
