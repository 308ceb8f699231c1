//! Text to tokens, and the cursor with which the parsers walk over them.
//!
//! A character that starts no token is a token too: nothing expects it, so the parser stops there and its error names
//! the place, as for every other token that does not fit: the token, and around it the text from the token before to
//! the one behind.

use super::error::ExpressionError;
use super::limits::{EXPRESSION_BYTES_MAX, LIST_INDEX_MAX, OPERATORS_MAX, PATH_ELEMENTS_MAX};
use super::reserved::is_reserved;
use super::role::Role;
use super::template::{Name, PathTemplate, StepTemplate};

/// What a token is. Keywords are words: where they are keywords depends on the expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A name, a function or a keyword.
    Word,
    /// `#name`
    NamePlaceholder,
    /// `:value`
    ValuePlaceholder,
    /// Decimal digits.
    Number,
    /// `=`, `<>`, `(` and so on.
    Mark,
    /// Anything else.
    Unknown,
    /// Behind the last token.
    End,
}

/// A token: its kind and where it stands.
#[derive(Debug, Clone, Copy)]
struct Token {
    kind: TokenKind,
    start: u32,
    end: u32,
}

/// The tokens of a text, with one of kind `End` behind the last.
fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            at += 1;
            continue;
        }
        let rest = &bytes[at..];
        let run = |from: usize, matches: fn(&u8) -> bool| {
            from + rest[from..].iter().position(|byte| !matches(byte)).unwrap_or(rest.len() - from)
        };
        let (kind, length) = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => (TokenKind::Word, run(1, is_word)),
            b'0'..=b'9' => (TokenKind::Number, run(1, u8::is_ascii_digit)),
            b'#' if rest.get(1).is_some_and(is_word) => (TokenKind::NamePlaceholder, run(1, is_word)),
            b':' if rest.get(1).is_some_and(is_word) => (TokenKind::ValuePlaceholder, run(1, is_word)),
            b'<' if matches!(rest.get(1), Some(b'>' | b'=')) => (TokenKind::Mark, 2),
            b'>' if rest.get(1) == Some(&b'=') => (TokenKind::Mark, 2),
            b'=' | b'<' | b'>' | b'(' | b')' | b'[' | b']' | b',' | b'.' | b'+' | b'-' => (TokenKind::Mark, 1),
            _ => (TokenKind::Unknown, text[at..].chars().next().map_or(1, char::len_utf8)),
        };
        tokens.push(Token { kind, start: at as u32, end: (at + length) as u32 });
        at += length;
    }
    tokens.push(Token { kind: TokenKind::End, start: at as u32, end: at as u32 });
    tokens
}

/// What may stand in a name behind its first character, and in a placeholder.
pub(super) fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

/// Walks over the tokens of one expression.
pub(super) struct Cursor<'t> {
    role: Role,
    text: &'t str,
    tokens: Vec<Token>,
    at: usize,
    operators: usize,
    /// The first reserved word that stands as a name.
    reserved: Option<&'t str>,
}

impl<'t> Cursor<'t> {
    /// Starts at the first token.
    ///
    /// # Errors
    /// Where the text is empty or too long.
    pub(super) fn new(role: Role, text: &'t str) -> Result<Cursor<'t>, ExpressionError> {
        if text.bytes().all(|byte| byte.is_ascii_whitespace()) {
            return Err(ExpressionError::invalid(role, "The expression can not be empty;"));
        }
        if text.len() > EXPRESSION_BYTES_MAX {
            let what = "Expression size has exceeded the maximum allowed size; expression size: ";
            return Err(ExpressionError::invalid(role, format_args!("{what}{}", text.len())));
        }
        Ok(Cursor { role, text, tokens: tokens(text), at: 0, operators: 0, reserved: None })
    }

    /// An error of this expression.
    pub(super) fn error(&self, what: impl std::fmt::Display) -> ExpressionError {
        ExpressionError::invalid(self.role, what)
    }

    /// The kind of the token `ahead` of this one.
    pub(super) fn kind(&self, ahead: usize) -> TokenKind {
        self.tokens.get(self.at + ahead).map_or(TokenKind::End, |token| token.kind)
    }

    /// The text of the token `ahead` of this one.
    pub(super) fn token(&self, ahead: usize) -> &'t str {
        self.tokens.get(self.at + ahead).map_or("", |token| &self.text[token.start as usize..token.end as usize])
    }

    /// Goes on.
    pub(super) fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    /// Whether the token `ahead` is this mark.
    pub(super) fn is_mark(&self, ahead: usize, mark: &str) -> bool {
        self.kind(ahead) == TokenKind::Mark && self.token(ahead) == mark
    }

    /// Goes over this mark, if it is there.
    pub(super) fn take_mark(&mut self, mark: &str) -> bool {
        let taken = self.is_mark(0, mark);
        if taken {
            self.advance();
        }
        taken
    }

    /// Goes over this mark.
    ///
    /// # Errors
    /// Where it is not there.
    pub(super) fn expect_mark(&mut self, mark: &str) -> Result<(), ExpressionError> {
        if self.take_mark(mark) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Whether this token is the keyword, in whatever case.
    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        self.kind(0) == TokenKind::Word && self.token(0).eq_ignore_ascii_case(keyword)
    }

    /// Goes over this keyword, if it is there.
    pub(super) fn take_keyword(&mut self, keyword: &str) -> bool {
        let taken = self.is_keyword(keyword);
        if taken {
            self.advance();
        }
        taken
    }

    /// Goes to the end.
    ///
    /// # Errors
    /// Where there is still something.
    pub(super) fn expect_end(&self) -> Result<(), ExpressionError> {
        if self.kind(0) == TokenKind::End { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The error of a token that does not fit.
    pub(super) fn unexpected(&self) -> ExpressionError {
        let here = self.tokens[self.at];
        let before = self.at.checked_sub(1).map_or(here, |before| self.tokens[before]);
        let (token, end) = match here.kind {
            TokenKind::End => ("<EOF>", before.end),
            _ => match self.tokens.get(self.at + 1) {
                Some(next) if next.kind != TokenKind::End => (self.token(0), next.end),
                _ => (self.token(0), here.end),
            },
        };
        let near = &self.text[before.start as usize..end as usize];
        self.error(format_args!("Syntax error; token: \"{token}\", near: \"{near}\""))
    }

    /// Counts an operator or a function.
    pub(super) fn count_operator(&mut self) {
        self.operators += 1;
    }

    /// Says whether there were too many operators. Asked once the text is read, since what is no expression is told
    /// first.
    ///
    /// # Errors
    /// Where there were.
    pub(super) fn check_operators(&self) -> Result<(), ExpressionError> {
        if self.operators <= OPERATORS_MAX {
            return Ok(());
        }
        let count = OPERATORS_MAX + 1;
        Err(self.error(format_args!("The expression contains too many operators; operator count: {count}")))
    }

    /// Says whether a reserved word stood as a name.
    ///
    /// # Errors
    /// Where one did.
    pub(super) fn check_reserved(&self) -> Result<(), ExpressionError> {
        match self.reserved {
            None => Ok(()),
            Some(word) => {
                Err(self.error(format_args!("Attribute name is a reserved keyword; reserved keyword: {word}")))
            }
        }
    }

    /// A document path.
    ///
    /// # Errors
    /// Where none stands here.
    pub(super) fn path(&mut self) -> Result<PathTemplate, ExpressionError> {
        let mut path = PathTemplate { first: self.name()?, steps: Vec::new() };
        self.more_steps(&mut path)?;
        Ok(path)
    }

    /// The steps that follow a path.
    ///
    /// # Errors
    /// Where one is not well formed.
    pub(super) fn more_steps(&mut self, path: &mut PathTemplate) -> Result<(), ExpressionError> {
        loop {
            if self.take_mark(".") {
                path.steps.push(StepTemplate::Attribute(self.name()?));
            } else if self.take_mark("[") {
                if self.kind(0) != TokenKind::Number {
                    return Err(self.unexpected());
                }
                let digits = self.token(0);
                let index = digits.parse::<u32>().ok().filter(|index| *index <= LIST_INDEX_MAX);
                path.steps.push(index.map_or_else(|| StepTemplate::Beyond(digits.into()), StepTemplate::Index));
                self.advance();
                self.expect_mark("]")?;
            } else {
                return Ok(());
            }
        }
    }

    fn name(&mut self) -> Result<Name, ExpressionError> {
        let token = self.token(0);
        let name = match self.kind(0) {
            TokenKind::NamePlaceholder => Name::Placeholder(token.into()),
            TokenKind::Word if !is_keyword_of(self.role, token) => {
                if self.reserved.is_none() && is_reserved(token) {
                    self.reserved = Some(token);
                }
                Name::Plain(token.into())
            }
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(name)
    }
}

/// Whether the word is a keyword of these expressions, so that it is no name wherever it stands.
fn is_keyword_of(role: Role, word: &str) -> bool {
    let keywords: &[&str] = match role {
        Role::Condition | Role::Filter | Role::KeyCondition => &["AND", "OR", "NOT", "IN", "BETWEEN"],
        Role::Update => &["SET", "REMOVE", "ADD", "DELETE"],
        Role::Projection => &[],
    };
    keywords.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// The text of the error of a path with too many elements.
pub(super) fn too_deep(elements: usize) -> Option<String> {
    let what = "The document path has too many nesting levels; nesting levels: ";
    (elements > PATH_ELEMENTS_MAX).then(|| format!("{what}{elements}"))
}
