//! Expressions: the little language in which clients of the DynamoDB protocol say when a write may happen, what it
//! changes, which items of a page they want and which attributes of them.
//!
//! Text is read in two steps, so that the first can be cached: a **template** is the text's structure with its
//! placeholders (`#name`, `:value`) unresolved; **binding** it to the [`Substitutions`] of one request gives an owned
//! tree ([`Condition`], [`Update`], [`Projection`], [`KeyCondition`]), without placeholders. Trees can be built without
//! text as well, which is what the older parameters of the protocol do. They travel in log entries ([`encoding`]) and
//! are evaluated where the item lies.
//!
//! | step | file |
//! |---|---|
//! | text to tokens | `lexer` |
//! | tokens to a template | `template`, `condition_syntax`, `update_syntax`, `projection`, `reserved` |
//! | template and substitutions to a tree, with all checks | `binding`, `condition_binding`, `update_binding`, `key_condition` |
//! | tree and item to an answer | [`evaluate`], `apply`, `select`, `arithmetic` |
//! | tree to bytes and back | [`encoding`], `measure` |
//!
//! Texts of errors and the order in which they are found are part of the protocol: clients match on them.
//!
//! What the next author must keep: nothing here recurses deeper than [`limits::CONDITION_LEVELS_MAX`], whatever the
//! text or the bytes say (where conditions nest, plain loops keep the frames small), and no value of an item is ever in
//! a `Debug`.

pub mod limits;

mod apply;
mod arithmetic;
mod binding;
mod condition_binding;
mod condition_syntax;
mod error;
mod fuzz;
mod lexer;
mod measure;
mod path;
mod reserved;
mod role;
mod select;
mod substitutions;
mod template;
mod update_binding;
mod update_syntax;
mod value;

pub mod condition;
pub mod encoding;
pub mod evaluate;
pub mod key_condition;
pub mod projection;
pub mod update;

pub use condition::{Comparison, Condition, ConditionTemplate, Operand};
pub use error::{EvaluationError, ExpressionError};
pub use evaluate::ItemView;
pub use fuzz::{fuzz_expression, fuzz_expression_bytes};
pub use key_condition::{KeyCondition, KeyConditionTemplate, KeyRange};
pub use path::{Path, Step};
pub use projection::{Projection, ProjectionTemplate, changed_only};
pub use role::Role;
pub use substitutions::{Substitutions, value_placeholder};
pub use update::{SetOperand, SetValue, Update, UpdateTemplate, Updated};
pub use value::{AttributeType, Value};

#[cfg(test)]
mod tests;
