// Schema: the tables of a store's database.
#pragma once

#include <string>

#include "hone/store.h"
#include "store/database.h"

namespace hone::store {

// False for a database that nothing was ever written to. Throws Error{corrupt} if its tables are gone.
bool has_schema(const Database& database);
// All of it in one transaction.
void create_schema(const Database& database, const StoreIdentity& identity);
// Throws Error{unsupported} if a newer hone wrote the store, Error{corrupt}. `name` is what messages call the store.
StoreIdentity read_identity(const Database& database, const std::string& name);

}  // namespace hone::store
