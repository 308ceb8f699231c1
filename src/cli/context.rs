//! Contexts: which control plane the admin commands talk to, kept in `~/.config/dstore/config.toml` (mode 0600,
//! because it holds tokens). `DSTORE_CONTEXT` chooses one for a single command; `DSTORE_CLI_CONFIG` another file.
//!
//! ```toml
//! current = "dev"
//! [contexts.dev]
//! url = "http://127.0.0.1:8082"
//! token = "…"
//! authority_pem = "…"      # for https: who may sign control's certificate
//! tenant = "default"       # where a command names none
//! ```

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One control plane as this user reaches it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Context {
    /// The admin API.
    pub url: String,
    /// The bearer token.
    pub token: String,
    /// The authority that signs control's certificate, PEM; for `https` URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_pem: Option<String>,
    /// The tenant where a command names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// The file.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Contexts {
    /// The context in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All of them by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// Where the file is.
///
/// # Errors
/// Where neither `DSTORE_CLI_CONFIG` nor `XDG_CONFIG_HOME` nor `HOME` is set.
pub fn path() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("DSTORE_CLI_CONFIG") {
        return Ok(path.into());
    }
    let folder = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))
        .ok_or("HOME is not set; set DSTORE_CLI_CONFIG to the file that keeps contexts")?;
    Ok(folder.join("dstore").join("config.toml"))
}

impl Contexts {
    /// Reads the file; none there is none yet.
    ///
    /// # Errors
    /// Where it is there and cannot be read or understood.
    pub fn load() -> Result<Self, String> {
        let path = path()?;
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|problem| format!("{}: {problem}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Writes the file: anew beside the old one, then in its place.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn save(&self) -> Result<(), String> {
        let path = path()?;
        let shown = path.display();
        let text = toml::to_string(self).map_err(|problem| problem.to_string())?;
        let write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let beside = path.with_extension(format!("new-{}", std::process::id()));
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)
        };
        write().map_err(|error: std::io::Error| format!("{shown}: {error}"))
    }

    /// The context in use: the one that `DSTORE_CONTEXT` names, or the current one.
    ///
    /// # Errors
    /// Where there is none, saying what to do.
    pub fn chosen(&self) -> Result<&Context, String> {
        let named = std::env::var("DSTORE_CONTEXT").ok().or_else(|| self.current.clone());
        let name = named.ok_or("no context is set; run `dstore control login URL --token-file FILE`")?;
        self.contexts
            .get(&name)
            .ok_or_else(|| format!("there is no context {name:?}; `dstore control context list` shows those there are"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_back_as_it_was_written() {
        let text = "current = \"dev\"\n\n[contexts.dev]\nurl = \"http://127.0.0.1:8082\"\ntoken = \"t\"\ntenant = \"default\"\n";
        let contexts: Contexts = toml::from_str(text).unwrap();
        assert_eq!(toml::to_string(&contexts).unwrap(), text);
        assert!(toml::from_str::<Contexts>("").unwrap().contexts.is_empty());
    }
}
