//! AWS's limits of expressions (developer guide, "Constraints": 4 KB of text, 300 operators, 32 elements of a path, 255 bytes of
//! a placeholder, 2 MB of all that stands for placeholders), each for every role that can meet it: what comes to the limit is
//! read, and one more is refused. The numbers stand here once more, so that nobody moves a limit by moving its constant.
//!
//! What is within a limit may still be none of its role: a key condition has no nested paths. It must be refused for that then,
//! and not for the limit.

use super::*;
use crate::domain::document::Builder;

const ROLES: [Role; 5] = [Role::Condition, Role::Filter, Role::KeyCondition, Role::Update, Role::Projection];
/// Those that are conditions, and have values.
const CONDITIONS: [Role; 3] = [Role::Condition, Role::Filter, Role::KeyCondition];

/// An expression, and what its request gives for placeholders: names, and values that are strings.
#[derive(Default)]
struct Tried {
    text: String,
    names: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
}

impl Tried {
    fn new(text: String) -> Tried {
        Tried { text, ..Tried::default() }
    }

    /// An expression of this role about this path; it has the value `:v` where such expressions have values.
    fn about(role: Role, path: &str) -> Tried {
        match role {
            Role::Condition | Role::Filter | Role::KeyCondition => Tried::new(format!("{path} = :v")).value(":v", "x"),
            Role::Update => Tried::new(format!("SET {path} = :v")).value(":v", "x"),
            Role::Projection => Tried::new(path.to_owned()),
        }
    }

    fn name(mut self, placeholder: &str, name: &str) -> Tried {
        self.names.insert(placeholder.to_owned(), name.to_owned());
        self
    }

    fn value(mut self, placeholder: &str, value: &str) -> Tried {
        self.values.insert(placeholder.to_owned(), value.to_owned());
        self
    }

    /// Reads all of it, as a request does.
    fn read(&self, role: Role) -> Result<(), ExpressionError> {
        let mut values = Builder::new();
        for (placeholder, value) in &self.values {
            values.name(value_placeholder(placeholder)?).unwrap();
            values.string(value).unwrap();
        }
        let values = (!self.values.is_empty()).then(|| values.finish().unwrap());
        let names = Some(&self.names).filter(|names| !names.is_empty());
        let mut substitutions = Substitutions::new(names, values)?;
        let text = &self.text;
        match role {
            Role::Condition | Role::Filter => {
                super::super::condition::parse(role, text, &mut substitutions)?;
            }
            Role::KeyCondition => {
                super::super::key_condition::parse(text, &mut substitutions)?;
            }
            Role::Update => {
                super::super::update::parse(text, &mut substitutions)?;
            }
            Role::Projection => {
                super::super::projection::parse(text, &mut substitutions)?;
            }
        }
        substitutions.finish()
    }
}

/// Checks what comes of so many of what `make` counts, and of one more.
fn bound(role: Role, most: usize, make: impl Fn(usize) -> Tried, within: Result<(), &str>, beyond: &str) {
    let outcome = |count| make(count).read(role).map_err(|error| error.message);
    assert_eq!(outcome(most), within.map_err(str::to_owned), "{role} with {most}");
    assert_eq!(outcome(most + 1), Err(beyond.to_owned()), "{role} with {most} and one more");
}

/// What is told of this role.
fn invalid(role: Role, what: &str) -> String {
    format!("Invalid {role}: {what}")
}

/// What an expression of this role that is within a limit comes to, where a key condition is refused for this.
fn but_no_key_condition(role: Role, why: &'static str) -> Result<(), &'static str> {
    if role == Role::KeyCondition { Err(why) } else { Ok(()) }
}

#[test]
fn a_text_has_4096_bytes() {
    for role in ROLES {
        let padded = |bytes: usize| {
            let about = Tried::about(role, "a");
            let text = format!("{:<bytes$}", about.text);
            Tried { text, ..about }
        };
        let beyond = "Expression size has exceeded the maximum allowed size; expression size: 4097";
        bound(role, 4096, padded, Ok(()), &invalid(role, beyond));
    }
}

/// A condition with so many operators: terms that have so many each, the ANDs between them, and NOTs for what is left.
fn condition_with(count: usize, one: &str, operators_of_one: usize) -> String {
    let each = operators_of_one + 1;
    let terms = (count + 1) / each;
    let nots = count + 1 - each * terms;
    let terms: Vec<String> = (0..terms).map(|place| one.replace('#', &place.to_string())).collect();
    "NOT ".repeat(nots) + &terms.join(" AND ")
}

#[test]
fn an_expression_has_300_operators() {
    let beyond = |role| invalid(role, "The expression contains too many operators; operator count: 301");
    for role in CONDITIONS {
        let within = but_no_key_condition(role, "Invalid operator used in KeyConditionExpression: NOT");
        let comparisons = |count| Tried::new(condition_with(count, "a#=:v", 1)).value(":v", "x");
        bound(role, 300, comparisons, within, &beyond(role));
        let functions = |count| Tried::new(condition_with(count, "attribute_exists(a)", 1));
        bound(role, 300, functions, within, &beyond(role));
        let compared_functions = |count| Tried::new(condition_with(count, "size(a)=:v", 2)).value(":v", "x");
        bound(role, 300, compared_functions, within, &beyond(role));
    }
    // A key condition that is one, with as many operators as such can have: their number is odd.
    let keys = Tried::new(condition_with(299, "a#=:v", 1)).value(":v", "x");
    assert_eq!(keys.read(Role::KeyCondition), Ok(()));
    for sign in ["+", "-"] {
        let sums = |count: usize| {
            let sets: Vec<String> = (0..count).map(|place| format!("a{place}=b{sign}c")).collect();
            Tried::new(format!("SET {}", sets.join(",")))
        };
        bound(Role::Update, 300, sums, Ok(()), &beyond(Role::Update));
    }
}

#[test]
fn a_path_has_32_elements() {
    let nested = "KeyConditionExpressions cannot have conditions on nested attributes";
    for role in ROLES {
        let beyond = invalid(role, "The document path has too many nesting levels; nesting levels: 33");
        for step in [".b", "[0]", ".b[7]"] {
            let elements_of_step = step.matches(['.', '[']).count();
            let path = |elements: usize| {
                let steps = elements - 1;
                let (whole, rest) = (steps / elements_of_step, steps % elements_of_step);
                Tried::about(role, &format!("a{}{}", step.repeat(whole), ".c".repeat(rest)))
            };
            bound(role, 32, path, but_no_key_condition(role, nested), &beyond);
        }
        let named = |elements: usize| {
            Tried::about(role, &format!("#p{}", ".#p".repeat(elements - 1))).name("#p", "with a dot . and [0]")
        };
        bound(role, 32, named, but_no_key_condition(role, nested), &beyond);
    }
    let read = |elements: usize| Tried::new(format!("SET a = b{}", ".c".repeat(elements - 1)));
    let beyond = invalid(Role::Update, "The document path has too many nesting levels; nesting levels: 33");
    bound(Role::Update, 32, read, Ok(()), &beyond);
}

#[test]
fn the_last_place_of_a_list_is_that_of_an_integer() {
    for role in ROLES {
        let element = |place: usize| Tried::about(role, &format!("a[{place}]"));
        let within = but_no_key_condition(role, "KeyConditionExpressions cannot have conditions on nested attributes");
        let beyond = invalid(role, "List index is not within the allowable range; index: [2147483648]");
        bound(role, 2_147_483_647, element, within, &beyond);
    }
}

/// The function so many times, each in the other.
fn in_each_other(begin: &str, times: usize) -> String {
    format!("{}c{}", begin.repeat(times), ")".repeat(times))
}

#[test]
fn functions_stand_in_functions_64_levels_deep() {
    for role in CONDITIONS {
        let sizes = |levels| Tried::new(format!("{} = :v", in_each_other("size(", levels))).value(":v", "x");
        let what = "Incorrect operand type for operator or function; operator or function: size, operand type: N";
        let beyond = "The function is not allowed to be used this way in an expression; function: size";
        bound(role, 64, sizes, Err(invalid(role, what).as_str()), &invalid(role, beyond));
    }
    let beyond = invalid(Role::Update, "The expression contains too many operators; operator count: 301");
    for begin in ["if_not_exists(b,", "list_append(b,"] {
        let set = |levels| Tried::new(format!("SET a = {}", in_each_other(begin, levels)));
        bound(Role::Update, 64, set, Ok(()), &beyond);
    }
}

#[test]
fn in_has_100_operands() {
    for role in CONDITIONS {
        let list = |count| Tried::new(format!("a IN ({})", vec![":v"; count].join(","))).value(":v", "x");
        let within = but_no_key_condition(role, "Invalid operator used in KeyConditionExpression: IN");
        let beyond = "The IN operator is provided with too many operands; number of operands: 101";
        bound(role, 100, list, within, &invalid(role, beyond));
    }
}

#[test]
fn a_placeholder_has_255_bytes() {
    let beyond = |parameter: &str| {
        let what = "The expression attribute map contains a key that is too long; size of key: 256";
        format!("{parameter} contains invalid key: {what}")
    };
    for role in ROLES {
        let named = |bytes: usize| {
            let placeholder = format!("#{}", "p".repeat(bytes - 1));
            Tried::about(role, &placeholder).name(&placeholder, "a")
        };
        bound(role, 255, named, Ok(()), &beyond("ExpressionAttributeNames"));
    }
    for role in [Role::Condition, Role::Filter, Role::KeyCondition, Role::Update] {
        let valued = |bytes: usize| {
            let placeholder = format!(":{}", "p".repeat(bytes - 1));
            let text = Tried::about(role, "a").text.replace(":v", &placeholder);
            Tried::new(text).value(&placeholder, "x")
        };
        bound(role, 255, valued, Ok(()), &beyond("ExpressionAttributeValues"));
    }
}

const MEGABYTES_2: usize = 2 * 1024 * 1024;

#[test]
fn values_have_2_megabytes_together() {
    for role in [Role::Condition, Role::Filter, Role::KeyCondition, Role::Update] {
        // A placeholder counts without its colon.
        let one = |bytes: usize| Tried::about(role, "a").value(":v", &"x".repeat(bytes - 1));
        bound(role, MEGABYTES_2, one, Ok(()), "ExpressionAttributeValues exceeds max size");
        let two = |bytes: usize| {
            let text = match role {
                Role::Update => "SET a = :v, b = :w",
                _ => "a = :v AND b = :w",
            };
            let half = bytes / 2;
            Tried::new(text.to_owned()).value(":v", &"x".repeat(half - 1)).value(":w", &"y".repeat(bytes - half - 1))
        };
        bound(role, MEGABYTES_2, two, Ok(()), "ExpressionAttributeValues exceeds max size");
    }
}

#[test]
fn names_have_2_megabytes_together() {
    const COUNT: usize = 40;
    // Each name is one that attributes can have, so many are needed.
    let placeholders: Vec<String> = (0..COUNT).map(|place| format!("#n{place:02}")).collect();
    for role in ROLES {
        let named = |bytes: usize| {
            let text = match role {
                Role::Condition | Role::Filter | Role::KeyCondition => placeholders.join(" = :v AND ") + " = :v",
                Role::Update => format!("SET {} = :v", placeholders.join(" = :v, ")),
                Role::Projection => placeholders.join(","),
            };
            let values = Tried::about(role, "a").values;
            let mut tried = Tried { values, ..Tried::new(text) };
            for (place, placeholder) in placeholders.iter().enumerate() {
                let more = if place == 0 { bytes % COUNT } else { 0 };
                let length = bytes / COUNT + more - placeholder.len();
                tried = tried.name(placeholder, &format!("{place:0>length$}"));
            }
            tried
        };
        bound(role, MEGABYTES_2, named, Ok(()), "ExpressionAttributeNames exceeds max size");
    }
}
