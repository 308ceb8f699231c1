//! Makes a new input out of stored ones, by the changes that have found most bugs in parsers elsewhere: flipped
//! bits, bytes at the edges of their ranges, pieces cut, repeated, moved or taken from another input, numbers
//! nudged, and lengths overwritten with huge ones. Deterministic: one seed gives one sequence.

/// A small generator of numbers (SplitMix64, Steele et al. 2014): good enough to choose changes, not secrets.
pub struct Dice(u64);

impl Dice {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }
}

/// Inputs do not grow beyond this many bytes.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;

const EDGES: [u8; 16] =
    [0x00, 0x01, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'}', b'[', b']', b'%', b'/', b'.', b'-', b'9'];

/// Changes one of `inputs` into something new.
pub fn mutate(inputs: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = inputs.get(dice.below(inputs.len())).cloned().unwrap_or_default();
    // Mostly few changes, sometimes many.
    let changes = 1 << dice.below(5);
    for _ in 0..changes {
        change(&mut input, inputs, dice);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(input: &mut Vec<u8>, inputs: &[Vec<u8>], dice: &mut Dice) {
    let place = dice.below(input.len());
    match dice.below(11) {
        0 if !input.is_empty() => input[place] ^= 1 << dice.below(8),
        1 if !input.is_empty() => input[place] = EDGES[dice.below(EDGES.len())],
        2 if !input.is_empty() => input[place] = input[place].wrapping_add(dice.below(35) as u8).wrapping_sub(17),
        3 => input.insert(place, EDGES[dice.below(EDGES.len())]),
        4 => input.insert(place, dice.next() as u8),
        5 if !input.is_empty() => {
            let end = place + dice.below(input.len() - place + 1).min(64);
            input.drain(place..end);
        }
        6 if !input.is_empty() => repeat_piece(input, place, dice),
        7 => splice(input, place, inputs, dice),
        8 if input.len() >= 4 => overwrite_number(input, dice),
        9 => input.truncate(place),
        10 if !input.is_empty() => {
            let other = dice.below(input.len());
            input.swap(place, other);
        }
        _ => input.push(dice.next() as u8),
    }
}

fn repeat_piece(input: &mut Vec<u8>, place: usize, dice: &mut Dice) {
    let piece = input[place..(place + 1 + dice.below(32)).min(input.len())].to_vec();
    // Now and then very often: deep nesting and long runs hide behind counts.
    let times = if dice.below(8) == 0 { 1 << dice.below(12) } else { 1 + dice.below(3) };
    let times = times.min(INPUT_BYTES_MAX.saturating_sub(input.len()) / piece.len());
    input.splice(place..place, piece.repeat(times));
}

fn splice(input: &mut Vec<u8>, place: usize, inputs: &[Vec<u8>], dice: &mut Dice) {
    let Some(other) = inputs.get(dice.below(inputs.len())) else { return };
    let from = dice.below(other.len());
    let until = from + dice.below(other.len() - from + 1);
    input.splice(place..place, other[from..until].iter().copied());
}

fn overwrite_number(input: &mut [u8], dice: &mut Dice) {
    const NUMBERS: [u64; 8] =
        [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, u64::MAX, 0x7fff_ffff_ffff_ffff, 0x0010_0000];
    let number = NUMBERS[dice.below(NUMBERS.len())];
    let width = [2, 4, 8][dice.below(3)].min(input.len());
    let place = dice.below(input.len() - width + 1);
    let big_endian = number.to_be_bytes();
    let little_endian = number.to_le_bytes();
    let bytes = if dice.below(2) == 0 { &big_endian[8 - width..] } else { &little_endian[..width] };
    input[place..place + width].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_inputs_within_bounds() {
        let seeds = vec![b"{\"a\":[1,2]}".to_vec(), vec![0xff; 600], Vec::new()];
        let (mut first, mut second) = (Dice::new(7), Dice::new(7));
        let mut distinct = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            let input = mutate(&seeds, &mut first);
            assert_eq!(input, mutate(&seeds, &mut second));
            assert!(input.len() <= INPUT_BYTES_MAX);
            distinct.insert(input);
        }
        assert!(distinct.len() > 1500, "only {} distinct inputs", distinct.len());
    }
}
