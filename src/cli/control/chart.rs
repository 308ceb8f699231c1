//! A bar chart in plain text: one column or more for each value, in eighths of a line.
//!
//! Where there are more values than columns, so many neighbours as needed are added up to one, always equally many, so that no bar is
//! higher because it stands for more.

/// Blocks of one to eight eighths.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Lines of a chart.
const HEIGHT: usize = 8;
/// Columns that one value takes at most.
const WIDTH_MAX: usize = 4;

/// A chart, and how many values one bar of it stands for.
pub(super) struct Chart {
    pub(super) text: String,
    pub(super) values_per_bar: usize,
}

/// Draws values within this many columns.
pub(super) fn chart(values: &[u64], columns: usize) -> Chart {
    let most = values.iter().copied().max().unwrap_or(0);
    // The label may grow when values are added up; a few columns are left for that.
    let room = columns.saturating_sub(most.to_string().len() + 5).max(10);
    let values_per_bar = values.len().div_ceil(room).max(1);
    let bars: Vec<u64> = values.chunks(values_per_bar).map(|some| some.iter().sum()).collect();
    let highest = bars.iter().copied().max().unwrap_or(0);
    let width = (room / bars.len().max(1)).clamp(1, WIDTH_MAX);
    let eighths = |bar: u64| {
        let scaled = u128::from(bar) * (HEIGHT as u128 * 8);
        let level = scaled.div_ceil(u128::from(highest.max(1)));
        level as usize
    };
    let label_width = highest.to_string().len();
    let mut text = String::new();
    for line in (0..HEIGHT).rev() {
        let label = match line {
            0 => "0".to_owned(),
            line if line == HEIGHT - 1 => highest.to_string(),
            _ => String::new(),
        };
        let mut drawn = format!("{label:>label_width$} │");
        for bar in &bars {
            let level = eighths(*bar).saturating_sub(line * 8).min(8);
            let block = if level == 0 { ' ' } else { BLOCKS[level - 1] };
            drawn.extend(std::iter::repeat_n(block, width));
        }
        text.push_str(drawn.trim_end());
        text.push('\n');
    }
    Chart { text, values_per_bar }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bars_are_as_high_as_their_values() {
        let drawn = chart(&[0, 1, 8, 16, 64], 30);
        assert_eq!(drawn.values_per_bar, 1);
        let expected = "\
            64 │                ████\n   │                ████\n   │                ████\n   │                ████\n   │                ████\n\
            \x20  │                ████\n   │            ████████\n 0 │    ▁▁▁▁████████████\n";
        assert_eq!(drawn.text, expected);
        assert!(chart(&[], 30).text.starts_with("0 │\n"));
    }

    #[test]
    fn neighbours_are_added_up_where_there_are_too_many() {
        let drawn = chart(&[1; 1000], 80);
        assert_eq!(drawn.values_per_bar, 14);
        assert!(drawn.text.starts_with("14 │█"), "{}", drawn.text);
    }

    proptest! {
        #[test]
        fn it_keeps_within_its_columns(values in proptest::collection::vec(0u64..1_000_000, 0..300), columns in 20usize..200) {
            let drawn = chart(&values, columns);
            prop_assert!(drawn.text.lines().all(|line| line.chars().count() <= columns));
            prop_assert_eq!(drawn.text.lines().count(), HEIGHT);
            let is_empty = values.iter().all(|value| *value == 0);
            prop_assert_eq!(drawn.text.contains('█'), !is_empty, "the highest one reaches the top");
        }
    }
}
