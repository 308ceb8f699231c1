//! `dstore node --standalone`: one node that is its own control plane and serves the whole core API alone, tenants
//! and tables included.
//!
//! The process is [`super::one_process`] with one node, over the same folder as `dstore dev`. What is its own: it is a
//! server, so it may listen where other machines reach it (with a certificate), it prints where the secrets are and not the
//! secrets, because a server's output goes to logs, and it touches nobody's contexts.

use std::path::Path;

use super::credentials::FILE_NAME;
use super::one_process::OneProcess;

/// What is printed for people. `program` is what this one was called as.
pub fn greeting(running: &OneProcess, data: &Path, program: &str) -> String {
    let (url, admin_url) = (&running.credentials.url, &running.admin_url);
    let credentials = data.join(FILE_NAME);
    let credentials = credentials.display();
    format!(
        "dStore is ready: one node, its own control plane.\n\n  \
         URL          {url}\n  \
         admin API    {admin_url}\n  \
         credentials  {credentials}    (token and access key, readable by this user only)\n\n\
         Administer it from this machine:\n\n  \
         {program} control login --credentials-file {credentials}\n  \
         {program} control status\n\n\
         Stop with Ctrl-C or SIGTERM.\n"
    )
}
