/* SPDX-License-Identifier: Apache-2.0 */
#include "datastore/sql.h"

#define DS_SQL_TEXT(name, text) [DS_SQL_##name] = text,
static const char *const texts[DS_SQL_COUNT] = {DS_SQL_TABLE(DS_SQL_TEXT)};

const char *ds_sql_text(enum ds_sql id)
{
    return texts[id];
}
