package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/place"
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
	return env.loadConfigFile(env.configPath())
}

func (env *Env) loadConfigFile(path string) (*config.File, error) {
	f, err := config.Load(path, env.configChecks())
	if err == nil {
		return f, nil
	}
	x := &exitError{code: exitConfig, err: err}
	if errors.Is(err, fs.ErrNotExist) {
		x.hint = "'buttersink config example' prints one to begin with; -c or $" + configVariable + " says where it is."
	}
	return nil, x
}

// reportProblem prints something wrong in a configuration, with what it looks like,
// of which the configuration has covered what is secret. If it has been told
// already, only the log file gets it.
func (env *Env) reportProblem(p *config.Problem, told bool) {
	lines := []string{paint(env, slog.LevelError, "ERROR:") + " " + printable(place.Redact(p.Place()+": "+sentence(p.Message)))}
	for line := range strings.Lines(p.Excerpt) {
		lines = append(lines, printable(strings.TrimRight(line, "\n")))
	}
	if p.Fix != "" {
		lines = append(lines, printable(place.Redact(p.Fix)))
	}
	if !told {
		io.WriteString(env.console, strings.Join(lines, "\n")+"\n")
	}
	if env.file != nil {
		slog.New(env.file).Error(printable(place.Redact(p.Place() + ": " + p.Message)))
	}
}

// settingFlags are the flags that settings of a configuration stand for.
func settingFlags(o *syncOptions) *cobra.Command {
	cmd := &cobra.Command{Use: "settings"}
	f := cmd.Flags()
	f.IntVar(&o.maxChain, "max-chain", usualChain, "")
	f.BoolVar(&o.estimate, "estimate", false, "")
	transferFlagsOf(cmd, o)
	s3FlagsOf(cmd, &o.s3)
	sshFlagsOf(cmd, &o.ssh)
	wireFlagsOf(cmd, &o.wire)
	identityFlag(cmd, &o.identity)
	return cmd
}

// settingsOf returns what settings stand for, as if they had been typed as flags
// of backup, above its defaults.
func settingsOf(settings []config.Setting) (*syncOptions, error) {
	o := &syncOptions{}
	cmd := settingFlags(o)
	for _, s := range settings {
		if err := set(cmd, s.Key, s.Values); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Key, err)
		}
	}
	return o, nil
}

// set gives a flag its values, in place of those that it has.
func set(cmd *cobra.Command, key string, values []string) error {
	f := cmd.Flags().Lookup(key)
	if f == nil {
		return errors.New("there is no such flag")
	}
	if list, ok := f.Value.(interface{ Replace([]string) error }); ok {
		return list.Replace(values)
	}
	for _, v := range values {
		if err := f.Value.Set(v); err != nil {
			return err
		}
	}
	f.Changed = true
	return nil
}
