//! Which edges of the control flow an input has run, where the build counts them.
//!
//! `scripts/rustc-coverage.sh` asks LLVM for one 8-bit counter per edge. The compiled code hands the counters of
//! each object file over by calling `__sanitizer_cov_8bit_counters_init` before `main`, which we define
//! here instead of linking a sanitizer. Built without the script, nobody calls it, [`available`] is false,
//! and [`Seen::absorb`] finds nothing new.

use std::sync::Mutex;

/// The counters of every object file: address of the first, and how many. Addresses as numbers, so that the list
/// can be shared between threads; they point into static memory that lives as long as the process.
static REGIONS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Called by the instrumented code itself, once for each object file, with its counters' first and last address.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    let length = (stop as usize).saturating_sub(start as usize);
    if let Ok(mut regions) = REGIONS.lock()
        && length > 0
        && !regions.contains(&(start as usize, length))
    {
        regions.push((start as usize, length));
    }
}

/// True where the build counts edges.
pub fn available() -> bool {
    REGIONS.lock().is_ok_and(|regions| !regions.is_empty())
}

/// Everything that was ever reached, as bits: one per edge and magnitude of its count.
#[derive(Default)]
pub struct Seen {
    bits: Vec<u8>,
    /// How many distinct (edge, magnitude) pairs there are.
    pub features: usize,
}

impl Seen {
    /// Takes in what ran since the last call and clears the counters; true where something was new.
    pub fn absorb(&mut self) -> bool {
        let Ok(regions) = REGIONS.lock() else { return false };
        let mut new = false;
        let mut base = 0;
        for &(start, length) in regions.iter() {
            self.bits.resize(self.bits.len().max(base + length), 0);
            for offset in 0..length {
                // SAFETY: the region was handed over by the instrumented object file and is static memory of
                // `length` bytes; targets run on this thread only, so nobody else writes meanwhile.
                let count = unsafe { std::ptr::replace((start + offset) as *mut u8, 0) };
                if count == 0 {
                    continue;
                }
                let bit = 1 << magnitude(count);
                if self.bits[base + offset] & bit == 0 {
                    self.bits[base + offset] |= bit;
                    self.features += 1;
                    new = true;
                }
            }
            base += length;
        }
        new
    }
}

/// Counts in eight steps, as AFL and libFuzzer do: once, twice, 3, 4–7, 8–15, 16–31, 32–127, more.
fn magnitude(count: u8) -> u32 {
    match count {
        0..=3 => u32::from(count.saturating_sub(1)),
        4..=7 => 3,
        8..=15 => 4,
        16..=31 => 5,
        32..=127 => 6,
        128..=255 => 7,
    }
}
