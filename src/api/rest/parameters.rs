//! The parameters of paths and query strings: their names, and what they mean in the documents.

/// What a segment in braces stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// A tenant's name.
    Tenant,
    /// A table's name.
    Table,
    /// An item's ID.
    Id,
    /// An item's sort key.
    Sort,
    /// A receipt's UUID.
    Receipt,
}

/// How many kinds of parameters there are.
const KINDS: usize = 5;

impl Parameter {
    /// Its name in templates.
    pub const fn name(self) -> &'static str {
        match self {
            Parameter::Tenant => "tenant",
            Parameter::Table => "table",
            Parameter::Id => "id",
            Parameter::Sort => "sort",
            Parameter::Receipt => "receipt",
        }
    }

    /// What it is, for the documents.
    pub const fn description(self) -> &'static str {
        match self {
            Parameter::Tenant => "The tenant's name: 1 to 63 of a-z, 0-9 and '-'.",
            Parameter::Table => "The table's name: 3 to 255 of A-Z, a-z, 0-9, '_', '.' and '-'.",
            Parameter::Id => {
                "The item's ID, percent-encoded as one segment. Integers are decimal, Bytes base64url without padding."
            }
            Parameter::Sort => "The item's sort key, spelled like an ID.",
            Parameter::Receipt => "The UUID of the receipt.",
        }
    }
}

/// What stood in a path for its parameters, not yet decoded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a>([Option<&'a str>; KINDS]);

impl<'a> Given<'a> {
    /// What stood there for `parameter`, where the pattern has it.
    pub fn get(&self, parameter: Parameter) -> Option<&'a str> {
        self.0[parameter as usize]
    }

    /// Notes what stood there.
    pub fn set(&mut self, parameter: Parameter, segment: &'a str) {
        self.0[parameter as usize] = Some(segment);
    }
}

/// A parameter of the query string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryParameter {
    /// Its name.
    pub name: &'static str,
    /// Its type in JSON Schema.
    pub kind: &'static str,
    /// What it does.
    pub description: &'static str,
}

impl QueryParameter {
    const fn new(name: &'static str, kind: &'static str, description: &'static str) -> Self {
        Self { name, kind, description }
    }
}

/// All query parameters; an endpoint names those that it takes.
pub const QUERY_PARAMETERS: &[QueryParameter] = &[
    QueryParameter::new("limit", "integer", "Entries in this page, 1 to 1000; 100 where not given."),
    QueryParameter::new("cursor", "string", "The `cursor` of the page before, for the next one."),
    QueryParameter::new(
        "consistency",
        "string",
        "`strong` (default) sees every acknowledged write; `eventual` may lag a little.",
    ),
    QueryParameter::new("sort_prefix", "string", "Only sort keys that begin so (String and Bytes)."),
    QueryParameter::new("sort_from", "string", "Only sort keys from this one on, itself included."),
    QueryParameter::new("sort_to", "string", "Only sort keys up to this one, itself included."),
    QueryParameter::new("descending", "boolean", "`true` for the largest sort keys first."),
    QueryParameter::new("recursive", "boolean", "`true` to delete the tenant's tables with it."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::rest::routes::ROUTES;

    #[test]
    fn every_query_parameter_of_a_route_is_described() {
        for endpoint in ROUTES.iter().flat_map(|route| route.endpoints) {
            for name in endpoint.query {
                assert!(QUERY_PARAMETERS.iter().any(|known| known.name == *name), "{name}");
            }
        }
    }
}
