//! Writes the example file from the schema: every setting with its sentence and its default, commented out.

use super::schema::{Kind, SECTIONS, SETTINGS, Setting};
use std::fmt::Write;

const HEAD: &str = "\
# Settings of dStore. Every value here is the default; remove the # to change one.
#
# The same setting as a variable: DSTORE__SECTION__NAME, as in DSTORE__CLIENT__LISTEN=0.0.0.0:8080.
# Defaults < this file (--config PATH) < environment < flags. Unknown names are errors.
# See what a role would use and why:   dstore config show --origin node --config PATH
# Made by:                             dstore config example
";

/// The text of `docs/dstore.example.toml`.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    for section in SECTIONS {
        let readers: Vec<&str> = section.roles.iter().map(|role| role.as_str()).collect();
        // A `String` takes any text, so these cannot fail.
        let _ = write!(text, "\n# {} Read by: {}.\n[{}]\n", section.about, readers.join(", "), section.name);
        for setting in SETTINGS.iter().filter(|setting| setting.section() == section.name) {
            if setting.kind == Kind::Secret {
                let _ = writeln!(text, "# {} Never here, only as the variable {}.", setting.about, setting.variable());
            } else {
                let _ = writeln!(text, "# {}\n#{} = {}", setting.about, setting.name(), literal(setting));
            }
        }
    }
    text
}

/// The default as TOML.
fn literal(setting: &Setting) -> String {
    let default = setting.default.unwrap_or_default();
    match setting.kind {
        Kind::Count(..) | Kind::Part | Kind::Switch => default.to_owned(),
        Kind::Urls => format!("[{default:?}]"),
        _ => format!("{default:?}"),
    }
}
