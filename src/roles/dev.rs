//! `dstore dev`: everything in one process, for one person on one machine, ready in a moment.
//!
//! The process is [`super::one_process`]. What is its own: it prints all that is needed to begin, secrets included, because
//! whoever started it sits in front of it; and it offers the user's admin commands a context called `dev`, so that
//! `dstore control status` works in the next terminal. The context is renewed at each start and stays behind
//! afterwards, since the token in it is good again at the next start over the same folder. Of several at once the
//! last one started has it. It becomes the current context unless the user has another one in use: nobody who
//! administers a cluster and tries something at home should find the next command going elsewhere.

use std::path::Path;

use crate::config::contexts::{Context, Contexts};

use super::credentials::{Credentials, FILE_NAME};
use super::one_process::OneProcess;

/// The name of the context.
pub const CONTEXT: &str = "dev";

/// What became of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// Admin commands talk to this process now.
    Current,
    /// They do when told to: another context is in use.
    Aside,
    /// It could not be kept, for this reason.
    Not(String),
}

/// Offers the user's admin commands a context of this process.
pub fn offer_context(running: &OneProcess) -> Offered {
    let context = Context {
        url: running.admin_url.clone(),
        token: running.credentials.token.clone(),
        authority_pem: None,
        tenant: Some(running.credentials.tenant.clone()),
    };
    match Contexts::change(|contexts| Ok(contexts.offer(CONTEXT, context))) {
        Ok(true) => Offered::Current,
        Ok(false) => Offered::Aside,
        Err(problem) => Offered::Not(problem),
    }
}

/// What is printed for people: addresses, credentials, and commands to paste. `program` is what this one was called as.
pub fn greeting(running: &OneProcess, data: &Path, offered: &Offered, program: &str) -> String {
    let Credentials { url, token, tenant, access_key_id, secret_access_key } = &running.credentials;
    let admin_url = &running.admin_url;
    let table = format!("{url}/v1/tenant/{tenant}/table/things");
    let auth = format!("-H 'Authorization: Bearer {token}'");
    let json = "-H 'Content-Type: application/json'";
    // Any region will do; the tools of AWS want one.
    let aws = format!(
        "AWS_ACCESS_KEY_ID={access_key_id} AWS_SECRET_ACCESS_KEY={secret_access_key} AWS_DEFAULT_REGION=us-east-1"
    );
    let (data, credentials) = (data.display(), data.join(FILE_NAME));
    let credentials = credentials.display();
    let admin = match offered {
        Offered::Current => format!("{program} control status\n  {program} control table list"),
        Offered::Aside => format!(
            "DSTORE_CONTEXT={CONTEXT} {program} control status\n  {program} control context use {CONTEXT}    # to stay with it: another context is in use now"
        ),
        Offered::Not(problem) => format!(
            "{program} control login --credentials-file {credentials}    # no context was kept: {problem}\n  {program} control status"
        ),
    };
    format!(
        "dStore is ready.\n\n  \
         URL                {url}\n  \
         admin API          {admin_url}\n  \
         tenant             {tenant}\n  \
         token              {token}\n  \
         access key id      {access_key_id}\n  \
         secret access key  {secret_access_key}\n  \
         data               {data}    (and all of the above in {credentials})\n\n\
         Make a table, store an item, read it:\n\n  \
         curl -w '\\n' -X PUT {table} {auth} {json} -d '{{\"id_type\":\"String\"}}'\n  \
         curl -w 'HTTP %{{http_code}}\\n' -X PUT {table}/id/hello {auth} {json} -d '{{\"greeting\":\"world\",\"stars\":[1,2,3]}}'\n  \
         curl -w '\\n' {table}/id/hello {auth}\n\n\
         The same by the protocol of DynamoDB, whose endpoint is {url}:\n\n  \
         {aws} aws dynamodb list-tables --endpoint-url {url}\n\n\
         Look at it from another terminal:\n\n  {admin}\n\n\
         Stop with Ctrl-C; what is stored stays in the data folder.\n"
    )
}
