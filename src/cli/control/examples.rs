//! What `--help` of each noun ends with: examples that can be typed as they stand. A test runs those of the nouns' help
//! through the parser, so that none of them can name a flag that is not there.

pub(crate) const DEV: &str = "\
Examples:
  dstore dev                                   data in ./dstore-data; stop with Ctrl-C
  dstore dev --data /tmp/try --nodes 3         three nodes in the process
  dstore dev --listen 127.0.0.1:0 --output json
                                               on free ports; one line of JSON for programs

In the next terminal `dstore control status` works at once.";

pub(crate) const SERVER_PROXY: &str = "\
Examples:
  dstore proxy --control https://control:8081 --join-token-file join-token --data /var/lib/dstore-proxy
  dstore proxy --control https://control:8081 --data /var/lib/dstore-proxy --listen 127.0.0.1:0

The token is needed for the first start only. The coordinator is etcd: see coordinator.kind and
coordinator.endpoints in `dstore config example`.";

pub(crate) const SERVER_NODE: &str = "\
Examples:
  dstore node --control https://control:8081 --join-token-file join-token --data /var/lib/dstore-node
  dstore node --standalone --data /var/lib/dstore
  dstore node --standalone --data /var/lib/dstore --passphrase-file /run/secrets/dstore

The token is needed for the first start only; a standalone node's own are in DIR/credentials.json.";

pub(crate) const HEALTH: &str = "\
Examples:
  dstore health                                whether the process on this machine answers
  dstore health --ready --wait 60              until it serves, a minute at most
  dstore health --address 10.1.0.7:9090        of another machine

Exit codes: 0 yes, 1 no, 3 nothing answers there.";

pub(crate) const COPY: &str = "\
Examples:
  dstore copy /var/lib/dstore/node /backup/node-1

A cluster is brought back from such copies of its nodes, a snapshot of etcd that was made before them, and the
recovery file: docs/OPERATIONS.md.";

pub(crate) const SERVER_REPORTING: &str = "\
Examples:
  dstore reporting --control https://control:8081 --join-token-file join-token --data /var/lib/dstore-reporting
  dstore reporting --control https://control:8081 --data /var/lib/dstore-reporting --inside-listen 10.1.0.5:8081

The token is one of `dstore control reporter invite`, needed for the first start only. It reaches control and
the inside listeners of proxies and nodes; `dstore control usage` reaches it through control.";

pub(super) const CONTROL: &str = "\
Which control plane is asked:
  dstore control login https://control:8082 --token-file root.token --authority-file authority.pem
  dstore control context list                  `dstore dev` keeps a context of its own, dev
  DSTORE_CONTEXT=dev dstore control status     another one for a single command

Exit codes: 0 done, 1 refused, 2 not understood, 3 not reached, 4 no such thing, 5 not allowed.
Results go to stdout (--output json for programs), everything else to stderr.";

pub(super) const INIT: &str = "\
Examples:
  dstore control init --data /var/lib/dstore-control --recovery-passphrase-file recovery-passphrase
  dstore control login https://control:8082 --token-file /var/lib/dstore-control/root.token \\
      --authority-file /var/lib/dstore-control/authority.pem
  dstore control init --data /data --recovery-passphrase-file passphrase --unless-there \\
      --invite node=node-1 --invite proxy=proxy-1 --join-tokens /join

Move recovery.dstore away from this machine, and keep its passphrase elsewhere.";

/// What `init` ends with.
pub(super) const AFTER_INIT: &str = "  \
  dstore control serve --data DIR
  dstore control login https://HOST:8082 --token-file DIR/root.token --authority-file DIR/authority.pem";

pub(super) const SERVE: &str = "\
Example:
  dstore control serve --data /var/lib/dstore-control";

pub(super) const RECOVERY: &str = "\
Examples:
  dstore control recovery export --file new.dstore --passphrase-file recovery-passphrase
  dstore control recovery verify --file new.dstore --passphrase-file recovery-passphrase
  dstore control recovery restore --file new.dstore --passphrase-file recovery-passphrase";

pub(super) const LOGIN: &str = "\
Examples:
  dstore control login https://control:8082 --token-file root.token --authority-file authority.pem
  dstore control login --credentials-file /var/lib/dstore/credentials.json --name local
  cat token | dstore control login http://127.0.0.1:8082 --token-file - --tenant acme";

pub(super) const CONTEXT: &str = "\
Examples:
  dstore control context list
  dstore control context use dev --tenant acme
  dstore control context show

They are kept in ~/.config/dstore/config.toml (mode 0600); DSTORE_CLI_CONFIG names another file, and
DSTORE_CONTEXT a context for one command.";

pub(super) const STATUS: &str = "\
Examples:
  dstore control status
  dstore control status --output json";

pub(super) const TENANT: &str = "\
Examples:
  dstore control tenant create acme
  dstore control tenant list
  dstore control tenant set acme --storage-limit 10GiB --request-limit 1000
  dstore control tenant set acme --storage-limit none --soft
  dstore control tenant delete acme --recursive    with all its tables, for good";

pub(super) const TABLE: &str = "\
Examples:
  dstore control table create users --tenant acme --id-type String
  dstore control table create posts --id-type String --sort-type Integer --initial-ranges 8
  dstore control table create orders --id-type String --sort-type Integer \\
      --local-index by-total=total:Integer --local-index by-name=name:String:keys-only
  dstore control table show rid:dStore:acme:NA:table:users
  dstore control table set acme/users --replication-factor 5
  dstore control table set acme/users --time-to-live expires --deletion-protection true
  dstore control table delete users --tenant acme
  dstore control table list --tenant acme --deleted
  dstore control table undelete users --tenant acme --new-name users2";

pub(super) const TRANSFER: &str = "\
Examples:
  dstore control table export users --out users.json.gz --access-key-file dstore-data/credentials.json
  dstore control table import users users.json.gz --access-key-file access-key.json --url http://proxy:8080
  dstore control table export users --out users.json --url https://dynamodb.eu-west-1.amazonaws.com --region eu-west-1

The file has a line {\"Item\":{…}} for each item, as AWS exports tables to S3. Lines that cannot be taken are set
aside in FILE.rejected, with reasons in FILE.reasons.";

pub(super) const RANGE: &str = "\
Examples:
  dstore control range list users --tenant acme
  dstore control range show users --tenant acme --hash 2147483648
  dstore control range move-leader users --hash 0 --to node-2
  dstore control range move-replica users --hash 0 --from node-1 --to node-4
  dstore control range split users --hash 0                in the middle of its hashes";

pub(super) const NODE: &str = "\
Examples:
  dstore control node invite --name node-1 --out join-token
  dstore control node list
  dstore control node show node-1
  dstore control node hand-over node-1                     before a restart: others lead
  dstore control node drain node-1                         its copies move to other nodes
  dstore control node status node-1 down                   given up: its copies are made anew elsewhere
  dstore control node remove node-1                        refused while it holds ranges
  dstore control node remove node-1 --lose-data node-1     their data is lost";

pub(super) const UPGRADE: &str = "\
Examples:
  dstore control upgrade status
  dstore control upgrade finish";

pub(super) const LOG_LEVEL: &str = "\
Examples:
  dstore control log-level set debug --for 30m
  dstore control log-level show
  dstore control log-level reset";

pub(super) const PROXY: &str = "\
Examples:
  dstore control proxy invite --name proxy-1 --out join-token
  dstore control proxy list
  dstore control proxy remove proxy-1";

pub(super) const REPORTER: &str = "\
Examples:
  dstore control reporter invite --name usage --out join-token
  dstore control reporter list
  dstore control reporter remove usage";

pub(super) const KEY: &str = "\
Examples:
  dstore control key list
  dstore control key rotate token";

pub(super) const USAGE: &str = "\
Examples:
  dstore control usage                                     the last day, by tenant
  dstore control usage --tenant acme --last 2h             its tables
  dstore control usage --tenant acme --table users --by operation --last 30d
  dstore control usage --from 2026-01-01 --to 2026-02-01 --step 1d --output csv

Usage is gathered by `dstore reporting`; a minute may take half a minute to be complete.";

pub(super) const PRINCIPAL: &str = "\
Examples:
  dstore control principal create app --tenant acme --may read,write
  dstore control principal create operator --root
  dstore control principal list --tenant acme
  dstore control principal revoke app";

pub(super) const ACCESS_KEY: &str = "\
Examples:
  dstore control access-key create app --out access-key.json
  dstore control access-key list
  dstore control access-key revoke DSTKXXXXXXXXXXXXXXXX";

pub(super) const TOKEN: &str = "\
Examples:
  dstore control token create app --note 'the web shop' --out token
  dstore control token list
  dstore control token revoke 0b6a2c3e-5d0f-4a53-9f0c-2f6f3f1f7a11";

pub(super) const NOTICE: &str = "\
Examples:
  dstore control notice list
  dstore control notice acknowledge 0b6a2c3e-5d0f-4a53-9f0c-2f6f3f1f7a11";

pub(super) const HISTORY: &str = "\
Examples:
  dstore control history tenant/acme
  dstore control history table/acme/users
  dstore control history principal/acme/app";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn every_example_is_understood() {
        let all = [
            DEV,
            SERVER_NODE,
            SERVER_PROXY,
            SERVER_REPORTING,
            HEALTH,
            COPY,
            CONTROL,
            INIT,
            SERVE,
            RECOVERY,
            LOGIN,
            CONTEXT,
            STATUS,
            TENANT,
            TABLE,
            TRANSFER,
            RANGE,
            NODE,
            UPGRADE,
            LOG_LEVEL,
            PROXY,
            REPORTER,
            KEY,
            USAGE,
            PRINCIPAL,
            ACCESS_KEY,
            TOKEN,
            NOTICE,
            HISTORY,
        ];
        let mut understood = 0;
        for text in all {
            let text = text.replace("\\\n", " ");
            // After three spaces stands what the command does.
            let indented = text.lines().filter(|line| line.starts_with("  "));
            let commands = indented.filter_map(|line| line.find("dstore ").map(|at| &line[at..]));
            for line in commands {
                let line = line.split("   ").next().unwrap().trim_end();
                let line = line.replace("'the web shop'", "shop").replace("FILE.", "FILE");
                let words = line.split_whitespace();
                let parsed = crate::cli::Cli::try_parse_from(words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
                understood += 1;
            }
        }
        assert!(understood > 40, "{understood}");
    }
}
