/* SPDX-License-Identifier: Apache-2.0
 *
 * Every fixed statement of the sqlite3 dialect, in one table. Connections prepare each on first use and
 * keep it. Lists with conditions are composed in filter.c.
 */
#ifndef CS_DATASTORE_SQL_H
#define CS_DATASTORE_SQL_H

#define DS_ENTRY_COLS                                                                                        \
    "id, entry_id, spiffe_id, parent_id, ttl, admin, downstream, expiry, store_svid, hint, created_at, "     \
    "revision_number, jwt_svid_ttl, additional_attributes"
#define DS_NODE_COLS                                                                                         \
    "id, spiffe_id, data_type, serial_number, expires_at, new_serial_number, new_expires_at, can_reattest, " \
    "agent_version"

/* A datetime column as Unix seconds, whatever zone the row was written in. */
#define DS_UNIX(col) "CAST(strftime('%s', " col ") AS INTEGER)"

#define DS_SQL_TABLE(X)                                                                                      \
    X(BEGIN_WRITE, "BEGIN IMMEDIATE")                                                                        \
    X(BEGIN_READ, "BEGIN")                                                                                   \
    X(COMMIT, "COMMIT")                                                                                      \
    X(ROLLBACK, "ROLLBACK")                                                                                  \
    X(ITEM_BEGIN, "SAVEPOINT item")                                                                          \
    X(ITEM_KEEP, "RELEASE item")                                                                             \
    X(ITEM_UNDO, "ROLLBACK TO item")                                                                         \
    X(PING, "SELECT count(*) FROM migrations")                                                               \
    X(DATA_VERSION, "PRAGMA data_version")                                                                   \
    /* bundles */                                                                                            \
    X(BUNDLE_INSERT, "INSERT INTO bundles (created_at, updated_at, trust_domain, data) VALUES (?1, ?1, ?2, " \
                     "?3)")                                                                                  \
    X(BUNDLE_GET, "SELECT id, data FROM bundles WHERE trust_domain = ? ORDER BY id LIMIT 1")                 \
    X(BUNDLE_UPDATE, "UPDATE bundles SET updated_at = ?, data = ? WHERE id = ?")                             \
    X(BUNDLE_PAGE, "SELECT id, data FROM bundles WHERE id > ? ORDER BY id LIMIT ?")                          \
    X(BUNDLE_COUNT, "SELECT count(*) FROM bundles")                                                          \
    X(BUNDLE_DELETE, "DELETE FROM bundles WHERE id = ?")                                                     \
    X(BUNDLE_ENTRIES, "SELECT E.id FROM federated_registration_entries F JOIN registered_entries E ON E.id " \
                      "= F.registered_entry_id WHERE F.bundle_id = ? ORDER BY E.id")                         \
    X(BUNDLE_UNLINK, "DELETE FROM federated_registration_entries WHERE bundle_id = ?")                       \
    /* registration entries */                                                                               \
    X(ENTRY_INSERT, "INSERT INTO registered_entries (created_at, updated_at, entry_id, spiffe_id, "          \
                    "parent_id, ttl, admin, downstream, expiry, revision_number, store_svid, hint, "         \
                    "jwt_svid_ttl, additional_attributes) VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, "   \
                    "?9, ?10, ?11, ?12)")                                                                    \
    X(ENTRY_UPDATE, "UPDATE registered_entries SET updated_at = ?1, spiffe_id = ?2, parent_id = ?3, ttl = "  \
                    "?4, admin = ?5, downstream = ?6, expiry = ?7, revision_number = ?8, store_svid = ?9, "  \
                    "hint = ?10, jwt_svid_ttl = ?11 WHERE id = ?12")                                         \
    X(ENTRY_UPDATE_ATTRS, "UPDATE registered_entries SET additional_attributes = ? WHERE id = ?")            \
    X(ENTRY_DELETE, "DELETE FROM registered_entries WHERE id = ?")                                           \
    X(ENTRY_GET, "SELECT " DS_ENTRY_COLS " FROM registered_entries WHERE entry_id = ?")                      \
    X(ENTRY_BY_ROW, "SELECT " DS_ENTRY_COLS " FROM registered_entries WHERE id = ?")                         \
    X(ENTRY_ALL, "SELECT " DS_ENTRY_COLS " FROM registered_entries ORDER BY id")                             \
    X(ENTRY_EXPIRED, "SELECT id FROM registered_entries WHERE expiry != 0 AND expiry < ? ORDER BY id")       \
    X(ENTRY_TWINS, "SELECT id, parent_id FROM registered_entries WHERE spiffe_id = ? ORDER BY id")           \
    X(ENTRY_TWINS_BY_PARENT, "SELECT id, spiffe_id FROM registered_entries WHERE parent_id = ? ORDER BY id") \
    X(ENTRY_TWINS_BY_SELECTOR,                                                                               \
      "SELECT registered_entry_id FROM selectors WHERE type = ? AND value = ? ORDER BY id")                  \
    X(ENTRY_IS, "SELECT 1 FROM registered_entries WHERE id = ? AND spiffe_id = ? AND parent_id = ?")         \
    X(ENTRY_BY_PARENT, "SELECT id FROM registered_entries WHERE parent_id = ? ORDER BY id")                  \
    X(SEL_INSERT, "INSERT INTO selectors (created_at, updated_at, registered_entry_id, type, value) VALUES " \
                  "(?1, ?1, ?2, ?3, ?4)")                                                                    \
    X(SEL_DELETE, "DELETE FROM selectors WHERE registered_entry_id = ?")                                     \
    X(SEL_OF, "SELECT id, type, value FROM selectors WHERE registered_entry_id = ?")                         \
    X(SEL_ALL, "SELECT registered_entry_id, id, type, value FROM selectors ORDER BY registered_entry_id")    \
    X(DNS_INSERT, "INSERT INTO dns_names (created_at, updated_at, registered_entry_id, value) VALUES (?1, "  \
                  "?1, ?2, ?3)")                                                                             \
    X(DNS_DELETE, "DELETE FROM dns_names WHERE registered_entry_id = ?")                                     \
    X(DNS_OF, "SELECT id, value FROM dns_names WHERE registered_entry_id = ?")                               \
    X(DNS_ALL, "SELECT registered_entry_id, id, value FROM dns_names ORDER BY registered_entry_id")          \
    X(FED_INSERT, "INSERT OR IGNORE INTO federated_registration_entries (bundle_id, registered_entry_id) "   \
                  "VALUES (?, ?)")                                                                           \
    X(FED_DELETE, "DELETE FROM federated_registration_entries WHERE registered_entry_id = ?")                \
    X(FED_OF, "SELECT B.id, B.trust_domain FROM federated_registration_entries F JOIN bundles B ON B.id = "  \
              "F.bundle_id WHERE F.registered_entry_id = ?")                                                 \
    X(FED_ALL, "SELECT F.registered_entry_id, B.id, B.trust_domain FROM federated_registration_entries F "   \
               "CROSS JOIN bundles B ON B.id = F.bundle_id ORDER BY F.registered_entry_id")                  \
    /* attested nodes */                                                                                     \
    X(NODE_INSERT, "INSERT INTO attested_node_entries (created_at, updated_at, spiffe_id, data_type, "       \
                   "serial_number, expires_at, new_serial_number, new_expires_at, can_reattest, "            \
                   "agent_version) VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")                         \
    X(NODE_UPDATE, "UPDATE attested_node_entries SET updated_at = ?1, serial_number = ?2, expires_at = ?3, " \
                   "new_serial_number = ?4, new_expires_at = ?5, can_reattest = ?6, agent_version = ?7 "     \
                   "WHERE id = ?8")                                                                          \
    X(NODE_DELETE, "DELETE FROM attested_node_entries WHERE spiffe_id = ?")                                  \
    X(NODE_GET, "SELECT " DS_NODE_COLS " FROM attested_node_entries WHERE spiffe_id = ?")                    \
    X(NODE_ALL, "SELECT " DS_NODE_COLS " FROM attested_node_entries ORDER BY id")                            \
    X(NODE_EXPIRED, "SELECT spiffe_id FROM attested_node_entries WHERE expires_at < ?1 AND " DS_UNIX(        \
                        "expires_at") " < ?2 AND (can_reattest = 1 OR ?3) AND serial_number <> '' "          \
                                      "LIMIT ?4")                                                            \
    X(NSEL_INSERT, "INSERT INTO node_resolver_map_entries (created_at, updated_at, spiffe_id, type, value) " \
                   "VALUES (?1, ?1, ?2, ?3, ?4)")                                                            \
    X(NSEL_DELETE, "DELETE FROM node_resolver_map_entries WHERE spiffe_id = ?")                              \
    X(NSEL_OF, "SELECT id, type, value FROM node_resolver_map_entries WHERE spiffe_id = ?")                  \
    X(NSEL_ALL, "SELECT spiffe_id, type, value FROM node_resolver_map_entries ORDER BY spiffe_id")           \
    X(NSEL_VALID, "SELECT R.spiffe_id, R.type, R.value FROM node_resolver_map_entries R JOIN "               \
                  "attested_node_entries N ON N.spiffe_id = R.spiffe_id WHERE " DS_UNIX(                     \
                      "N.expires_at") " > ? ORDER BY R.spiffe_id")                                           \
    /* events: the same for entries and nodes */                                                             \
    X(ENTRY_EVENT_INSERT, "INSERT INTO registered_entries_events (created_at, updated_at, entry_id) VALUES " \
                          "(?1, ?1, ?2)")                                                                    \
    X(ENTRY_EVENT_LIST, "SELECT id, entry_id FROM registered_entries_events WHERE id > ?1 AND id < ?2 "      \
                        "ORDER BY id")                                                                       \
    X(ENTRY_EVENT_PRUNE,                                                                                     \
      "DELETE FROM registered_entries_events WHERE created_at < ?1 AND " DS_UNIX("created_at") " < ?2")      \
    X(NODE_EVENT_INSERT, "INSERT INTO attested_node_entries_events (created_at, updated_at, spiffe_id) "     \
                         "VALUES (?1, ?1, ?2)")                                                              \
    X(NODE_EVENT_LIST, "SELECT id, spiffe_id FROM attested_node_entries_events WHERE id > ?1 AND id < ?2 "   \
                       "ORDER BY id")                                                                        \
    X(NODE_EVENT_PRUNE,                                                                                      \
      "DELETE FROM attested_node_entries_events WHERE created_at < ?1 AND " DS_UNIX("created_at") " < ?2")   \
    /* join tokens */                                                                                        \
    X(TOKEN_INSERT, "INSERT INTO join_tokens (created_at, updated_at, token, expiry) VALUES (?1, ?1, ?2, "   \
                    "?3)")                                                                                   \
    X(TOKEN_GET, "SELECT expiry FROM join_tokens WHERE token = ?")                                           \
    X(TOKEN_DELETE, "DELETE FROM join_tokens WHERE token = ?")                                               \
    X(TOKEN_PRUNE, "DELETE FROM join_tokens WHERE expiry < ?")                                               \
    /* CA journals */                                                                                        \
    X(JOURNAL_INSERT, "INSERT INTO ca_journals (created_at, updated_at, data, active_x509_authority_id, "    \
                      "active_jwt_authority_id) VALUES (?1, ?1, ?2, ?3, '')")                                \
    X(JOURNAL_UPDATE, "UPDATE ca_journals SET updated_at = ?, data = ?, active_x509_authority_id = ? WHERE " \
                      "id = ?")                                                                              \
    X(JOURNAL_GET, "SELECT id, data, active_x509_authority_id FROM ca_journals WHERE "                       \
                   "active_x509_authority_id = ? ORDER BY id LIMIT 1")                                       \
    X(JOURNAL_ALL, "SELECT id, data, active_x509_authority_id FROM ca_journals ORDER BY id")                 \
    X(JOURNAL_DELETE, "DELETE FROM ca_journals WHERE id = ?")                                                \
    /* federation relationships */                                                                           \
    X(FTD_INSERT, "INSERT INTO federated_trust_domains (created_at, updated_at, trust_domain, "              \
                  "bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id, implicit) VALUES (?1, " \
                  "?1, ?2, ?3, ?4, ?5, 0)")                                                                  \
    X(FTD_UPDATE, "UPDATE federated_trust_domains SET updated_at = ?, bundle_endpoint_url = ?, "             \
                  "bundle_endpoint_profile = ?, endpoint_spiffe_id = ? WHERE trust_domain = ?")              \
    X(FTD_DELETE, "DELETE FROM federated_trust_domains WHERE trust_domain = ?")                              \
    X(FTD_GET, "SELECT id, trust_domain, bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id "  \
               "FROM federated_trust_domains WHERE trust_domain = ?")                                        \
    X(FTD_PAGE, "SELECT id, trust_domain, bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id " \
                "FROM federated_trust_domains WHERE id > ? ORDER BY id LIMIT ?")

#define DS_SQL_ENUM(name, text) DS_SQL_##name,
enum ds_sql { DS_SQL_TABLE(DS_SQL_ENUM) DS_SQL_COUNT };
#undef DS_SQL_ENUM

/* Text of a statement. Static, any thread. */
const char *ds_sql_text(enum ds_sql id);

#endif
