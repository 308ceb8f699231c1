//! Waiting for what control was asked for, for commands that end when it has come true.
//!
//! What is waited for is looked at again and again, and each time that it has come further people are told on stderr. There
//! is no time after which it is given up: moving data takes as long as it takes, the wish stays written whether
//! anyone waits or not, and who has waited long enough ends the command.

use std::time::Duration;

use serde_json::Value;

use super::call::{Admin, Failure};

/// The shortest and the longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has come true.
    Done,
    /// Not yet, and what is missing.
    Waiting(String),
    /// It will not, and why.
    Never(String),
}

/// Asks for `path` until `state` finds it done; gives the last answer.
pub(super) async fn wait(admin: &Admin, path: &str, state: impl Fn(&Value) -> State) -> Result<Value, Failure> {
    let (mut told, mut pause) = (String::new(), PAUSES.0);
    loop {
        let answer = admin.get(path).await?;
        match state(&answer) {
            State::Done => return Ok(answer),
            State::Waiting(missing) if missing != told => {
                eprintln!("waiting: {missing}");
                (told, pause) = (missing, PAUSES.0);
            }
            State::Waiting(_) => {}
            State::Never(why) => return Err(Failure::from(why)),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}
