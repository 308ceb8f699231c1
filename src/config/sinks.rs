//! The file of sinks: where reporting sends what it gathers. `docs/sinks.example.toml` shows all of it.
//!
//! It is a file of its own because there may be any number of sinks, which lines of `schema.rs` cannot say, and because it is changed
//! when all other settings rest. Errors name the line, the sink and the field; a field that nobody knows, the one that was probably meant.
//!
//! Secrets do not stand in it: a field ending in `_file` names a file that holds one, a field ending in `_env` a variable. They are
//! read when the sinks are opened.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema::nearest_of;
use crate::sinks::files::FileFormat;
use crate::sinks::rows::RecordKind;

/// All sinks, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinksConfig {
    /// They.
    pub sinks: Vec<SinkConfig>,
}

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkConfig {
    /// Its name; its position is kept under it.
    pub name: String,
    /// What it is given.
    pub records: Vec<RecordKind>,
    /// What it is.
    pub target: Target,
}

/// Where a sink sends things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A PostgreSQL database.
    Postgres {
        /// How to reach it, without a password.
        connection: String,
        /// The password, where one is needed.
        password: Option<SecretFrom>,
        /// Who signed its certificate, where not one of the system's authorities.
        ca_file: Option<PathBuf>,
        /// The schema for tables and views.
        schema: String,
    },
    /// A receiver of posted JSON lines.
    Http {
        /// Where to.
        url: String,
        /// What requests are signed with.
        secret: SecretFrom,
        /// Who signed its certificate, where not one of the system's authorities.
        ca_file: Option<PathBuf>,
    },
    /// A folder.
    Files {
        /// Which.
        folder: PathBuf,
        /// What files are made of.
        format: FileFormat,
        /// Records in a file, at most.
        records_max: usize,
        /// How long a file may wait for that many.
        patience: Duration,
    },
    /// A receiver of OpenTelemetry metrics.
    Otlp {
        /// Where to.
        url: String,
        /// The `authorization` header, where one is needed.
        authorization: Option<SecretFrom>,
        /// Who signed its certificate, where not one of the system's authorities.
        ca_file: Option<PathBuf>,
    },
}

/// Where a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFrom {
    /// A file that holds nothing else.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

/// What is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SinksError {
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for SinksError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "line {line}: {}", self.reason),
            None => formatter.write_str(&self.reason),
        }
    }
}

/// Fields of every sink, and of each kind.
const COMMON: &[&str] = &["name", "kind", "records"];
const KINDS: &[(&str, &[&str])] = &[
    ("postgres", &["connection", "password_file", "password_env", "ca_file", "schema"]),
    ("http", &["url", "secret_file", "secret_env", "ca_file"]),
    ("files", &["folder", "format", "records_per_file", "seconds_per_file"]),
    ("otlp", &["url", "authorization_file", "authorization_env", "ca_file"]),
];

impl SinksConfig {
    /// Reads a file of sinks.
    ///
    /// # Errors
    /// Where it cannot be read or understood.
    pub fn load(path: &Path) -> Result<Self, SinksError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| SinksError { line: None, reason: format!("it cannot be read: {error}") })?;
        Self::parse(&text)
    }

    /// The sinks that this text describes.
    ///
    /// # Errors
    /// Where it is no TOML, or a sink is not as it should be.
    pub fn parse(text: &str) -> Result<Self, SinksError> {
        let at = |offset: usize, reason: String| SinksError { line: Some(line_of(text, offset)), reason };
        let file = DeTable::parse(text).map_err(|problem| SinksError {
            line: problem.span().map(|span| line_of(text, span.start)),
            reason: problem.message().to_owned(),
        })?;
        let mut config = Self::default();
        let mut names = BTreeSet::new();
        for (key, value) in file.get_ref() {
            let (offset, wanted) = (key.span().start, "every sink begins with [[sink]]");
            if key.get_ref() != "sink" {
                return Err(at(offset, format!("{} is not known here; {wanted}", key.get_ref())));
            }
            let Some(sinks) = value.get_ref().as_array() else { return Err(at(offset, wanted.to_owned())) };
            for sink in sinks.iter() {
                let offset = sink.span().start;
                let Some(table) = sink.get_ref().as_table() else { return Err(at(offset, wanted.to_owned())) };
                let sink = Fields { text, offset, table }.sink()?;
                if !names.insert(sink.name.clone()) {
                    return Err(at(
                        offset,
                        format!("there are two sinks called {}: positions are kept by name", sink.name),
                    ));
                }
                config.sinks.push(sink);
            }
        }
        Ok(config)
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The fields of one sink.
struct Fields<'a, 'b> {
    text: &'a str,
    offset: usize,
    table: &'a DeTable<'b>,
}

impl<'a, 'b> Fields<'a, 'b> {
    fn sink(&self) -> Result<SinkConfig, SinksError> {
        let name = self.required("name")?;
        let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if name.is_empty() || name.len() > 40 || !name.chars().all(is_plain) {
            return Err(self.wrong("name", "1 to 40 lower-case letters, digits and dashes"));
        }
        let kind = self.required("kind")?;
        let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == kind) else {
            return Err(self.wrong("kind", "one of postgres, http, files, otlp"));
        };
        self.refuse_unknown(own)?;
        let ca_file = self.text("ca_file")?.map(PathBuf::from);
        let target = match kind {
            "postgres" => self.postgres(ca_file)?,
            "http" => {
                let secret = self.secret("secret")?;
                let secret = secret.ok_or_else(|| self.missing("secret_file", "requests are signed with a secret"))?;
                Target::Http { url: self.url()?, secret, ca_file }
            }
            "files" => self.files()?,
            _ => Target::Otlp { url: self.url()?, authorization: self.secret("authorization")?, ca_file },
        };
        Ok(SinkConfig { name: name.to_owned(), records: self.records(kind)?, target })
    }

    fn postgres(&self, ca_file: Option<PathBuf>) -> Result<Target, SinksError> {
        let connection = self.required("connection")?;
        let parsed: tokio_postgres::Config = connection.parse().map_err(|_| {
            self.wrong("connection", "a connection string such as \"host=db dbname=usage user=dstore\"; sslmode is left out (TLS, always verified) or disable")
        })?;
        if parsed.get_password().is_some() {
            return Err(self.error("connection", "a password does not belong here; set password_file or password_env"));
        }
        let schema = self.text("schema")?.unwrap_or("dstore");
        let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        if schema.is_empty() || schema.len() > 63 || !schema.chars().all(is_plain) || schema.starts_with("pg_") {
            return Err(
                self.wrong("schema", "1 to 63 lower-case letters, digits and underscores, without pg_ in front")
            );
        }
        let password = self.secret("password")?;
        Ok(Target::Postgres { connection: connection.to_owned(), password, ca_file, schema: schema.to_owned() })
    }

    fn files(&self) -> Result<Target, SinksError> {
        let format = match self.text("format")? {
            None | Some("json-lines") => FileFormat::JsonLines,
            Some("parquet") => FileFormat::Parquet,
            Some(_) => return Err(self.wrong("format", "json-lines or parquet")),
        };
        let records_max = self.count("records_per_file", 50_000, 1_000_000)?;
        let patience = self.count("seconds_per_file", 3600, 86_400)?;
        let folder = PathBuf::from(self.required("folder")?);
        Ok(Target::Files { folder, format, records_max: records_max as usize, patience: Duration::from_secs(patience) })
    }

    fn records(&self, kind: &str) -> Result<Vec<RecordKind>, SinksError> {
        let Some(value) = self.value("records") else { return Ok(vec![RecordKind::Usage]) };
        let all = &RecordKind::ALL;
        // Events are no metrics.
        let allowed = if kind == "otlp" { &all[..3] } else { &all[..] };
        let words: Vec<&str> = allowed.iter().map(|kind| kind.word()).collect();
        let known = |word: &Spanned<DeValue<'_>>| {
            let word = word.get_ref().as_str()?;
            allowed.iter().copied().find(|kind| kind.word() == word)
        };
        let chosen: Option<BTreeSet<RecordKind>> = value.as_array().and_then(|list| list.iter().map(known).collect());
        match chosen.filter(|chosen| !chosen.is_empty()) {
            Some(chosen) => Ok(chosen.into_iter().collect()),
            None => Err(self.wrong("records", &format!("a list of {} for this kind of sink", words.join(", ")))),
        }
    }

    fn url(&self) -> Result<String, SinksError> {
        let url = self.required("url")?;
        let parsed = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let parsed = parsed.ok_or_else(|| self.wrong("url", "a URL that begins with http:// or https://"))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(self.error("url", "a user or password does not belong here"));
        }
        Ok(url.to_owned())
    }

    fn secret(&self, name: &str) -> Result<Option<SecretFrom>, SinksError> {
        let (file, variable) = (format!("{name}_file"), format!("{name}_env"));
        match (self.text(&file)?, self.text(&variable)?) {
            (Some(_), Some(_)) => Err(self.error(&variable, &format!("{file} is set already; leave one of them out"))),
            (Some(path), None) => Ok(Some(SecretFrom::File(path.into()))),
            (None, Some(variable)) => Ok(Some(SecretFrom::Variable(variable.to_owned()))),
            (None, None) => Ok(None),
        }
    }

    fn count(&self, key: &str, default: u64, most: u64) -> Result<u64, SinksError> {
        let Some(value) = self.value(key) else { return Ok(default) };
        let number = value.as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        let number = number.filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| self.wrong(key, &format!("a whole number from 1 to {most}")))
    }

    fn required(&self, key: &str) -> Result<&'a str, SinksError> {
        self.text(key)?.ok_or_else(|| self.missing(key, "it is needed"))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, SinksError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let text = value.as_str().filter(|text| !text.is_empty());
        text.map(Some).ok_or_else(|| self.wrong(key, "a text in quotes that is not empty"))
    }

    fn value(&self, key: &str) -> Option<&'a DeValue<'b>> {
        self.entry(key).map(|(_, value)| value.get_ref())
    }

    fn entry(&self, key: &str) -> Option<(&'a Spanned<std::borrow::Cow<'b, str>>, &'a Spanned<DeValue<'b>>)> {
        self.table.iter().find(|(name, _)| name.get_ref() == key)
    }

    fn refuse_unknown(&self, own: &[&'static str]) -> Result<(), SinksError> {
        let known: Vec<&'static str> = COMMON.iter().chain(own).copied().collect();
        match self.table.keys().find(|key| !known.iter().any(|known| key.get_ref() == known)) {
            None => Ok(()),
            Some(key) => {
                let nearest = nearest_of(known.iter().copied(), key.get_ref());
                Err(self.error(key.get_ref(), &format!("no such field here; did you mean {nearest}?")))
            }
        }
    }

    fn wrong(&self, key: &str, wanted: &str) -> SinksError {
        self.error(key, &format!("this is not {wanted}"))
    }

    fn missing(&self, key: &str, why: &str) -> SinksError {
        let line = Some(line_of(self.text, self.offset));
        SinksError { line, reason: format!("{}{key} is missing: {why}", self.whose()) }
    }

    fn error(&self, key: &str, reason: &str) -> SinksError {
        let offset = self.entry(key).map_or(self.offset, |(key, _)| key.span().start);
        SinksError { line: Some(line_of(self.text, offset)), reason: format!("{}{key}: {reason}", self.whose()) }
    }

    fn whose(&self) -> String {
        let name = self.value("name").and_then(DeValue::as_str);
        name.map_or_else(String::new, |name| format!("sink {name:?}: "))
    }
}

#[cfg(test)]
mod tests;
