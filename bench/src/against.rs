//! Two binaries of dStore in one run, for what one change costs: both serve at the same time, each with its own folder, and are
//! measured in turn, first the one, then the other, the next time the other way round. What the machine does beside it hits both
//! alike, and the median over pairs hides the rest. Compared is the CPU of the server's process per operation.

use std::path::PathBuf;
use std::rc::Rc;

use dstore::cli::bench::rest::{RestSession, Server};
use dstore::cli::bench::workload::Workload;

use crate::Options;
use crate::measure::{Phase, load, phase};
use crate::peers::Failure;
use crate::peers::dstore::Dstore;

/// What one pair came to: CPU per operation of the binary that is measured, in parts of what the other one takes.
pub struct Against {
    /// The other binary.
    pub other: PathBuf,
    /// For GET, one for each pair.
    pub get: Vec<f64>,
    /// For PUT.
    pub put: Vec<f64>,
}

struct Side {
    server: Dstore,
    tables: Rc<[Server]>,
}

impl Side {
    async fn start(options: &Options, name: &str) -> Result<Side, Failure> {
        let server = Dstore::start(options, name, &[]).await?;
        let tables = server.tables(1, 1).await?;
        load(options.records, server.sessions(&tables, options.connections).await?).await?;
        Ok(Side { server, tables })
    }

    async fn sessions(&self, options: &Options) -> Result<Vec<RestSession>, Failure> {
        self.server.sessions(&self.tables, options.connections).await
    }

    /// CPU seconds per operation.
    async fn cost(&self, options: &Options, workload: Workload) -> Result<f64, Failure> {
        let sessions = self.sessions(options).await?;
        let (measured, _) = phase(options, workload, options.records, sessions, self.server.running.pid).await?;
        cost(&measured)
    }
}

/// CPU seconds of the server for each operation of this phase.
///
/// # Errors
/// Where no time could be read.
pub fn cost(phase: &Phase) -> Result<f64, Failure> {
    let rate = phase.report.operations_per_cpu_second.filter(|rate| *rate > 0.0);
    Ok(1.0 / rate.ok_or("the server took no processor time that could be read")?)
}

/// Measures so many pairs.
///
/// # Errors
/// Where a binary does not start or an operation fails.
pub async fn measure(options: &Options, other: &std::path::Path) -> Result<Against, Failure> {
    let theirs = Options { dstore: other.to_owned(), ..options.clone() };
    let sides = [Side::start(options, "against-own").await?, Side::start(&theirs, "against-other").await?];
    let mut against = Against { other: other.to_owned(), get: Vec::new(), put: Vec::new() };
    for pair in 0..options.pairs {
        for workload in [Workload::Get, Workload::Put] {
            let mut costs = [0.0; 2];
            for turn in 0..2 {
                let side = (pair + turn) % 2;
                costs[side] = sides[side].cost(options, workload).await?;
            }
            let ratio = costs[0] / costs[1];
            eprintln!("bench: pair {pair}, {workload:?}: {ratio:.4}");
            match workload {
                Workload::Get => against.get.push(ratio),
                _ => against.put.push(ratio),
            }
        }
    }
    Ok(against)
}

/// The middle of these, and the least and the most.
pub fn spread(mut ratios: Vec<f64>) -> Option<[f64; 3]> {
    ratios.sort_by(f64::total_cmp);
    let middle = ratios.len() / 2;
    let median = match ratios.len() % 2 {
        1 => ratios[middle],
        _ => (ratios.get(middle.checked_sub(1)?)? + ratios[middle]) / 2.0,
    };
    Some([median, *ratios.first()?, *ratios.last()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), Some([2.0, 1.0, 3.0]));
        assert_eq!(spread(vec![4.0, 1.0, 2.0, 3.0]), Some([2.5, 1.0, 4.0]));
        assert_eq!(spread(Vec::new()), None);
    }
}
