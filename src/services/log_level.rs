//! The log level that a person wishes for while the cluster runs, for a while: who looks for a fault sets it at control, and
//! every process of the cluster follows within [`PAUSE`], without a restart and without a signal to each machine.
//!
//! A wish is a level for dStore's own code and a time at which it ends by itself. It cannot name other modules: at `trace`
//! some libraries print headers as they come, and with them credentials, which no wish over the network may bring into a log.
//!
//! Each member asks control now and then; a wish that is known holds until its end also while control is away. It was
//! rejected to tell it with the lists of who may come in: reporters do not get these, and a log level is no secret to
//! be sealed on disk.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{Clock, Refusal, Timestamp};

/// How often control is asked.
pub const PAUSE: Duration = Duration::from_secs(10);

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what is wrong.
    Warn,
    /// And what happens.
    Info,
    /// And how.
    Debug,
    /// And every step.
    Trace,
}

impl LogLevel {
    /// The word for it, in commands and in settings.
    pub fn word(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl std::str::FromStr for LogLevel {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let all = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
        all.into_iter().find(|level| level.word() == text).ok_or_else(|| {
            let given = text.chars().take(40).collect::<String>();
            Refusal::bad_input(format!("{given:?} is no log level: it is error, warn, info, debug or trace"))
        })
    }
}

/// A level and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WishedLevel {
    /// The level.
    pub level: LogLevel,
    /// When the wish ends.
    pub ends_at: Timestamp,
}

/// Where the wish is known.
#[async_trait]
pub trait LevelSource: Send + Sync + 'static {
    /// The wish, where there is one.
    async fn wished_level(&self) -> Result<Option<WishedLevel>, Refusal>;
}

/// Asks until dropped, and calls `set` whenever another level is to hold; none: the one of the settings.
pub async fn follow(source: impl LevelSource, clock: &dyn Clock, set: impl Fn(Option<LogLevel>)) {
    let (mut wish, mut holds) = (None::<WishedLevel>, None);
    let mut tick = tokio::time::interval(PAUSE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match source.wished_level().await {
            Ok(told) => wish = told,
            // A control of an older release does not know the question, and one that is away answers none.
            Err(refusal) => tracing::debug!(%refusal, "the wished log level is not known"),
        }
        let level = wish.filter(|wish| clock.now() < wish.ends_at).map(|wish| wish.level);
        if level != holds {
            set(level);
            holds = level;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    struct Hand(Mutex<u64>);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(*self.0.lock())
        }
    }

    type Told = Arc<Mutex<Result<Option<WishedLevel>, Refusal>>>;

    struct Control(Told);

    #[async_trait]
    impl LevelSource for Control {
        async fn wished_level(&self) -> Result<Option<WishedLevel>, Refusal> {
            self.0.lock().clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_holds_until_its_end_also_without_control() {
        let (clock, told) = (Arc::new(Hand(Mutex::new(5))), Told::new(Mutex::new(Ok(None))));
        let (sender, mut levels) = tokio::sync::mpsc::channel(8);
        let (source, own_clock) = (Control(told.clone()), clock.clone());
        tokio::spawn(async move {
            follow(source, &*own_clock, |level| sender.try_send(level).unwrap()).await;
        });
        let wish = |level, until| Ok(Some(WishedLevel { level, ends_at: Timestamp(until) }));
        *told.lock() = wish(LogLevel::Debug, 10);
        assert_eq!(levels.recv().await, Some(Some(LogLevel::Debug)));
        *told.lock() = Err(Refusal::unavailable("control is away", 1));
        *clock.0.lock() = 10;
        assert_eq!(levels.recv().await, Some(None), "its end came while control was away");
        *told.lock() = wish(LogLevel::Trace, 20);
        assert_eq!(levels.recv().await, Some(Some(LogLevel::Trace)));
        *told.lock() = wish(LogLevel::Warn, 30);
        assert_eq!(levels.recv().await, Some(Some(LogLevel::Warn)));
        *told.lock() = Ok(None);
        assert_eq!(levels.recv().await, Some(None), "it was taken back");
    }

    #[test]
    fn levels_are_words_and_nothing_else() {
        assert_eq!("debug".parse(), Ok(LogLevel::Debug));
        for bad in ["", "DEBUG", "info,hyper=trace", "off", "5"] {
            let refusal = bad.parse::<LogLevel>().unwrap_err();
            assert!(refusal.message.contains("error, warn, info, debug or trace"), "{refusal}");
        }
    }
}
