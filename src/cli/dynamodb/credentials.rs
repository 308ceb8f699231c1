//! Where a command's access key comes from: a file that `dstore control access-key create --out` or `dstore dev` wrote, or
//! else the variables that AWS's tools read. Never an argument: other users of the machine can see those.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

/// What is signed for where nobody says otherwise. dStore takes any region; AWS only the one that is asked.
const REGION: &str = "us-east-1";

/// An access key. There is no `Debug`: the secret is one.
#[derive(Clone)]
pub struct Credentials {
    /// Names the key.
    pub access_key_id: String,
    /// Signs.
    pub secret_access_key: Zeroizing<String>,
    /// Belongs to keys that AWS gives for a while.
    pub session_token: Option<Zeroizing<String>>,
}

/// Why there is no access key.
#[derive(Debug, thiserror::Error)]
pub enum NoCredentials {
    /// Nothing was given.
    #[error(
        "no access key: name a file by --access-key-file (dstore dev keeps DIR/credentials.json), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    Missing,
    /// The file could not be read.
    #[error("the access key's file {path} could not be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{0} holds no access key: it should be JSON with access_key_id and secret_access_key")]
    NotAKey(PathBuf),
    /// Something in it cannot stand in a header.
    #[error("the access key holds characters that no access key has")]
    Characters,
}

/// What such a file holds, among other things.
#[derive(Deserialize)]
struct Kept {
    access_key_id: String,
    secret_access_key: String,
}

impl Credentials {
    /// Those of the file, or of the environment where none is named.
    ///
    /// # Errors
    /// See [`NoCredentials`].
    pub fn find(file: Option<&Path>) -> Result<Credentials, NoCredentials> {
        let credentials = match file {
            Some(path) => Self::read(path)?,
            None => Self::of_variables(|name| std::env::var(name).ok()).ok_or(NoCredentials::Missing)?,
        };
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let token = credentials.session_token.as_ref().is_none_or(|token| is_word(token));
        let key = credentials.access_key_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !key || credentials.access_key_id.is_empty() || !is_word(&credentials.secret_access_key) || !token {
            return Err(NoCredentials::Characters);
        }
        Ok(credentials)
    }

    fn read(path: &Path) -> Result<Credentials, NoCredentials> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| NoCredentials::Unreadable { path: path.to_owned(), source })?;
        let text = Zeroizing::new(text);
        let kept: Kept = serde_json::from_str(&text).map_err(|_| NoCredentials::NotAKey(path.to_owned()))?;
        let Kept { access_key_id, secret_access_key } = kept;
        let secret_access_key = Zeroizing::new(secret_access_key);
        Ok(Credentials { access_key_id, secret_access_key, session_token: None })
    }

    fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Credentials> {
        let given = |name: &str| variable(name).filter(|text| !text.is_empty());
        Some(Credentials {
            access_key_id: given("AWS_ACCESS_KEY_ID")?,
            secret_access_key: Zeroizing::new(given("AWS_SECRET_ACCESS_KEY")?),
            session_token: given("AWS_SESSION_TOKEN").map(Zeroizing::new),
        })
    }
}

/// The region that is signed for: the one that was named, or that of the variables AWS's tools read.
pub fn region(named: Option<&str>) -> String {
    let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().filter_map(|name| std::env::var(name).ok());
    let mut all = named.map(str::to_owned).into_iter().chain(variables);
    let fits =
        |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    all.find(fits).unwrap_or_else(|| REGION.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_both_kinds_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        std::fs::write(&path, r#"{"url":"http://x","access_key_id":"DSTKA","secret_access_key":"s/+"}"#).unwrap();
        let found = Credentials::find(Some(&path)).map_err(|problem| problem.to_string()).unwrap();
        assert_eq!((found.access_key_id.as_str(), found.secret_access_key.as_str()), ("DSTKA", "s/+"));
        for (text, told) in [
            ("{}", "holds no access key"),
            (r#"{"access_key_id":"A\r\nx: y","secret_access_key":"s"}"#, "characters"),
            (r#"{"access_key_id":"","secret_access_key":"s"}"#, "characters"),
        ] {
            std::fs::write(&path, text).unwrap();
            let refused = Credentials::find(Some(&path)).err().unwrap().to_string();
            assert!(refused.contains(told), "{refused}");
        }
        assert!(matches!(Credentials::find(Some(&folder.path().join("no"))), Err(NoCredentials::Unreadable { .. })));
    }

    #[test]
    fn variables_are_those_of_aws() {
        let all = |name: &str| (name != "AWS_SESSION_TOKEN").then(|| format!("{name}-x"));
        let found = Credentials::of_variables(all).unwrap();
        assert_eq!(found.access_key_id, "AWS_ACCESS_KEY_ID-x");
        assert!(found.session_token.is_none());
        assert!(
            Credentials::of_variables(|name| Some(if name == "AWS_ACCESS_KEY_ID" { "a" } else { "" }.into())).is_none()
        );
        assert_eq!(region(Some("eu-west-1")), "eu-west-1");
    }
}
