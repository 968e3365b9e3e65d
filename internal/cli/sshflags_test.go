package cli

import (
	"strings"
	"testing"
)

// TestSSHFlags: values that mean nothing are refused where they are typed.
func TestSSHFlags(t *testing.T) {
	var sudo sudoFlag
	var command wordsFlag
	var rate rateFlag
	var wire wireFlag
	for _, good := range []struct {
		flag  interface{ Set(string) error }
		value string
	}{
		{&sudo, "auto"},
		{&sudo, "always"},
		{&sudo, "never"},
		{&command, "ssh -v"},
		{&rate, "20MiB/s"},
		{&rate, "500K"},
		{&rate, "1.5 MB/s"},
		{&wire, "auto"},
		{&wire, "never"},
	} {
		if err := good.flag.Set(good.value); err != nil {
			t.Errorf("%T %q: %v", good.flag, good.value, err)
		}
	}
	if rate.bytes != 1_500_000 || rate.given != "1.5 MB/s" {
		t.Errorf("the rate: %+v", rate)
	}
	for _, bad := range []struct {
		flag  interface{ Set(string) error }
		value string
	}{
		{&sudo, ""},
		{&sudo, "yes"},
		{&command, ""},
		{&command, "'"},
		{&command, "'' x"},
		{&rate, ""},
		{&rate, "fast"},
		{&rate, "20M/h"},
		{&rate, "/s"},
		{&rate, "0"},
		{&rate, "1023"},
		{&wire, "always"},
	} {
		if err := bad.flag.Set(bad.value); err == nil {
			t.Errorf("%T takes %q", bad.flag, bad.value)
		}
	}
}

// TestSSHFit: a flag about other machines that has no effect is refused.
func TestSSHFit(t *testing.T) {
	const here, there, bare, s3 = "/a/", "ssh://h/b/", "ssh+btrfs://h/b/", "s3://b/p/"
	fits := func(args []string, check func(...site) error) error {
		var places []site
		for _, arg := range args {
			p, err := placeOf("", arg, true)
			if err != nil {
				t.Fatal(err)
			}
			places = append(places, p)
		}
		return check(places...)
	}
	for _, tt := range []struct {
		o     sshFlags
		args  []string
		wrong string
	}{
		{sshFlags{}, []string{here, here}, ""},
		{sshFlags{sudo: sudoFlag{sudoNever}, program: "x", options: []string{"A=b"}, command: wordsFlag{text: "ssh"}}, []string{here, there}, ""},
		{sshFlags{sudo: sudoFlag{sudoNever}}, []string{bare, s3}, ""},
		{sshFlags{sudo: sudoFlag{sudoAuto}}, []string{here, s3}, "--ssh-sudo is only for ssh://"},
		{sshFlags{options: []string{"A=b"}}, []string{here}, "--ssh-opt is only for"},
		{sshFlags{command: wordsFlag{text: "ssh"}}, []string{here}, "--ssh-command is only for"},
		{sshFlags{program: "x"}, []string{here}, "--ssh-program is only for"},
		{sshFlags{program: "x"}, []string{here, bare}, "no buttersink is run there"},
		{sshFlags{options: []string{"Port"}}, []string{there}, "want KEY=VALUE"},
		{sshFlags{options: []string{"-v=1"}}, []string{there}, "want KEY=VALUE"},
		{sshFlags{options: []string{"=1"}}, []string{there}, "want KEY=VALUE"},
		{sshFlags{options: []string{"A=b\nC=d"}}, []string{there}, "want KEY=VALUE"},
	} {
		err := fits(tt.args, func(p ...site) error { return tt.o.fit("buttersink", p...) })
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%+v on %q: %v, want %q", tt.o, tt.args, err, tt.wrong)
		}
	}
	for _, tt := range []struct {
		o     wireFlags
		args  []string
		wrong string
	}{
		{wireFlags{}, []string{here, here}, ""},
		{wireFlags{compression: wireFlag{true}, limit: rateFlag{1, "1"}}, []string{there, here}, ""},
		{wireFlags{limit: rateFlag{1, "1"}}, []string{here, s3}, ""},
		{wireFlags{limit: rateFlag{1, "1"}}, []string{bare, here}, ""},
		{wireFlags{limit: rateFlag{1, "1"}}, []string{here, here}, "--limit is only for"},
		{wireFlags{compression: wireFlag{true}}, []string{here, bare}, "--wire-compression is only for ssh://"},
	} {
		err := fits(tt.args, func(p ...site) error { return tt.o.fit("buttersink", p...) })
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%+v on %q: %v, want %q", tt.o, tt.args, err, tt.wrong)
		}
	}
}
