package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/meter"
)

// sshFlags are the flags that say how another machine is reached.
type sshFlags struct {
	sudo    sudoFlag
	options []string
	command wordsFlag
	program string
}

// sshFlagsOf gives a command the flags that say how another machine is reached.
func sshFlagsOf(cmd *cobra.Command, o *sshFlags) {
	f := cmd.Flags()
	f.Var(&o.sudo, "ssh-sudo", "run the far side with sudo; =never: without; =auto, the default: unless the login is root")
	f.Lookup("ssh-sudo").NoOptDefVal = sudoAlways
	f.StringArrayVar(&o.options, "ssh-opt", nil, "an option of ssh, as `KEY=VALUE` in ssh_config; may be repeated")
	f.Var(&o.command, "ssh-command", "call this `COMMAND` in place of ssh; quotes hold words together")
	f.StringVar(&o.program, "ssh-program", "", "where buttersink is on the far side, as a `PATH` or a name")
}

// sshGroup are these flags in a help.
var sshGroup = flagGroup{"Other machines (ssh://, ssh+btrfs://)", []string{"ssh-command", "ssh-opt", "ssh-program", "ssh-sudo", "wire-compression", "limit"}}

// given is the first of the flags that was given, as it is typed; "" for none.
func (o *sshFlags) given() string {
	switch {
	case o.sudo.text != "":
		return "--ssh-sudo"
	case len(o.options) > 0:
		return "--ssh-opt"
	case o.command.text != "":
		return "--ssh-command"
	case o.program != "":
		return "--ssh-program"
	}
	return ""
}

// spaced fails if an argument is what was meant as the value of --ssh-sudo.
func (o *sshFlags) spaced(command string, args ...string) error {
	for _, arg := range args {
		if o.sudo.text == sudoAlways && slices.Contains(sudos, arg) {
			return usagef(command, "--ssh-sudo stands for --ssh-sudo=always: write --ssh-sudo=%s, without a space", arg)
		}
	}
	return nil
}

// fit says whether the flags have anything to say about the places of a command,
// and what is wrong with their values.
func (o *sshFlags) fit(command string, places ...site) error {
	remote, ours := false, false
	for _, p := range places {
		if err := o.spaced(command, p.Arg); err != nil {
			return err
		}
		remote = remote || p.OverSSH()
		ours = ours || p.Scheme == "ssh"
	}
	switch flag := o.given(); {
	case flag != "" && !remote:
		return usagef(command, "%s is only for ssh:// and ssh+btrfs://", flag)
	case o.program != "" && !ours:
		return usagef(command, "--ssh-program is only for ssh://: with ssh+btrfs:// no buttersink is run there")
	}
	for _, option := range o.options {
		key, _, ok := strings.Cut(option, "=")
		if !ok || key == "" || strings.ContainsFunc(key, func(r rune) bool { return !('a' <= r|0x20 && r|0x20 <= 'z' || '0' <= r && r <= '9') }) ||
			strings.ContainsAny(option, "\x00\n") {
			return usagef(command, "--ssh-opt %q: want KEY=VALUE, as in --ssh-opt IdentityFile=/root/.ssh/backup", option)
		}
	}
	return nil
}

// The values of --ssh-sudo.
const (
	sudoAuto   = "auto"
	sudoAlways = "always"
	sudoNever  = "never"
)

// sudos are all of them.
var sudos = []string{sudoAuto, sudoAlways, sudoNever}

// sudoFlag is the value of --ssh-sudo, empty if it was not given.
type sudoFlag struct{ text string }

func (f *sudoFlag) String() string { return f.text }
func (f *sudoFlag) Type() string   { return "WHEN" }

// Set takes what was typed.
func (f *sudoFlag) Set(text string) error {
	if !slices.Contains(sudos, text) {
		return errors.New("want auto, always or never")
	}
	f.text = text
	return nil
}

// wordsFlag is a flag whose value is a command line.
type wordsFlag struct {
	text  string
	words []string
}

func (f *wordsFlag) String() string { return f.text }
func (f *wordsFlag) Type() string   { return "COMMAND" }

// Set takes what was typed.
func (f *wordsFlag) Set(text string) error {
	words, err := splitWords(text)
	if err != nil {
		return err
	}
	if len(words) == 0 || words[0] == "" {
		return errors.New("there is no word in it")
	}
	f.text, f.words = text, words
	return nil
}

// rateFlag is a flag whose value is a number of bytes in a second.
type rateFlag struct {
	bytes int64
	given string // as typed; empty if it was not
}

func (f *rateFlag) String() string { return f.given }
func (f *rateFlag) Type() string   { return "RATE" }

// Set takes what was typed: a size, with or without "/s".
func (f *rateFlag) Set(text string) error {
	size, _ := strings.CutSuffix(text, "/s")
	n, err := meter.ParseBytes(size)
	if err != nil {
		return fmt.Errorf("%q is no rate: want bytes in a second, as in 20MiB/s, 500K or 1.5M", text)
	}
	if n < leastRate {
		return fmt.Errorf("%s is next to nothing: want %s/s or more", text, meter.Bytes[int64](leastRate))
	}
	f.bytes, f.given = n, text
	return nil
}

// leastRate is what still lets the messages through that keep a connection alive.
const leastRate = 1 << 10

// wireFlag is the value of --wire-compression.
type wireFlag struct{ never bool }

func (f *wireFlag) String() string { return map[bool]string{true: "never"}[f.never] }
func (f *wireFlag) Type() string   { return "WHEN" }

// Set takes what was typed.
func (f *wireFlag) Set(text string) error {
	switch text {
	case "auto", "never":
		f.never = text == "never"
		return nil
	}
	return errors.New("want auto or never")
}

// wireFlags are the flags about what goes over the network.
type wireFlags struct {
	compression wireFlag
	limit       rateFlag
}

// wireFlagsOf gives a command the flags about what goes over the network.
func wireFlagsOf(cmd *cobra.Command, o *wireFlags) {
	cmd.Flags().Var(&o.compression, "wire-compression", "compress what goes over ssh: auto (where it pays) or never")
	limitFlag(cmd, &o.limit)
}

// limitFlag gives a command the flag --limit.
func limitFlag(cmd *cobra.Command, o *rateFlag) {
	cmd.Flags().Var(o, "limit", "send and receive no more than `RATE` over ssh and with S3, in all (20MiB/s, 500K)")
}

// fit says whether the flags have anything to say about the places of a command.
func (o *wireFlags) fit(command string, places ...site) error {
	ssh, network := false, false
	for _, p := range places {
		ssh = ssh || p.Scheme == "ssh"
		network = network || p.OverSSH() || p.Bucket != ""
	}
	switch {
	case o.compression.never && !ssh:
		return usagef(command, "--wire-compression is only for ssh://")
	case o.limit.given != "" && !network:
		return usagef(command, "--limit is only for ssh://, ssh+btrfs://, s3:// and glacier://")
	}
	return nil
}
