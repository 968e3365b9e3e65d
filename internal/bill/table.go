package bill

import _ "github.com/pelletier/go-toml/v2" // reads tables
