package cli

// urlsHelp is the text of the help topic.
const urlsHelp = `A place with snapshots is one of these:

  /path/to/dir/                a btrfs directory of this machine
  btrfs:///path/, file:///path/  the same
  ssh://user@host:port/path/   a btrfs directory of a machine with buttersink
  ssh+btrfs://host/path/       of a machine that has only btrfs and a shell
  dir:///path/to/dir/          an archive in a directory of any file system
  s3://bucket/prefix/          an archive in S3, or what speaks its language
  s3://bucket/                 a whole bucket
  glacier://vault/prefix/      an archive in a vault of the original Glacier
  shell://COMMAND              a command that takes each stream; a destination only
  store://NAME/path/           below a store of the configuration

As a source, and where snapshots are listed or verified, the last element names one
snapshot unless a slash follows. A destination is always a directory.

Of another machine, user and port can be left out: ssh is the machine's own, with
its configuration (so host may be an alias there), keys, agent and known hosts. The
path is the full one, and is taken as it is typed: nothing in it is escaped. An
IPv6 address stands in brackets, ssh://[fe80::1%eth0]/path/. Over there, buttersink
is run with sudo, unless the login is root or --ssh-sudo says otherwise; see
"buttersink help server". Where it is missing, ssh:// does what ssh+btrfs:// does,
and says so: btrfs is run there instead, with sudo too, and nothing else is needed.
Interrupted transfers begin again then, and snapshots are sent from parents only.

A command is run by sh once for each stream, which is its standard input; its exit
status decides. It finds BUTTERSINK_NAME, BUTTERSINK_PATH, BUTTERSINK_UUID,
BUTTERSINK_PARENT (a UUID; empty for a full stream), BUTTERSINK_PARENT_PATH and
BUTTERSINK_SIZE in its environment. What it has been given is remembered on this
machine, under the text of the command, and not given again unless --again is.

An archive keeps streams as objects, one for each snapshot: full ones, and
increments that need the ones before them. Its layout is the same in S3, in a vault
and in a directory, so any tool can copy one to the other; docs/format.md says it in
full.
"buttersink init" makes a directory an archive.

An S3 URL may end in options, which come before the flags of the same meaning:

  s3://bucket/prefix/?storage-class=STANDARD_IA&sse=aws:kms&kms-key=KEY

  endpoint=URL         where S3 is reached
  path-style=true      put the bucket into the path of requests
  region=REGION        where the bucket is
  storage-class=CLASS  how streams are kept
  sse=METHOD           AES256 (which is the default), aws:kms or none
  kms-key=KEY          for aws:kms

and a Glacier URL in others:

  endpoint=URL         where Glacier is reached
  region=REGION        where the vault is
  account=ACCOUNT      whose it is
  database=FILE        show what btrsend has left there, by its .btrsend.db
  layout=btrsend       the same by the vault's own inventory, if that is lost

A store that the configuration (--config) has as [stores.NAME] is named by
store://NAME/, and what lies below its URL by store://NAME/path/. Its settings hold
as if they had been typed: how it is reached, for that place alone; how it keeps
what is sent there; with which keys it is read. A flag on the command line comes
before the setting of the same name.

A question mark that no KEY=VALUE follows is part of the path. In a shell, quote a
URL with options.

What a vault holds is remembered on this machine. Another one, or one that has lost
that, asks the vault, which answers hours later, and about the day before.

Credentials and region are found as by every program that uses AWS: in
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_PROFILE, in ~/.aws, or
from the machine's role; and where there is nothing else, for S3 in ~/.boto, as
ButterSink keeps them, and for Glacier in ~/.aws-keys, as btrsend does.
AWS_ENDPOINT_URL names another server. They do not belong into URLs.`
