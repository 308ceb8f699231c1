//! Merges the sources. Each is read by the `config` crate into its own tree, flattened to `section.name` keys and
//! checked against the schema by itself, so that an error can name the source; the last source that has a key
//! gives both its value and its [`Origin`].

use super::schema::{self, Kind, SETTINGS, Setting};
use super::{Config, Watermark};
use ::config::{File, FileFormat, Map, Source, Value, ValueKind};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where the value of a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// The settings file.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// A flag on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File(path) => write!(formatter, "file {}", path.display()),
            Origin::Environment(variable) => write!(formatter, "environment {variable}"),
            Origin::Flag => formatter.write_str("flag"),
        }
    }
}

/// Why settings could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read or is no TOML.
    #[error("the settings file {path} could not be read")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ::config::ConfigError,
    },
    /// There is no such setting.
    #[error("there is no setting {key} ({origin}); did you mean {nearest}?")]
    Unknown {
        /// The key that was given.
        key: String,
        /// By whom.
        origin: Origin,
        /// The most similar key.
        nearest: &'static str,
    },
    /// The value does not fit.
    #[error("{key} ({origin}): {reason}")]
    Value {
        /// Which setting.
        key: &'static str,
        /// Who gave it.
        origin: Origin,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The merged settings do not fit the types: schema and structures disagree, which a test excludes.
    #[error("settings could not be put together")]
    Types(#[source] ::config::ConfigError),
}

/// Every setting's value as text and where it came from; secrets are already hidden.
#[derive(Debug, Clone)]
pub struct Origins {
    entries: BTreeMap<&'static str, (Option<String>, Origin)>,
}

impl Origins {
    /// Value (`None`: unset) and origin of a setting.
    pub fn get(&self, key: &str) -> Option<(Option<&str>, &Origin)> {
        self.entries.get(key).map(|(value, origin)| (value.as_deref(), origin))
    }
}

impl Config {
    /// Merges defaults, `file`, `environment` (all variables; those that begin with `DSTORE__` are read) and `flags`
    /// (keys as in the schema), later ones winning, and checks every key and value.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key, where it came from, and what would be right.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: Vec<(String, String)>,
    ) -> Result<(Config, Origins), ConfigError> {
        let mut merged: BTreeMap<&'static str, (Value, Origin)> = BTreeMap::new();
        for setting in SETTINGS {
            if let Some(default) = setting.default {
                merged.insert(setting.key, (Value::new(None, default), Origin::Default));
            }
        }
        if let Some(path) = file {
            for (key, value) in read_file(path)? {
                let setting = known(&key, Origin::File(path.to_owned()))?;
                take(&mut merged, setting, value, Origin::File(path.to_owned()))?;
            }
        }
        for (variable, text) in environment {
            let Some(name) = variable.strip_prefix("DSTORE__") else { continue };
            let key = name.to_lowercase().replace("__", ".");
            let origin = Origin::Environment(variable.clone());
            let setting = known(&key, origin.clone())?;
            take(&mut merged, setting, Value::new(None, text), origin)?;
        }
        for (key, text) in flags {
            let setting = known(&key, Origin::Flag)?;
            take(&mut merged, setting, Value::new(None, text), Origin::Flag)?;
        }
        finish(merged)
    }
}

fn finish(merged: BTreeMap<&'static str, (Value, Origin)>) -> Result<(Config, Origins), ConfigError> {
    let mut entries: BTreeMap<_, _> = SETTINGS.iter().map(|setting| (setting.key, (None, Origin::Default))).collect();
    let mut builder = ::config::Config::builder();
    for section in schema::SECTIONS {
        // A section of which nothing is set is still there.
        builder = builder.set_default(section.name, Map::<String, Value>::new()).map_err(ConfigError::Types)?;
    }
    for (key, (value, origin)) in merged {
        let is_secret = schema::find(key).is_some_and(|setting| setting.kind == Kind::Secret);
        let text = if is_secret { "(secret)".to_owned() } else { shown(&value) };
        entries.insert(key, (Some(text), origin));
        builder = builder.set_override(key, value).map_err(ConfigError::Types)?;
    }
    let config = builder.build().and_then(::config::Config::try_deserialize).map_err(ConfigError::Types)?;
    Ok((config, Origins { entries }))
}

fn read_file(path: &Path) -> Result<BTreeMap<String, Value>, ConfigError> {
    let wrong = |source| ConfigError::File { path: path.to_owned(), source };
    let source = File::from(path).format(FileFormat::Toml).required(true);
    let mut flat = BTreeMap::new();
    flatten("", source.collect().map_err(wrong)?, &mut flat);
    Ok(flat)
}

fn flatten(prefix: &str, table: Map<String, Value>, flat: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value.kind {
            ValueKind::Table(inner) => flatten(&key, inner, flat),
            _ => {
                flat.insert(key, value);
            }
        }
    }
}

fn known(key: &str, origin: Origin) -> Result<&'static Setting, ConfigError> {
    schema::find(key).ok_or_else(|| ConfigError::Unknown { key: key.to_owned(), origin, nearest: schema::nearest(key) })
}

/// Checks the value by the setting's kind and puts it in the place of an earlier source's. An empty text unsets
/// what has no default.
fn take(
    merged: &mut BTreeMap<&'static str, (Value, Origin)>,
    setting: &'static Setting,
    value: Value,
    origin: Origin,
) -> Result<(), ConfigError> {
    let text = shown(&value);
    if text.is_empty() && setting.default.is_none() {
        merged.remove(setting.key);
        return Ok(());
    }
    if setting.kind == Kind::Secret && !matches!(origin, Origin::Environment(_)) {
        let instead = if setting.key == "keys.passphrase" {
            "keys.passphrase_file".to_owned()
        } else {
            format!("{}_file", setting.key)
        };
        let reason =
            format!("a secret does not belong here; set {instead}, or {} in the environment", setting.variable());
        return Err(ConfigError::Value { key: setting.key, origin, reason });
    }
    if let Err(reason) = check(setting.kind, &text) {
        return Err(ConfigError::Value { key: setting.key, origin, reason });
    }
    merged.insert(setting.key, (value, origin));
    Ok(())
}

/// A value as one would write it on the command line.
fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(","),
        _ => value.to_string(),
    }
}

fn check(kind: Kind, text: &str) -> Result<(), String> {
    let quoted = || format!("{:?}", text.chars().take(200).collect::<String>());
    let verdict = match kind {
        Kind::Address => text
            .parse::<SocketAddr>()
            .is_ok()
            .then_some(())
            .ok_or("an address with a port, such as 127.0.0.1:8080 or [::]:8080"),
        Kind::Url => is_url(text).then_some(()).ok_or("a URL that begins with http:// or https://"),
        Kind::Urls => text
            .split(',')
            .all(|part| is_url(part.trim()))
            .then_some(())
            .ok_or("URLs that begin with http:// or https://, separated by commas"),
        Kind::Part => {
            let is_part = text.parse::<f64>().is_ok_and(|part| (0.0..=1.0).contains(&part));
            is_part.then_some(()).ok_or("a number from 0 to 1, such as 0.01")
        }
        Kind::Switch => matches!(text, "true" | "false").then_some(()).ok_or("true or false"),
        Kind::Watermark => Watermark::parse(text).map(|_| ()).ok_or("an amount such as 512 MiB, 2 GiB or 5%"),
        Kind::Path | Kind::Text => (!text.is_empty()).then_some(()).ok_or("something that is not empty"),
        Kind::Secret => return Ok(()),
        Kind::Choice(words) if words.contains(&text) => Ok(()),
        Kind::Choice(words) => return Err(format!("{} is none of {}", quoted(), words.join(", "))),
        Kind::Count(least, most) => match text.parse::<u64>() {
            Ok(count) if (least..=most).contains(&count) => Ok(()),
            _ => return Err(format!("{} is not a whole number from {least} to {most}", quoted())),
        },
    };
    verdict.map_err(|wanted| format!("{} is not {wanted}", quoted()))
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains([' ', ',']))
}
