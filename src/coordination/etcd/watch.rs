//! etcd's watch stream as ours. Each watch has a stream of its own, so that dropping one ends exactly
//! one; a process has a handful of them, so sharing would save nothing.
//!
//! etcd answers first that the watch was made, or why not; only then is the watch given to the caller,
//! so that a missing right is an error where the watch is asked for. A watch asked for under a token the
//! server has forgotten is told "permission denied"; it is asked for once more under a new one.

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc;

use super::client::{ANSWER_BYTES_MAX, EtcdCoordinator};
use super::errors::{Effect, translate, wants_new_token};
use crate::coordination::{Error, EventKind, Result, Revision, Watch, WatchBatch, WatchEvent};

/// Batches that wait for a slow watcher; beyond, TCP holds the server back.
const BATCHES: usize = 16;

pub(super) async fn start(coordinator: &EtcdCoordinator, prefix: &str, from_revision: Revision) -> Result<Watch> {
    let stream = match open(coordinator, prefix, from_revision).await {
        Err(error) if wants_new_token(&error) => {
            coordinator.refresh_token().await?;
            open(coordinator, prefix, from_revision).await?
        }
        other => other?,
    };
    let (sender, receiver) = mpsc::channel(BATCHES);
    tokio::spawn(forward(stream, coordinator.key_reader(), sender));
    Ok(Watch::new(receiver))
}

async fn open(coordinator: &EtcdCoordinator, prefix: &str, from_revision: Revision) -> Result<WatchStream> {
    let (first, end) = coordinator.key_range(prefix);
    let options = WatchOptions::new().with_range(end).with_start_revision(from_revision).with_progress_notify();
    coordinator
        .call(Effect::None, |client| {
            let (first, options) = (first.clone(), options.clone());
            async move {
                let mut watches = client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
                let mut stream = watches.watch(first, Some(options)).await?;
                let made = stream.message().await?;
                Ok((stream, made))
            }
        })
        .await
        .and_then(|(stream, made)| match made {
            Some(answer) if !answer.canceled() => Ok(stream),
            Some(answer) => Err(cancelled(&answer)),
            None => Err(Error::Unavailable("the watch stream has ended".into())),
        })
}

async fn forward(mut stream: WatchStream, keys: super::client::KeyReader, sender: mpsc::Sender<Result<WatchBatch>>) {
    loop {
        let answer = tokio::select! {
            () = sender.closed() => return,
            answer = stream.message() => answer,
        };
        let outcome = match answer {
            Ok(Some(answer)) if answer.canceled() => Err(cancelled(&answer)),
            Ok(Some(answer)) => Ok(batch(&keys, &answer)),
            Ok(None) => Err(Error::Unavailable("the watch stream has ended".into())),
            Err(error) => Err(translate(&error, Effect::None)),
        };
        let ended = outcome.is_err();
        if sender.send(outcome).await.is_err() || ended {
            return;
        }
    }
}

fn cancelled(answer: &WatchResponse) -> Error {
    if answer.compact_revision() > 0 {
        return Error::Compacted { compacted_revision: answer.compact_revision() };
    }
    let reason = answer.cancel_reason();
    if reason.contains("permission denied") {
        return Error::Denied(reason.to_owned());
    }
    Error::Unavailable(format!("etcd has ended the watch: {reason}"))
}

fn batch(keys: &super::client::KeyReader, answer: &WatchResponse) -> WatchBatch {
    let mut events = Vec::with_capacity(answer.events().len());
    for event in answer.events() {
        let Some(entry) = event.kv().and_then(|entry| keys.key_value(entry)) else { continue };
        let revision = entry.mod_revision;
        let kind = match event.event_type() {
            EventType::Put => EventKind::Put(entry),
            EventType::Delete => EventKind::Delete { key: entry.key },
        };
        events.push(WatchEvent { kind, revision });
    }
    // The header's revision of an answer with events may be later than the last event told, where more
    // are on the way; without events it is a progress report and safe to resume from.
    let header = answer.header().map_or(0, |header| header.revision());
    let revision = events.last().map_or(header, |event: &WatchEvent| event.revision);
    WatchBatch { events, revision }
}
