//! Roles and users in etcd, one of each per [`Writer`], both under its name. What they may do is what
//! [`Writer`] says, so etcd and the embedded store refuse the same things. Everything here may be done
//! again: what is there already is brought up to date.
//!
//! etcd checks a transaction's compares as reads and its operations as writes, key by key; leases are
//! not tied to roles, but a lease that holds a key one may not write cannot be revoked.

use etcd_client::{Client, Permission, UserAddOptions};

use super::client::EtcdCoordinator;
use super::errors::Effect;
use crate::coordination::{Error, Result, Writer};

/// Makes the role and the user for a writer. Without a password, etcd knows the user by the common name
/// of its client certificate.
///
/// # Errors
/// `Denied` where `admin` is not etcd's root; `Unavailable`.
pub async fn install_roles(admin: &EtcdCoordinator, writer: &Writer, password: Option<&str>) -> Result<()> {
    let name = writer.name();
    add(admin, |mut client, name| async move { client.role_add(name).await.map(drop) }, &name).await?;
    for (prefix, may_write) in permissions(writer) {
        let (first, end) = admin.key_range(&prefix);
        let permission = if may_write { Permission::read_write(first) } else { Permission::read(first) };
        let permission = permission.with_range_end(end);
        admin
            .call(Effect::None, |mut client| {
                let (name, permission) = (name.clone(), permission.clone());
                async move { client.role_grant_permission(name, permission).await.map(drop) }
            })
            .await?;
    }
    add_user(admin, &name, password).await?;
    admin
        .call(Effect::None, |mut client| {
            let name = name.clone();
            async move { client.user_grant_role(name.clone(), name).await.map(drop) }
        })
        .await
}

/// Takes a writer's user and role away; its tokens end with them.
///
/// # Errors
/// As [`install_roles`].
pub async fn remove_writer(admin: &EtcdCoordinator, writer: &Writer) -> Result<()> {
    let name = writer.name();
    let user = |mut client: Client, name: String| async move { client.user_delete(name).await.map(drop) };
    let role = |mut client: Client, name: String| async move { client.role_delete(name).await.map(drop) };
    ignoring("not found", named(admin, user, &name).await)?;
    ignoring("not found", named(admin, role, &name).await)
}

/// Makes etcd's `root` user, and turns authentication on. From then on only users with roles may do
/// anything; `admin` must be a handle that knows root's password to go on.
///
/// # Errors
/// `Denied` where it is on already and `admin` is not root; `Unavailable`.
pub async fn enable_authentication(admin: &EtcdCoordinator, root_password: &str) -> Result<()> {
    add_user(admin, "root", Some(root_password)).await?;
    add(admin, |mut client, name| async move { client.role_add(name).await.map(drop) }, "root").await?;
    admin
        .call(Effect::None, |mut client| async move {
            client.user_grant_role("root", "root").await?;
            client.auth_enable().await.map(drop)
        })
        .await
}

/// Prefixes and whether they may be written. etcd keeps one permission per interval, so each is named once.
fn permissions(writer: &Writer) -> Vec<(String, bool)> {
    let writable = writer.writable_prefixes();
    let readable = writer.readable_prefixes().into_iter().filter(|prefix| !writable.contains(prefix));
    readable.map(|prefix| (prefix, false)).chain(writable.iter().cloned().map(|prefix| (prefix, true))).collect()
}

async fn add_user(admin: &EtcdCoordinator, name: &str, password: Option<&str>) -> Result<()> {
    let text = zeroize::Zeroizing::new(password.unwrap_or_default().to_owned());
    let options = password.is_none().then(|| UserAddOptions::new().with_no_pwd());
    let added = admin
        .call(Effect::None, |mut client| {
            let (name, text, options) = (name.to_owned(), text.to_string(), options.clone());
            async move { client.user_add(name, text, options).await.map(drop) }
        })
        .await;
    match (added, password) {
        (Err(error), Some(_)) if error.to_string().contains("already exists") => {
            admin
                .call(Effect::None, |mut client| {
                    let (name, text) = (name.to_owned(), text.to_string());
                    async move { client.user_change_password(name, text).await.map(drop) }
                })
                .await
        }
        (added, _) => ignoring("already exists", added),
    }
}

async fn add<Answer>(admin: &EtcdCoordinator, request: impl Fn(Client, String) -> Answer, name: &str) -> Result<()>
where
    Answer: Future<Output = std::result::Result<(), etcd_client::Error>>,
{
    ignoring("already exists", named(admin, request, name).await)
}

async fn named<Answer>(admin: &EtcdCoordinator, request: impl Fn(Client, String) -> Answer, name: &str) -> Result<()>
where
    Answer: Future<Output = std::result::Result<(), etcd_client::Error>>,
{
    admin.call(Effect::None, |client| request(client, name.to_owned())).await
}

fn ignoring(words: &str, result: Result<()>) -> Result<()> {
    match result {
        Err(Error::Unavailable(text) | Error::BadRequest(text)) if text.contains(words) => Ok(()),
        other => other,
    }
}
