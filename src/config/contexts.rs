//! Contexts: which control planes the admin commands of this user talk to, kept in `~/.config/dstore/config.toml` (mode
//! 0600, because it holds tokens). `DSTORE_CONTEXT` chooses one for a single command; `DSTORE_CLI_CONFIG` another file.
//!
//! ```toml
//! current = "dev"
//! [contexts.dev]
//! url = "http://127.0.0.1:8082"
//! token = "…"
//! authority_pem = "…"      # for https: who may sign control's certificate
//! tenant = "default"       # where a command names none
//! ```
//!
//! Two write it: the admin commands (`login`, `context use`), and `dstore dev` at each start, so that they work in the
//! next terminal without a login. It stands with the settings because both may read those. Every change reads, changes and
//! replaces the file under a lock beside it, so that none gets lost between two processes.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
        Self::load_from(&path()?)
    }

    fn load_from(path: &Path) -> Result<Self, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|problem| format!("{}: {}", path.display(), problem.message())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Changes the file. What `change` gives is given back; where it refuses, nothing is written.
    ///
    /// # Errors
    /// Where the file cannot be read or written, and those of `change`.
    pub fn change<T>(change: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        Self::change_in(&path()?, change)
    }

    /// The same for the file at `path`.
    ///
    /// # Errors
    /// As [`Contexts::change`].
    pub fn change_in<T>(path: &Path, change: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let lock_path = path.with_extension("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock_path);
        let lock = lock.map_err(failed)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let mut contexts = Self::load_from(path)?;
        let result = change(&mut contexts)?;
        contexts.write(path).map_err(failed)?;
        Ok(result)
    }

    /// Anew beside the old one, then in its place.
    fn write(&self, path: &Path) -> std::io::Result<()> {
        let text = zeroize::Zeroizing::new(toml::to_string(self).map_err(std::io::Error::other)?);
        let beside = path.with_extension("new");
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    }

    /// Puts in the context of a process on this machine. It becomes the current one only where that takes nothing from
    /// the user: where none is current, or the one that is does not exist. Whether it is current now.
    pub fn offer(&mut self, name: &str, context: Context) -> bool {
        self.contexts.insert(name.to_owned(), context);
        if self.current.as_ref().is_none_or(|current| !self.contexts.contains_key(current)) {
            self.current = Some(name.to_owned());
        }
        self.current.as_deref() == Some(name)
    }

    /// The context in use: the one that `DSTORE_CONTEXT` names, or the current one.
    ///
    /// # Errors
    /// Where there is none, saying what to do.
    pub fn chosen(&self) -> Result<(String, &Context), String> {
        let named = std::env::var("DSTORE_CONTEXT").ok().filter(|name| !name.is_empty());
        let name = named
            .or_else(|| self.current.clone())
            .ok_or("no context is set: start `dstore dev`, or run `dstore control login URL --token-file FILE`")?;
        match self.contexts.get(&name) {
            Some(context) => Ok((name, context)),
            None => Err(format!("there is no context {name:?}; `dstore control context list` shows those there are")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn context(url: &str) -> Context {
        Context { url: url.to_owned(), token: "t".to_owned(), authority_pem: None, tenant: None }
    }

    #[test]
    fn the_file_comes_back_as_it_was_written() {
        let text = "current = \"dev\"\n\n[contexts.dev]\nurl = \"http://127.0.0.1:8082\"\ntoken = \"t\"\ntenant = \"default\"\n";
        let contexts: Contexts = toml::from_str(text).unwrap();
        assert_eq!(toml::to_string(&contexts).unwrap(), text);
        assert!(toml::from_str::<Contexts>("").unwrap().contexts.is_empty());
    }

    #[test]
    fn an_offered_context_takes_nothing_from_the_user() {
        let mut contexts = Contexts::default();
        assert!(contexts.offer("dev", context("a")), "none was current");
        assert!(contexts.offer("dev", context("b")) && contexts.contexts["dev"].url == "b");
        contexts.contexts.insert("work".to_owned(), context("c"));
        contexts.current = Some("work".to_owned());
        assert!(!contexts.offer("dev", context("d")), "another is in use and stays");
        assert_eq!((contexts.current.as_deref(), contexts.contexts.len()), (Some("work"), 2));
        contexts.current = Some("gone".to_owned());
        assert!(contexts.offer("dev", context("e")));
    }

    #[test]
    fn changes_of_many_at_once_all_arrive_and_the_file_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/config.toml");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    Contexts::change_in(path, |contexts| {
                        contexts.contexts.insert(format!("c{number}"), context("x"));
                        Ok(())
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(Contexts::load_from(&path).unwrap().contexts.len(), 8);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = Contexts::change_in(&path, |contexts| {
            contexts.contexts.clear();
            Err::<(), _>("no".to_owned())
        });
        assert!(refused.is_err());
        assert_eq!(Contexts::load_from(&path).unwrap().contexts.len(), 8);
    }

    #[test]
    fn a_file_that_is_not_understood_is_named_without_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "token = hunter2").unwrap();
        let told = Contexts::load_from(&path).err().unwrap();
        assert!(told.contains("config.toml") && !told.contains("hunter2"), "{told}");
    }
}
