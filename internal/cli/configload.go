package cli

import (
	"cmp"

	"github.com/buttersink/buttersink/internal/config"
)

// configVariable names the configuration where --config does not.
const configVariable = "BUTTERSINK_CONFIG"

// usualConfig is where the configuration is, unless one says otherwise.
const usualConfig = "/etc/buttersink/config.toml"

// configPath is where the configuration is.
func (env *Env) configPath() string {
	return cmp.Or(env.configFile, env.Getenv(configVariable), usualConfig)
}

// loadConfig reads the configuration. What is wrong with it ends a command with
// exit code 3.
func (env *Env) loadConfig() (*config.File, error) {
	return config.Load(env.configPath(), config.Checks{})
}
