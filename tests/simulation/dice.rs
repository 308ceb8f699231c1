//! Dice that follow from a seed: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators). Each part of
//! a simulation has its own, forked from the seed's, so that one more throw in one part does not change all others.

use dstore::domain::Random;
use parking_lot::Mutex;

/// See the module's essay.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice of this seed.
    pub fn new(seed: u64) -> Dice {
        let mut dice = Dice(seed ^ 0x5851_f42d_4c95_7f2d);
        dice.number();
        dice
    }

    /// Sixty-four random bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.number() % (high - low + 1)
    }

    /// A place in something of this length.
    pub fn place(&mut self, length: usize) -> usize {
        (self.number() % length as u64) as usize
    }

    /// Yes in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.number() % 100 < percent
    }

    /// One of these.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.place(from.len())]
    }

    /// Dice of their own.
    pub fn fork(&mut self) -> Dice {
        Dice::new(self.number())
    }
}

/// Dice as the product asks for them.
pub struct SharedDice(pub Mutex<Dice>);

impl Random for SharedDice {
    fn fill(&self, buffer: &mut [u8]) {
        let mut dice = self.0.lock();
        for part in buffer.chunks_mut(8) {
            let number = dice.number().to_le_bytes();
            part.copy_from_slice(&number[..part.len()]);
        }
    }
}
