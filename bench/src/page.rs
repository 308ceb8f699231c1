//! docs/benchmarks.md as it is kept: what a run measured replaces what stood there of the same parts, and everything
//! else stays as it is, the text that people write about the numbers above all.
//!
//! ```text
//! <!-- measured: replication -->
//! …written by the program…
//! <!-- end -->
//! ```
//!
//! A part that is not there yet comes before the first heading of the text that people write, or at the end. So a part can
//! be measured again alone, on a quiet machine, and a run that measures little drops nothing.

/// The page with these parts in the place of those that it had of the same name.
pub fn merged(page: &str, parts: &[(&str, String)]) -> String {
    let mut page = page.to_owned();
    for (name, text) in parts {
        let (begin, end) = (format!("<!-- measured: {name} -->\n"), "<!-- end -->\n");
        let block = format!("{begin}{}\n{end}", text.trim_end());
        let found = page.find(&begin).and_then(|from| Some((from, from + page[from..].find(end)? + end.len())));
        match found {
            Some((from, to)) => page.replace_range(from..to, &block),
            None => {
                let at = page.find("\n## How to read this").map_or(page.len(), |at| at + 1);
                page.insert_str(at, &format!("{block}\n"));
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Benchmarks\n\nIntroduction.\n\n<!-- measured: a -->\nold a\n<!-- end -->\n\n## How to read this\n\n* As it is.\n";

    #[test]
    fn what_was_not_measured_stays() {
        assert_eq!(merged(PAGE, &[]), PAGE);
        let page = merged(PAGE, &[("a", "new a\n".to_owned())]);
        assert_eq!(page, PAGE.replace("old a", "new a"));
        assert_eq!(merged(&page, &[("a", "old a\n".to_owned())]), PAGE, "as often as one likes");
    }

    #[test]
    fn a_new_part_comes_before_what_people_wrote() {
        let page = merged(PAGE, &[("b", "b".to_owned())]);
        let wanted = "<!-- end -->\n\n<!-- measured: b -->\nb\n<!-- end -->\n\n## How to read this\n";
        assert!(page.contains(wanted), "{page}");
        assert!(page.ends_with("* As it is.\n"));
        assert_eq!(merged("x\n", &[("b", "b".to_owned())]), "x\n<!-- measured: b -->\nb\n<!-- end -->\n\n");
    }
}
