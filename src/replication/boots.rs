//! Whether a data folder is an older copy of itself: restored from a backup or a snapshot of its disk, by mistake or in need.
//! It carries the same incarnation as the folder it was copied from, and has forgotten what it promised since.
//!
//! Each start of a node over its folder has a *boot number*: in the upper half the seconds since 1970, or one more than the
//! number before where that is greater; dice in the lower. It is written down
//! in the folder before anything else is done, then told to others: to the coordinator, and to the nodes that ranges are
//! shared with. So a number that others know and the folder does not was made by a start that the folder has
//! forgotten.
//!
//! The folder keeps the last number that the coordinator is known to have, and all that were made since. An older number that
//! somebody still knows, since it was away or was restored itself, says nothing. Compared are whole numbers and not counts: an
//! older copy that was started counts to where it had been before, and is found again at its next start
//! if it was stopped before it could be told.
//!
//! | what happened | how it is found |
//! |---|---|
//! | the folder was started after the copy was made | by the boot number, at once |
//! | it was not: a running node's disk was copied, and put back | by how far its log had come, as far as others have heard |
//!
//! A folder that was found out has given up all that it promised, and starts over: with a number greater than the one that it
//! had forgotten, and this one counts as settled. So does a folder that is made anew: what was promised before it was made is
//! another folder's. Whoever still holds an older number against it is told where it started over.
//!
//! The second of the table is [`Boots::is_behind`]: nodes tell each other how far their log is synced, and a log that ends before what it told is
//! cut. It is as exact as the last that was told, which is a moment old.
//!
//! The file `boots` in the node's folder is text: the number that is settled, and those made since, a line each, in
//! hexadecimal.

/// How many numbers are kept that no coordinator has confirmed. Beyond, the oldest is taken for settled.
const UNSETTLED_MAX: usize = 4096;

/// The boot numbers that a folder remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boots {
    /// The last one that the coordinator is known to have; 0 where there is none.
    settled: u64,
    /// Those made since, in order. The last is the present one.
    since: Vec<u64>,
}

/// Why a file is no list of boot numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is no boot number, or not greater than the one before")]
pub struct NoBoots(usize);

/// How far a node has come, as another one heard it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Heard {
    /// The boot number.
    pub boot: u64,
    /// How far its log was synced: the segment's number in the upper half, the offset in it in the lower.
    pub synced: u64,
}

fn count_of(boot: u64) -> u64 {
    boot >> 32
}

impl Boots {
    /// The numbers in a file.
    ///
    /// # Errors
    /// Where it holds something else.
    pub fn parse(text: &str) -> Result<Self, NoBoots> {
        let mut boots = Boots::default();
        let mut before = 0;
        for (at, line) in text.lines().enumerate() {
            let is_hexadecimal = line.len() == 16 && line.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let number = u64::from_str_radix(line, 16).ok().filter(|_| is_hexadecimal).ok_or(NoBoots(at + 1))?;
            match at {
                0 => boots.settled = number,
                _ if count_of(number) > count_of(before) => boots.since.push(number),
                _ => return Err(NoBoots(at + 1)),
            }
            before = number;
        }
        if text.is_empty() || boots.since.len() > UNSETTLED_MAX { Err(NoBoots(1)) } else { Ok(boots) }
    }

    /// The file's text.
    pub fn print(&self) -> String {
        std::iter::once(&self.settled).chain(&self.since).map(|number| format!("{number:016x}\n")).collect()
    }

    /// A start of the process, with these dice: its number. To be on the disk before anybody is told of it.
    pub fn begin(&mut self, now_seconds: u32, dice: u32) -> u64 {
        if self.since.len() == UNSETTLED_MAX {
            self.settled = self.since.remove(0);
        }
        let boot = next(self.last(), now_seconds, dice);
        self.since.push(boot);
        boot
    }

    /// What was promised up to now is given up, also what the start of number `forgotten` has promised: the number from here
    /// on.
    pub fn start_over(&mut self, forgotten: u64, now_seconds: u32, dice: u32) -> u64 {
        self.settled = next(self.last().max(forgotten), now_seconds, dice);
        self.since.clear();
        self.settled
    }

    /// Numbers below this are of no interest: what was promised then is in the folder, or was given up.
    pub fn floor(&self) -> u64 {
        count_of(self.settled) << 32
    }

    /// The present number; 0 where none was made yet.
    pub fn last(&self) -> u64 {
        self.since.last().copied().unwrap_or(self.settled)
    }

    /// The coordinator has the present number: those before need not be known any more.
    pub fn settle(&mut self) {
        self.settled = self.last();
        self.since.clear();
    }

    /// Whether a number that somebody knows of this node was made by a start that this folder has forgotten.
    pub fn has_forgotten(&self, known: u64) -> bool {
        let is_own = known == self.settled || self.since.contains(&known);
        !is_own && known >= self.floor()
    }

    /// Whether a log that ended here when it was opened has lost something that was told of it before this start.
    pub fn is_behind(&self, opened_at: u64, heard: &Heard) -> bool {
        heard.boot != self.last() && heard.boot >= self.floor() && opened_at < heard.synced
    }
}

fn next(last: u64, now_seconds: u32, dice: u32) -> u64 {
    (count_of(last) + 1).max(u64::from(now_seconds)) << 32 | u64::from(dice)
}

/// For the fuzzer: any text is read or refused, and what is read is written the same.
#[doc(hidden)]
pub fn fuzz_boots(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(boots) = Boots::parse(text) {
        assert_eq!(Boots::parse(&boots.print()), Ok(boots));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A start over a folder: the text that it then holds, and its number.
    fn start(text: &str, now: u32, dice: u32) -> (Boots, u64) {
        let mut boots = if text.is_empty() { Boots::default() } else { Boots::parse(text).unwrap() };
        let boot = boots.begin(now, dice);
        (boots, boot)
    }

    #[test]
    fn a_folder_knows_its_own_starts() {
        let (mut folder, first) = start("", 100, 7);
        assert_eq!(first, 100 << 32 | 7);
        assert!(!folder.has_forgotten(first));
        folder.settle();
        // The coordinator was away for some starts: it knows the first. The clock was set back meanwhile.
        let mut text = folder.print();
        for dice in [3, 2, 1] {
            let (now, _) = start(&text, 50, dice);
            assert!(!now.has_forgotten(first));
            text = now.print();
        }
        let (mut now, fifth) = start(&text, 50, 9);
        assert_eq!(fifth >> 32, 104);
        now.settle();
        assert!(!now.has_forgotten(first), "a coordinator that was restored knows an older one");
        assert!(!now.has_forgotten(fifth) && !now.has_forgotten(0));
    }

    #[test]
    fn killed_between_telling_and_noting_that_it_was_told() {
        let (folder, first) = start("", 100, 7);
        // The coordinator has the first; the folder does not know that it has.
        let (next, _) = start(&folder.print(), 101, 8);
        assert!(!next.has_forgotten(first));
    }

    #[test]
    fn an_older_copy_is_found_however_often_it_is_started() {
        let (mut folder, _) = start("", 100, 7);
        folder.settle();
        let copy = folder.print();
        let (mut folder, second) = start(&copy, 200, 8);
        folder.settle();
        let mut text = copy;
        for dice in [8, 1, 2] {
            let (restored, _) = start(&text, 300, dice + 1);
            assert!(restored.has_forgotten(second));
            text = restored.print();
        }
        // Until it has given up what it promised.
        let mut restored = Boots::parse(&text).unwrap();
        let over = restored.start_over(second, 400, 5);
        assert!(!restored.has_forgotten(second) && over > second);
        assert_eq!(Boots::parse(&restored.print()), Ok(restored.clone()));
        assert!(restored.has_forgotten(over + 1), "and from there on it is as before");
    }

    #[test]
    fn a_folder_without_its_list_has_forgotten_everything_and_a_new_one_nothing() {
        let (_, boot) = start("", 100, 7);
        assert!(start("", 200, 8).0.has_forgotten(boot));
        let mut fresh = Boots::default();
        fresh.start_over(0, 200, 8);
        assert!(!fresh.has_forgotten(boot));
    }

    #[test]
    fn a_log_that_ends_before_what_it_told_is_cut() {
        let at = |segment: u64, offset: u64| segment << 32 | offset;
        let (mut boots, before) = start("", 100, 1);
        boots.settle();
        let mut boots = start(&boots.print(), 200, 2).0;
        let heard = Heard { boot: before, synced: at(3, 100) };
        assert!(boots.is_behind(at(3, 99), &heard) && boots.is_behind(at(2, 900), &heard));
        assert!(!boots.is_behind(at(3, 100), &heard) && !boots.is_behind(at(4, 0), &heard));
        assert!(!boots.is_behind(at(1, 0), &Heard { boot: boots.last(), ..heard }), "it was told in this start");
        boots.start_over(before, 300, 3);
        assert!(!boots.is_behind(at(1, 0), &heard), "that was given up");
    }

    #[test]
    fn the_list_is_bounded() {
        let mut boots = Boots::default();
        let all: Vec<u64> = (0..UNSETTLED_MAX as u32 + 10).map(|dice| boots.begin(0, dice)).collect();
        assert_eq!(Boots::parse(&boots.print()), Ok(boots.clone()));
        assert!(all.iter().all(|boot| !boots.has_forgotten(*boot)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-f\n]{0,120}") {
            fuzz_boots(text.as_bytes());
        }

        /// Starts, some of which reach the coordinator, and a copy that is put back later: found if and only if a start that the
        /// copy does not know had reached it.
        #[test]
        fn a_copy_is_found_when_something_reached_the_coordinator_since(
            before in proptest::collection::vec(any::<bool>(), 0..6),
            after in proptest::collection::vec(any::<bool>(), 0..6),
            dice: u32,
        ) {
            let mut boots = Boots::default();
            let mut coordinator = None;
            let mut number = dice;
            let mut run = |boots: &mut Boots, reaches: bool| {
                number = number.wrapping_add(1);
                let boot = boots.begin(7, number);
                if reaches {
                    assert!(coordinator.is_none_or(|known| !boots.has_forgotten(known)));
                    boots.settle();
                    coordinator = Some(boot);
                }
                coordinator
            };
            for reaches in before {
                run(&mut boots, reaches);
            }
            let copy = boots.clone();
            let mut known = None;
            for reaches in &after {
                known = run(&mut boots, *reaches);
            }
            let mut restored = copy;
            restored.begin(7, number_for(dice));
            let is_found = known.is_some_and(|known| restored.has_forgotten(known));
            prop_assert_eq!(is_found, after.contains(&true));
        }
    }

    /// Dice that no other start has.
    fn number_for(dice: u32) -> u32 {
        dice.wrapping_sub(1)
    }
}
