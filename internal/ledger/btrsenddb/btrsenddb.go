// Package btrsenddb is btrsend's database, .btrsend.db.
package btrsenddb

import _ "modernc.org/sqlite" // the driver
