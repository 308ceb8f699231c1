//! The table of all settings. A new one is a line here and a field in `config.rs`; a test names what is missing, and
//! `dstore config example > docs/dstore.example.toml` renews the example.

use super::Role;

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `address:port`; port 0 takes a free one.
    Address,
    /// A file or folder.
    Path,
    /// An `http://` or `https://` URL.
    Url,
    /// Several of them.
    Urls,
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number within these bounds.
    Count(u64, u64),
    /// A number from 0 to 1.
    Part,
    /// `true` or `false`.
    Switch,
    /// `512 MiB` or `5%`.
    Watermark,
    /// Never shown, never in a file; from the environment only.
    Secret,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `section.name`.
    pub key: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Its value where nobody gives one; `None`: it stays unset.
    pub default: Option<&'static str>,
    /// One sentence for people.
    pub about: &'static str,
}

impl Setting {
    /// Its section.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(section, _)| section)
    }

    /// Its name within the section.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// The variable that sets it.
    pub fn variable(&self) -> String {
        format!("DSTORE__{}", self.key.to_uppercase().replace('.', "__"))
    }

    /// True where `role` reads it.
    pub fn is_read_by(&self, role: Role) -> bool {
        SECTIONS.iter().any(|section| section.name == self.section() && section.roles.contains(&role))
    }
}

/// A part of the settings.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its name, in brackets in the file.
    pub name: &'static str,
    /// Who reads it.
    pub roles: &'static [Role],
    /// One sentence for people.
    pub about: &'static str,
}

const EVERY: &[Role] = &[Role::Dev, Role::Standalone, Role::Node, Role::Proxy, Role::Control, Role::Reporting];
const STORING: &[Role] = &[Role::Dev, Role::Standalone, Role::Node];
const SERVING: &[Role] = &[Role::Dev, Role::Standalone, Role::Node, Role::Proxy];

/// All sections, in the order of the example file.
pub const SECTIONS: &[Section] = &[
    Section { name: "data", roles: EVERY, about: "Where this process keeps its data." },
    Section {
        name: "client",
        roles: SERVING,
        about: "The listener for clients: REST under /v1/, the DynamoDB protocol at /.",
    },
    Section {
        name: "inside",
        roles: &[Role::Node, Role::Proxy, Role::Control, Role::Reporting],
        about: "The listener for other roles, always with mutual TLS.",
    },
    Section {
        name: "admin",
        roles: &[Role::Dev, Role::Standalone, Role::Control],
        about: "The listener for the admin API.",
    },
    Section { name: "metrics", roles: EVERY, about: "The listener for /metrics, /healthz and /readyz." },
    Section {
        name: "coordinator",
        roles: &[Role::Node, Role::Proxy, Role::Control],
        about: "Where tenants, tables, routes and members are kept.",
    },
    Section {
        name: "control",
        roles: &[Role::Node, Role::Proxy, Role::Control, Role::Reporting],
        about: "How to reach the control plane, and how to join it.",
    },
    Section { name: "node", roles: STORING, about: "What a node says of itself." },
    Section { name: "log", roles: STORING, about: "The commit log, which makes writes durable." },
    Section { name: "memory", roles: STORING, about: "Memory budgets." },
    Section {
        name: "reporting",
        roles: &[Role::Reporting],
        about: "What a reporter gathers, and how long it keeps it.",
    },
    Section { name: "limits", roles: SERVING, about: "When work is refused, so that what was promised can be kept." },
    Section {
        name: "usage",
        roles: SERVING,
        about: "What is counted of each tenant's requests, until reporting has it.",
    },
    Section { name: "logging", roles: EVERY, about: "What is logged, and how." },
    Section { name: "tracing", roles: SERVING, about: "Where traces of requests go." },
    Section { name: "keys", roles: EVERY, about: "How keys that rest on this machine are sealed." },
];

const fn setting(key: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Setting {
    Setting { key, kind, default: Some(default), about }
}

const fn unset(key: &'static str, kind: Kind, about: &'static str) -> Setting {
    Setting { key, kind, default: None, about }
}

/// All settings, in the order of the example file.
#[rustfmt::skip] // a table reads best as one
pub const SETTINGS: &[Setting] = &[
    setting("data.dir", Kind::Path, "dstore-data", "The folder for files, keys and certificates; created with mode 0700 where it is missing."),

    setting("client.listen", Kind::Address, "127.0.0.1:8080", "Address and port; port 0 takes a free one and prints it."),
    unset("client.advertise", Kind::Url, "The URL under which clients reach this process, where it is not the address it listens on."),
    unset("client.tls_cert", Kind::Path, "The certificate chain in PEM; without it, plain HTTP is served."),
    unset("client.tls_key", Kind::Path, "The certificate's private key in PEM."),
    setting("client.plain_http", Kind::Switch, "false", "Whether plain HTTP may be served on an address that other machines reach, as behind a proxy that ends TLS."),
    unset("client.domain", Kind::Text, "The domain under which tenants have hosts, TENANT.DOMAIN, that take only access keys of that tenant."),

    setting("inside.listen", Kind::Address, "127.0.0.1:8081", "Address and port; port 0 takes a free one and prints it."),
    unset("inside.advertise", Kind::Url, "The URL under which other roles reach this process, where it is not the address it listens on."),

    setting("admin.listen", Kind::Address, "127.0.0.1:8082", "Address and port; port 0 takes a free one and prints it."),
    unset("admin.tls_cert", Kind::Path, "The certificate chain in PEM; without it the control plane's own CA issues one."),
    unset("admin.tls_key", Kind::Path, "The certificate's private key in PEM."),

    setting("metrics.listen", Kind::Address, "127.0.0.1:9090", "Address and port; port 0 takes a free one and prints it."),

    setting("coordinator.kind", Kind::Choice(&["embedded", "etcd"]), "embedded", "An etcd cluster, or a store in the control process itself."),
    setting("coordinator.endpoints", Kind::Urls, "http://127.0.0.1:2379", "The URLs of etcd's members, separated by commas or as an array."),
    unset("coordinator.ca", Kind::Path, "The CA that signed etcd's certificate, in PEM."),
    unset("coordinator.cert", Kind::Path, "The client certificate for etcd, in PEM."),
    unset("coordinator.key", Kind::Path, "The client certificate's private key, in PEM."),
    unset("coordinator.user", Kind::Text, "The user's name at etcd, where it asks for one."),
    unset("coordinator.password_file", Kind::Path, "The file that holds the user's password."),
    unset("coordinator.password", Kind::Secret, "The user's password itself."),
    setting("coordinator.prefix", Kind::Text, "/dstore/", "What every key in the coordinator begins with."),
    setting("coordinator.quota_mib", Kind::Count(1, 1 << 20), "2048", "The quota that etcd was started with (--quota-backend-bytes), in MiB; a notice warns before it is used up."),

    unset("control.url", Kind::Url, "The URL of the control plane's inside listener."),
    unset("control.join_token_file", Kind::Path, "The file that holds a one-time join token, needed for the first start only."),
    unset("control.join_token", Kind::Secret, "The join token itself."),
    unset("control.ca", Kind::Path, "The control plane's CA in PEM, where it did not come with the join token."),
    unset("control.key_file", Kind::Path, "The file that holds control's own key, where it is not in the data folder."),
    setting("control.node_lost_after", Kind::Count(1, 1 << 20), "600", "After how many seconds of silence the copies on a node are made anew on others."),
    setting("control.replicas_max", Kind::Count(1, 5), "5", "How many replicas a range is given at most, whatever its table asks for."),

    setting("node.zone", Kind::Text, "default", "The zone this node stands in: replicas of a range are spread over zones."),
    setting("node.location", Kind::Text, "NA", "The set of zones that tables may be pinned to."),
    setting("node.scrub_period", Kind::Count(1, 1 << 26), "604800", "In how many seconds every page of every file is verified once, and the copies of every range are compared."),
    setting("node.expiry_period", Kind::Count(1, 1 << 26), "3600", "How often each table with a time to live is looked through for items that have expired, in seconds."),

    setting("log.segment_mib", Kind::Count(1, 1024), "64", "The size of one segment of the commit log, in MiB."),
    setting("log.budget_mib", Kind::Count(4, 1 << 20), "1024", "How large all segments together may grow before writers are held back, in MiB."),

    setting("memory.tables_mib", Kind::Count(1, 1 << 20), "256", "Memory for writes that are not yet in SQLite, in MiB."),
    setting("memory.item_cache_mib", Kind::Count(0, 1 << 20), "256", "Memory for items that were read lately, in MiB; 0 keeps none."),

    setting("reporting.records_hours", Kind::Count(1, 8760), "24", "For how many hours records are kept that all sinks have; those that a sink lacks are kept until it has them."),
    setting("reporting.events", Kind::Switch, "true", "Whether notices and what admins did become records, too."),
    setting("reporting.disk_refuse", Kind::Watermark, "512 MiB", "Free space on the disk below which nothing more is gathered; proxies and nodes keep what they count until there is room."),
    unset("reporting.sinks_file", Kind::Path, "The file that names the sinks to export to, as docs/sinks.example.toml; without it nothing is exported."),

    setting("limits.queue", Kind::Count(1, 1 << 20), "4096", "How many requests may wait at once; further ones are answered 503."),
    setting("limits.connections", Kind::Count(1, 1 << 20), "10000", "How many clients may be connected at once."),
    setting("limits.open_files", Kind::Count(8, 1 << 20), "512", "How many replica files are open at once; others are opened when needed."),
    setting("limits.disk_notice", Kind::Watermark, "2048 MiB", "Free space on the disk below which a notice is written, in MiB or percent."),
    setting("limits.disk_refuse", Kind::Watermark, "512 MiB", "Free space on the disk below which writes are refused; reads and deletes go on."),
    setting("limits.body_seconds", Kind::Count(1, 3600), "30", "How long the body of a request may take to arrive, in seconds."),
    setting("limits.drain_seconds", Kind::Count(0, 3600), "30", "How long a stopping process waits for requests it has begun, in seconds."),

    setting("usage.spool_mib", Kind::Count(1, 1 << 20), "64", "How large the counts on disk that reporting has not taken yet may grow, in MiB; then the oldest are thrown away."),
    setting("usage.tenants", Kind::Count(0, 1000), "20", "How many tenants have counters of their own in /metrics; all others share one."),

    setting("logging.format", Kind::Choice(&["text", "json"]), "text", "Text for a terminal, or one JSON object a line."),
    setting("logging.level", Kind::Text, "info", "The least level: error, warn, info, debug or trace, also by module, as in info,dstore::storage=debug."),
    setting("logging.requests", Kind::Choice(&["none", "errors", "all"]), "errors", "Which requests of clients get a line: none, those answered with a status of 500 and above, or all."),
    setting("logging.slow_ms", Kind::Count(0, 3_600_000), "500", "From how many milliseconds on a request gets a line with the time of each stage; 0 for never."),

    unset("tracing.endpoint", Kind::Url, "The OpenTelemetry collector that spans are sent to by OTLP over plain HTTP, such as http://127.0.0.1:4318."),
    setting("tracing.sample", Kind::Part, "0", "Which part of all requests is traced, from 0 to 1, besides those that their clients trace."),

    unset("keys.passphrase_file", Kind::Path, "The file that holds a passphrase under which this machine's key parts are sealed."),
    unset("keys.passphrase", Kind::Secret, "The passphrase itself."),
];

/// The setting with this key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The key that `wrong` was probably meant to be: same name in another section first, else the fewest edits.
pub fn nearest(wrong: &str) -> &'static str {
    let name = wrong.rsplit('.').next().unwrap_or(wrong);
    let near = |setting: &&Setting| {
        let elsewhere = usize::from(setting.name() != name);
        (edits(setting.key, wrong).min(2 * elsewhere + edits(setting.name(), name)), elsewhere)
    };
    SETTINGS.iter().min_by_key(near).map_or("", |setting| setting.key)
}

/// The one of these that `wrong` was probably meant to be: the fewest edits.
pub(super) fn nearest_of(known: impl Iterator<Item = &'static str>, wrong: &str) -> &'static str {
    known.min_by_key(|known| edits(known, wrong)).unwrap_or_default()
}

/// The number of characters to insert, remove or replace to get from one text to the other (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, character) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..to.len() {
            let replace = diagonal + usize::from(character != to[column]);
            diagonal = row[column + 1];
            row[column + 1] = replace.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
